"""Rate-distortion optimised quantization: the symbols that cost least in squared error plus bits."""

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.tables import BINS, Context, bins_of

MULTIPLIER = 0.1  # what a bit may cost in squared error, in squared steps

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def choose(
    wanted: Floats, context: Context, bits: Floats, centroids: NDArray[np.int8] | None, multiplier: float
) -> Ints:
    """Return a pass's symbols, int32 (channels of the pass, positions).

    Arguments:
        wanted: float32 (channels of the pass, positions), the latents in steps.
        bits: float32 (rows, BINS), of each entry of each table.
        centroids: int8 (rows, BINS), reconstruction points in 1/64 step from each symbol; None if they are all 0.
        multiplier: what a bit may cost in squared error, in squared steps.

    Only the two symbols on either side of a latent come into question: least of (error^2 + multiplier * bits).
    """
    below = np.floor(wanted)
    symbols = below.astype(np.int32)
    rows, low_bits = context.rows() * BINS, context.low_bits()
    residual = symbols - context.base()
    lower, upper = rows + bins_of(residual, low_bits), rows + bins_of(residual + 1, low_bits)
    left = wanted - below
    right = left - 1
    if centroids is not None:
        points = centroids.ravel() * np.float32(1 / 64)
        left, right = left - points[lower], right - points[upper]
    spent = bits.ravel()[lower] - bits.ravel()[upper]
    return symbols + (left * left - right * right + np.float32(multiplier) * spent > 0)
