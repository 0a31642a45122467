"""Tables of logistic distributions, which the adaptive prior ships and which smooth fitted tables.

python -m sdtrt.export.prior.tables engine/data/priors/adaptive-1.npz
"""

import argparse
import math
from pathlib import Path

import numpy as np

from sdtrt._arrays import F64Array, I8Array, U32Array
from sdtrt.engine.coding.priors.tables import LOW_BITS, MAX_BIN, NUM_BINS, NUM_SCALES, PRECISION, SUBSYMBOL_STEPS

MIN_SCALE = 0.06  # logistic scale of index 0, in symbols
INDICES_PER_OCTAVE = 3


def logistic_tables() -> U32Array:
    """Return the tables of logistic distributions, uint32 (SCALES * FRACTIONS, BINS)."""
    return np.stack(
        [
            integer_weights(logistic_row(scale_of_index(k), f / SUBSYMBOL_STEPS, 1 << int(LOW_BITS[k])))
            for k in range(NUM_SCALES)
            for f in range(SUBSYMBOL_STEPS)
        ]
    )


def scale_of_index(index: int) -> float:
    """Return the logistic scale of a scale index, in symbols."""
    return float(MIN_SCALE * 2 ** (index / INDICES_PER_OCTAVE))


def logistic_row(scale: float, fraction: float, bin_width: int) -> F64Array:
    """Return the probabilities of the bins and, last, of the escape, float64 (BINS,)."""
    edges = np.arange(-MAX_BIN, MAX_BIN + 2) * bin_width - 0.5
    cumulative = np.array([0.5 * (1 + math.tanh((edge - fraction) / scale / 2)) for edge in edges])
    return np.append(np.diff(cumulative), 1 - cumulative[-1] + cumulative[0])


def logistic_centroids() -> I8Array:
    """Return the means of logistic distributions within bins of one symbol, int8, in the shape of the tables.

    The unit is 1/64 symbol, relative to the symbol. Wide bins and the escape have 0. Far from the location the mass
    concentrates at the bin's edge.
    """
    centroids = np.zeros((NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS), np.int8)
    within = (np.arange(64) + 0.5) / 64 - 0.5
    for k in range(NUM_SCALES):
        if LOW_BITS[k]:
            break
        for f in range(SUBSYMBOL_STEPS):
            bins = np.arange(-MAX_BIN, MAX_BIN + 1)[:, None]
            far = -np.abs(bins + within - f / SUBSYMBOL_STEPS) / scale_of_index(k)
            density = np.exp(far - far.max(1, keepdims=True)) / (1 + np.exp(far)) ** 2
            centroids[k * SUBSYMBOL_STEPS + f, :-1] = np.round(64 * (density * within).sum(1) / density.sum(1))
    return centroids


def integer_weights(probabilities: F64Array) -> U32Array:
    """Return a distribution, normalised or not, as integer weights of at least 1 with the sum 2**24, uint32."""
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
