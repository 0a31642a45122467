"""The probability tables: what a (location, scale) context says about a symbol, as integers.

A symbol minus its location is split into a bin and, for wide scales, low bits that are coded as they are. A table
has `BINS` weights that sum to 2**24: one for each bin from -15 to 15, and the last for "outside", after which
the whole symbol follows in 16 bits. Row `scale * FRACTIONS + fraction` serves a location that lies `fraction`
eighths above a whole number. All of this is part of the format: `docs/format.md`, "Tables".
"""

import math

import numpy as np
from numpy.typing import NDArray

PRECISION = 24  # weights of a table sum to 2**24, as the coder wants
BINS = 32
ESCAPE = BINS - 1
REACH = 15  # bins -15 … 15
FRACTIONS = 8
SCALES = 32
LOCATION_LIMIT = 1 << 15

# Low bits by scale: 0 up to scale 2.5 symbols, then one more for each doubling.
LOW_BITS = np.array([0] * 17 + [1 + k // 3 for k in range(SCALES - 17)], np.int32)


def scale_of_index(index: int) -> float:
    """Return the logistic scale, in symbols, that scale index `index` stands for: 0.06 * 2**(index / 3)."""
    return 0.06 * 2 ** (index / 3)


def logistic_tables() -> NDArray[np.uint32]:
    """Return the tables of logistic distributions, uint32 (SCALES * FRACTIONS, BINS).

    For making priors: a finished prior carries its tables, since nothing in the format may hang on `exp`.
    """
    return np.stack(
        [
            integer_weights(_logistic_row(scale_of_index(k), f / FRACTIONS, 1 << LOW_BITS[k]))
            for k in range(SCALES)
            for f in range(FRACTIONS)
        ]
    )


def integer_weights(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return a distribution as integer weights of at least 1 that sum to 2**24, uint32."""
    total = (1 << PRECISION) - len(probabilities)
    weights = 1 + np.floor(probabilities / probabilities.sum() * total).astype(np.int64)
    weights[np.argmax(weights)] += (1 << PRECISION) - weights.sum()
    return weights.astype(np.uint32)


def _logistic_row(scale: float, fraction: float, bin_width: int) -> NDArray[np.float64]:
    edges = np.arange(-REACH, REACH + 2) * bin_width - 0.5
    cumulative = np.array([_logistic((e - fraction) / scale) for e in edges])
    inside = np.diff(cumulative)
    return np.append(inside, 1 - cumulative[-1] + cumulative[0])


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
