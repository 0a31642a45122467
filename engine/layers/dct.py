"""The forward transform of the residual layer: an 8x8 DCT of three colour axes, in float.

The inverse is normative (`docs/format.md`, section 3.7): it uses integers and gives the same bits on every device, see
`kernels.reference.add_residual`. The forward transform runs in the encoder only and may differ between machines.
"""

import numpy as np

from sdtrt._arrays import F32Array, I16Array
from sdtrt.kernels.reference import BLOCK, COLOURS, COSINES

_COSINES = (COSINES / np.linalg.norm(COSINES, axis=1, keepdims=True)).astype(np.float32)
_COLOURS = (COLOURS / np.linalg.norm(COLOURS, axis=1, keepdims=True)).astype(np.float32)
# Raster indices of a block's coefficients from low to high: by the sum of row and column, then by row.
ZIGZAG = np.array(sorted(range(BLOCK * BLOCK), key=lambda k: (k // BLOCK + k % BLOCK, k // BLOCK)), np.intp)

# The quantization matrix, int32 (3, 64): the step of each coefficient relative to the layer's, in 1/32. Steps are
# coarser for high frequencies and for the red-blue axis, where errors are less visible.
WEIGHT_UNIT = 32
QUANT_MATRIX = (np.array([[2], [3], [2]]) * (16 + ZIGZAG // BLOCK + ZIGZAG % BLOCK)).astype(np.int32)


def block_grid(height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of blocks that cover an image of this size in pixels."""
    return -(-height // BLOCK), -(-width // BLOCK)


def forward_dct(residual: I16Array) -> F32Array:
    """Return the DCT coefficients of a residual.

    Arguments:
        residual: int16 (H, W, 3), in 8-bit values. Its last row and column are repeated to fill blocks.

    Returns float32 (3, 64, rows, columns) in 8-bit values: colour axis, coefficient in zigzag order, row and column of
    blocks.
    """
    height, width = residual.shape[:2]
    rows, columns = block_grid(height, width)
    padded = np.pad(residual, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    colour_axes = padded.astype(np.float32) @ _COLOURS.T
    blocks = colour_axes.reshape(rows, BLOCK, columns, BLOCK, 3).transpose(4, 0, 2, 1, 3)
    coefficients = (_COSINES @ blocks @ _COSINES.T).reshape(3, rows * columns, BLOCK * BLOCK)
    ordered = coefficients.transpose(0, 2, 1)[:, ZIGZAG]
    return np.ascontiguousarray(ordered).reshape(3, BLOCK * BLOCK, rows, columns)
