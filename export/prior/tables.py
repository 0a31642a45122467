"""Tables of logistic distributions: what the adaptive prior ships, and where fitted tables start from.

python -m sdtrt.export.prior.tables engine/data/priors/adaptive-1.npz
"""

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.tables import BINS, FRACTIONS, LOW_BITS, PRECISION, REACH, SCALES

SMALLEST_SCALE = 0.06  # logistic scale of index 0, in symbols
INDICES_PER_OCTAVE = 3


def logistic_tables() -> NDArray[np.uint32]:
    """Return the tables of logistic distributions, uint32 (SCALES * FRACTIONS, BINS)."""
    return np.stack(
        [
            integer_weights(logistic_row(scale_of_index(k), f / FRACTIONS, 1 << int(LOW_BITS[k])))
            for k in range(SCALES)
            for f in range(FRACTIONS)
        ]
    )


def scale_of_index(index: int) -> float:
    """Return the logistic scale, in symbols, that a scale index stands for."""
    return float(SMALLEST_SCALE * 2 ** (index / INDICES_PER_OCTAVE))


def logistic_row(scale: float, fraction: float, bin_width: int) -> NDArray[np.float64]:
    """Return the probabilities of the bins, and last of all else, float64 (BINS,)."""
    edges = np.arange(-REACH, REACH + 2) * bin_width - 0.5
    cumulative = np.array([0.5 * (1 + math.tanh((edge - fraction) / scale / 2)) for edge in edges])
    return np.append(np.diff(cumulative), 1 - cumulative[-1] + cumulative[0])


def logistic_centroids() -> NDArray[np.int8]:
    """Return the means of logistic distributions within each bin of one symbol, int8 like the tables.

    In 1/64 symbol from the symbol itself; 0 for wide bins and outside. A distribution that is far off counts as one
    that is narrow: its mass lies at the bin's edge.
    """
    centroids = np.zeros((SCALES * FRACTIONS, BINS), np.int8)
    within = (np.arange(64) + 0.5) / 64 - 0.5
    for k in range(SCALES):
        if LOW_BITS[k]:
            break
        for f in range(FRACTIONS):
            bins = np.arange(-REACH, REACH + 1)[:, None]
            far = -np.abs(bins + within - f / FRACTIONS) / scale_of_index(k)
            density = np.exp(far - far.max(1, keepdims=True)) / (1 + np.exp(far)) ** 2
            centroids[k * FRACTIONS + f, :-1] = np.round(64 * (density * within).sum(1) / density.sum(1))
    return centroids


def integer_weights(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return a distribution, in any unit, as integer weights of at least 1 that sum to 2**24, uint32."""
    total = (1 << PRECISION) - len(probabilities)
    weights = 1 + np.floor(probabilities / probabilities.sum() * total).astype(np.int64)
    weights[np.argmax(weights)] += (1 << PRECISION) - weights.sum()
    return weights.astype(np.uint32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of the adaptive prior.")
    parser.add_argument("out", type=Path)
    np.savez_compressed(parser.parse_args().out, tables=logistic_tables())


if __name__ == "__main__":
    main()
