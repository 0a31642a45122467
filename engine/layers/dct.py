"""Blocks of coefficients to residuals and back: a discrete cosine transform over orthogonal axes of colour.

Back, from values to residuals, is in integers: normative, `docs/format.md`, section 3.7, and the same on every device
(`kernels.reference.add_residual`). There is in floats: what an encoder chooses may differ, what a file means may not.
"""

import numpy as np

from sdtrt._arrays import F32Array, I16Array
from sdtrt.kernels.reference import BLOCK, COLOURS, COSINES

_COSINES = (COSINES / np.linalg.norm(COSINES, axis=1, keepdims=True)).astype(np.float32)
_COLOURS = (COLOURS / np.linalg.norm(COLOURS, axis=1, keepdims=True)).astype(np.float32)
# Coefficients of a block from low to high: by the sum of their row and column, then by row.
ZIGZAG = np.array(sorted(range(BLOCK * BLOCK), key=lambda k: (k // BLOCK + k % BLOCK, k // BLOCK)), np.intp)

# How much coarser the steps of coefficients are than that of the first, in 1/32, int32 (3, 64): eyes miss less of high
# frequencies, and of what is between red and blue.
WEIGHT_UNIT = 32
QUANT_MATRIX = (np.array([[2], [3], [2]]) * (16 + ZIGZAG // BLOCK + ZIGZAG % BLOCK)).astype(np.int32)


def block_grid(height: int, width: int) -> tuple[int, int]:
    """Return how many blocks there are down and across."""
    return -(-height // BLOCK), -(-width // BLOCK)


def forward_dct(residual: I16Array) -> F32Array:
    """Return the coefficients, in levels, of a residual, int16 (H, W, 3): float32 (3, 64, rows, columns).

    Axes are colour, coefficient from low to high, row and column of blocks. The last row and column of the residual
    are repeated to fill blocks.
    """
    height, width = residual.shape[:2]
    rows, columns = block_grid(height, width)
    padded = np.pad(residual, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    axes = padded.astype(np.float32) @ _COLOURS.T
    blocks = axes.reshape(rows, BLOCK, columns, BLOCK, 3).transpose(4, 0, 2, 1, 3)
    turned = (_COSINES @ blocks @ _COSINES.T).reshape(3, rows * columns, BLOCK * BLOCK)
    ordered = turned.transpose(0, 2, 1)[:, ZIGZAG]
    return np.ascontiguousarray(ordered).reshape(3, BLOCK * BLOCK, rows, columns)
