"""The NumPy definition of every kernel. It is normative: all other implementations give the same bits.

Arithmetic is float32, and each operation is rounded by itself. A kernel that writes FP16 rounds the float32 result of
its definition once more, half to even. FP16 arguments are first converted to float32, which is exact. The bits of a NaN
are not specified.
"""

import numpy as np

from sdtrt._arrays import F16Array, F32Array, F64Array, I8Array, I16Array, I32Array, U8Array
from sdtrt.kernels import SYMBOL_LIMIT

# Bits of the word of flags by which kernels report errors, since a kernel cannot raise an exception.
NOT_FINITE = 1  # a value was NaN or infinite
SATURATED = 2  # a symbol was out of range


def divide_by_steps(latents: F32Array | F16Array, mean: F32Array, delta: F32Array) -> F32Array:
    """Return latents in units of their steps, float32 (…, C, h, w); not finite if the quotient overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (latents - mean[:, None, None]) / delta[:, None, None]


def scale_to_steps(latents: F32Array | F16Array, mean: F32Array, delta: F32Array) -> F32Array:
    """Return latents in units of their steps, float32 (…, C, h, w), saturated at +-32766.

    Arguments:
        latents: float32 or float16 (…, C, h, w).
        mean: float32 (C,), the mean of each channel.
        delta: float32 (C,), the quantization step of each channel, above 0.

    Raises `ValueError` if a latent is not finite.
    """
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    scaled = divide_by_steps(latents, mean, delta)
    return np.clip(scaled, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)


def quantize(latents: F32Array | F16Array, mean: F32Array, delta: F32Array, dead_zone: float) -> I16Array:
    """Return the symbols of latents, int16 (…, C, h, w).

    Arguments:
        latents, mean, delta: as of `scale_to_steps`.
        dead_zone: 0 to 0.5, how many steps each decision threshold moves away from zero; 0 rounds to nearest.

    Raises `ValueError` if a latent is not finite.
    """
    return round_to_symbols(scale_to_steps(latents, mean, delta), dead_zone)


def quantize_flagged(
    latents: F32Array | F16Array, mean: F32Array, delta: F32Array, dead_zone: float
) -> tuple[I16Array, int]:
    """Return the symbols of latents, int16 (…, C, h, w), and flags instead of a `ValueError`: the kernel on a device.

    A value that is not finite gives symbol 0 and the flag `NOT_FINITE`. A finite value beyond +-32766 steps is
    saturated and gives `SATURATED`. Arguments as of `quantize`.
    """
    scaled = divide_by_steps(latents, mean, delta)
    finite = np.isfinite(scaled)
    scaled[~finite] = 0
    saturated = np.clip(scaled, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)
    flags = NOT_FINITE * (not finite.all()) | SATURATED * bool((saturated != scaled).any())
    return round_to_symbols(saturated, dead_zone), flags


def round_to_symbols(scaled: F32Array, dead_zone: float) -> I16Array:
    """Return the symbols, int16, of latents in units of their steps, as `scale_to_steps` gives them."""
    return np.copysign(np.floor(np.abs(scaled) + np.float32(0.5 - dead_zone)), scaled).astype(np.int16)


def dequantize(symbols: I16Array, mean: F32Array, delta: F32Array, recon_offsets: I8Array | F32Array) -> F32Array:
    """Return the reconstructed latents, float32 (…, C, h, w).

    Arguments:
        symbols: int16 (…, C, h, w).
        mean, delta: as of `scale_to_steps`.
        recon_offsets: int8 (…, C, h, w), the reconstruction minus the symbol in 1/64 step; or float32 (C,), how many
            steps the reconstruction of a symbol that is not 0 lies towards zero.
    """
    values = symbols.astype(np.float32)
    if recon_offsets.dtype == np.int8:
        values += recon_offsets * np.float32(1 / 64)
    else:
        values -= np.sign(values) * recon_offsets[:, None, None]
    return values * delta[:, None, None] + mean[:, None, None]


def plane_scale_and_shift(low: float, high: float) -> tuple[np.float32, np.float32]:
    """Return (scale, shift): value * scale + shift maps 8-bit values to `low` … `high`."""
    return np.float32((high - low) / 255), np.float32(low)


def pixel_shift_and_scale(low: float, high: float) -> tuple[np.float32, np.float32]:
    """Return (shift, scale): (value - shift) * scale maps `low` … `high` to 8-bit values."""
    return np.float32(low), np.float32(255 / (high - low))


def pixels_to_planes(pixels: U8Array, multiple: int, low: float, high: float) -> F32Array:
    """Return pixels as RGB planes, float32 (3, H', W').

    Arguments:
        pixels: uint8 (H, W, channels). One channel is grey, and copied to all planes; the last of four is alpha, and
            ignored.
        multiple: H' and W' are H and W rounded up to a multiple of it; the last row and column are repeated.
        low, high: the range of the planes.
    """
    height, width = pixels.shape[:2]
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    planes = np.pad(pixels[:, :, :3], padding, mode="edge").transpose(2, 0, 1).astype(np.float32)
    scale, shift = plane_scale_and_shift(low, high)
    planes *= scale
    planes += shift
    return planes if len(planes) == 3 else planes.repeat(3, axis=0)


def planes_to_pixels(
    planes: F32Array | F16Array, width: int, height: int, low: float, high: float, channels: int = 3
) -> U8Array:
    """Return RGB planes as pixels, uint8 (height, width, channels), rounded half to even.

    Arguments:
        planes: float32 or float16 (3, H', W'). They are cropped at the bottom and the right. NaN becomes 0.
        width, height: of the pixels.
        low, high: the range of the planes; values outside are clamped.
        channels: 3, or 4 for an alpha of 255.
    """
    shift, scale = pixel_shift_and_scale(low, high)
    pixels = np.full((height, width, channels), 255, np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        values = (planes[:, :height, :width].astype(np.float32) - shift) * scale
    # Of NaN and a number, fmax returns the number.
    pixels[:, :, :3] = np.rint(np.minimum(np.fmax(values, 0), 255)).transpose(1, 2, 0)
    return pixels


def planes_flags(planes: F32Array | F16Array, width: int, height: int) -> int:
    """Return the flags of `planes_to_pixels` on a device: `NOT_FINITE` if a cropped plane has NaN or infinity."""
    return 0 if np.isfinite(planes[:, :height, :width]).all() else NOT_FINITE


def blend(
    planes: F32Array, tile: F32Array | F16Array, window_y: F32Array, window_x: F32Array, top: int, left: int
) -> None:
    """Add a weighted tile to planes, in place, to cross-fade overlapping tiles.

    The weight of an element is window_y[y] * window_x[x]. The windows of overlapping tiles add up to 1, so that no
    seams are visible. Three results are rounded: the weight, its product with the tile, and the sum.

    Arguments:
        planes: float32 (C, H, W), 0 before the first tile.
        tile: float32 or float16 (C, h, w).
        window_y, window_x: float32 (h,) and (w,).
        top, left: position of the tile's first row and column in `planes`.

    Raises `ValueError` if the tile is not inside the planes.
    """
    height, width = tile.shape[-2:]
    target = planes[..., max(top, 0) : top + height, max(left, 0) : left + width]
    if target.shape != tile.shape:
        raise ValueError(f"a tile of shape {tile.shape} at row {top}, column {left} is not inside {planes.shape}")
    target += tile * (window_y[:, None] * window_x)


def ddim_step(latents: F32Array | F16Array, output: F32Array | F16Array, a: F32Array, b: F32Array) -> F32Array:
    """Return a * latents + b * output, float32 (N, …): one step of DDIM. Both products and the sum are rounded.

    A step without noise (sigma 0) is linear in the latents and in the network's output, for every prediction type.
    From timestep t to s with cumulative products A_t and A_s of alpha, a network that predicts noise has

        a = sqrt(A_s / A_t),  b = sqrt(1 - A_s) - sqrt(A_s * (1 - A_t) / A_t)

    (Song, Meng, Ermon: Denoising Diffusion Implicit Models, 2020, equation 12 with sigma 0).

    Arguments:
        latents, output: float32 or float16 (N, …), both of the same shape.
        a, b: float32 (N,), factors of each image of the batch.
    """
    factor_shape = (-1,) + (1,) * (latents.ndim - 1)
    return a.reshape(factor_shape) * latents + b.reshape(factor_shape) * output


BLOCK = 8  # pixels a side of the residual's blocks
RESIDUAL_LIMIT = 1 << 16  # of coefficients, and of the intermediate results of the inverse DCT
BLOCK_ROWS_AT_ONCE = 4  # few, so that intermediate results stay in the processor's cache

# The orthonormal DCT of type II in 1/4096, rounded: row k is the cosine of frequency k.
COSINES = np.array(
    [
        [1448, 1448, 1448, 1448, 1448, 1448, 1448, 1448],
        [2009, 1703, 1138, 400, -400, -1138, -1703, -2009],
        [1892, 784, -784, -1892, -1892, -784, 784, 1892],
        [1703, -400, -2009, -1138, 1138, 2009, 400, -1703],
        [1448, -1448, -1448, 1448, 1448, -1448, -1448, 1448],
        [1138, -2009, 400, 1703, -1703, -400, 2009, -1138],
        [784, -1892, 1892, -784, -784, 1892, -1892, 784],
        [400, -1138, 1703, -2009, 2009, -1703, 1138, -400],
    ],
    np.int32,
)
# The orthonormal colour transform in 1/4096. Rows are luma, red against blue, and green against both; columns R, G, B.
COLOURS = np.array([[2365, 2365, 2365], [2896, 0, -2896], [-1672, 3344, -1672]], np.int32)


def add_residual(pixels: U8Array, coefficients: I32Array) -> None:
    """Add a residual to pixels, in place. Sums are clamped to 0 … 255; alpha does not change.

    Arguments:
        pixels: uint8 (H, W, 3 or 4).
        coefficients: int32 (3, ceil(H / 8), ceil(W / 8), 8, 8), as of `inverse_dct`.
    """
    height, width = pixels.shape[:2]
    sums = pixels[:, :, :3] + inverse_dct(coefficients)[:height, :width]
    pixels[:, :, :3] = np.minimum(np.maximum(sums, 0), 255)


def inverse_dct(coefficients: I32Array) -> I16Array:
    """Return a residual, int16 (8 * rows, 8 * columns, 3), in 8-bit values.

    Arguments:
        coefficients: int32 (3, rows, columns, 8, 8), in 1/16 of an 8-bit value; clamped to +-2**16. Axes are the
            colour axis, row and column of blocks, vertical and horizontal frequency.

    Three passes follow each other: vertical, horizontal, colours. All sums are exact in 32 bits. In the first two
    passes a sum is divided by 4096, rounded half up and clamped to +-2**16. Sums of colours are divided by 4096 * 16
    and rounded half up.
    """
    _, rows, columns = coefficients.shape[:3]
    residual = np.empty((rows * BLOCK, columns * BLOCK, 3), np.int16)
    for top in range(0, rows, BLOCK_ROWS_AT_ONCE):
        bottom = top + BLOCK_ROWS_AT_ONCE
        residual[top * BLOCK : bottom * BLOCK] = _inverse_dct_of_rows(coefficients[:, top:bottom])
    return residual


def _inverse_dct_of_rows(coefficients: I32Array) -> I16Array:
    _, rows, columns = coefficients.shape[:3]
    blocks = coefficients.reshape(-1, BLOCK, BLOCK)
    nonzero = blocks.any((1, 2))
    planes = np.zeros(blocks.shape)  # float64 is exact for integers below 2**53, and its products are fast
    clamped = np.clip(blocks[nonzero], -RESIDUAL_LIMIT, RESIDUAL_LIMIT).astype(np.float64)
    planes[nonzero] = _inverse_dct_pass(_inverse_dct_pass(clamped))
    sums = COLOURS.T * 2.0**-16 @ planes.reshape(3, -1)
    sums += 0.5
    rounded = np.floor(sums, out=sums).astype(np.int16).reshape(3, rows, columns, BLOCK, BLOCK)
    return rounded.transpose(1, 3, 2, 4, 0).reshape(rows * BLOCK, columns * BLOCK, 3)


def _inverse_dct_pass(blocks: F64Array) -> F64Array:
    """Return blocks, (n, 8, 8), after an inverse DCT along their columns, transposed and clamped to +-2**16."""
    sums = blocks.transpose(0, 2, 1).reshape(-1, BLOCK) @ (COSINES * 2.0**-12)
    sums += 0.5
    np.floor(sums, out=sums)
    return np.clip(sums, -RESIDUAL_LIMIT, RESIDUAL_LIMIT, out=sums).reshape(-1, BLOCK, BLOCK)


def apply_overlay(pixels: U8Array, overlay: U8Array) -> None:
    """Put an overlay over pixels, in place.

    Arguments:
        pixels: uint8 (H, W, 3 or 4); their alpha does not change.
        overlay: uint8 (H, W, 4). Its red, green and blue replace those of a pixel if its alpha is 255.
    """
    np.copyto(pixels[:, :, :3], overlay[:, :, :3], where=overlay[:, :, 3:] == 255)
