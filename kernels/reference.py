"""The NumPy definition of every kernel: normative. Kernels on devices must give the same bits, or say where not.

Arithmetic is float32, each operation rounded by itself. Where a kernel writes FP16, that is what is said here, rounded
once more: `np.float16(…)`, half to even. FP16 arguments are converted to float32 first, which is exact. The bits of a
NaN are not specified.
"""

import numpy as np

from sdtrt._arrays import F16Array, F32Array, F64Array, I8Array, I16Array, I32Array, U8Array

SYMBOL_LIMIT = 32767


# What a kernel on a device, which cannot raise, says in a word of flags.
NOT_FINITE = 1  # a value was NaN or infinite
SATURATED = 2  # a symbol was out of range


def scale(latents: F32Array | F16Array, mean: F32Array, delta: F32Array) -> F32Array:
    """Return latents in steps, float32 (…, C, h, w), not finite where the latents or their quotients are not."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (latents - mean[:, None, None]) / delta[:, None, None]


def normalise(latents: F32Array | F16Array, mean: F32Array, delta: F32Array) -> F32Array:
    """Return latents in steps, float32 (…, C, h, w), saturated at +-32766.

    Arguments:
        latents: float32 or float16 (…, C, h, w).
        mean, delta: float32 (C,), the centre and the quantizer's step of each channel; delta > 0.

    Raises `ValueError` if a latent is not a finite number.
    """
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    scaled = scale(latents, mean, delta)  # infinite where the quotient is beyond all numbers
    return np.clip(scaled, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)


def quantize(latents: F32Array | F16Array, mean: F32Array, delta: F32Array, dead_zone: float) -> I16Array:
    """Return the symbols of latents, int16 (…, C, h, w); arguments and errors as in `normalise`.

    `dead_zone`, 0 to 0.5, is by how much of a step the zero bin, and each bin towards zero, is widened; 0 rounds to
    nearest.
    """
    return symbols_of(normalise(latents, mean, delta), dead_zone)


def quantize_flagged(
    latents: F32Array | F16Array, mean: F32Array, delta: F32Array, dead_zone: float
) -> tuple[I16Array, int]:
    """Return the symbols of latents as a device gives them: it raises flags instead of `ValueError`.

    Arguments as in `quantize`. The symbol of what is not finite is 0, and `NOT_FINITE` is in the flags returned;
    `SATURATED` is if a finite latent lies beyond +-32766 steps.
    """
    scaled = scale(latents, mean, delta)
    finite = np.isfinite(scaled)
    scaled[~finite] = 0
    limited = np.clip(scaled, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)
    flags = NOT_FINITE * (not finite.all()) | SATURATED * bool((limited != scaled).any())
    return symbols_of(limited, dead_zone), flags


def symbols_of(scaled: F32Array, dead_zone: float) -> I16Array:
    """Return the symbols, int16, of latents in steps, as `normalise` gives them."""
    return np.copysign(np.floor(np.abs(scaled) + np.float32(0.5 - dead_zone)), scaled).astype(np.int16)


def dequantize(symbols: I16Array, mean: F32Array, delta: F32Array, points: I8Array | F32Array) -> F32Array:
    """Return the latents that symbols stand for, float32 (…, C, h, w).

    `points` are where in a symbol's interval its latents lie: int8 (…, C, h, w), in 1/64 step from the symbol; or
    float32 (C,), how many steps towards zero non-zero symbols' points lie.
    """
    values = symbols.astype(np.float32)
    if points.dtype == np.int8:
        values += points * np.float32(1 / 64)
    else:
        values -= np.sign(values) * points[:, None, None]
    return values * delta[:, None, None] + mean[:, None, None]


def to_planes(low: float, high: float) -> tuple[np.float32, np.float32]:
    """Return what a level, 0 to 255, is multiplied by and what is added then, to lie between `low` and `high`."""
    return np.float32((high - low) / 255), np.float32(low)


def to_levels(low: float, high: float) -> tuple[np.float32, np.float32]:
    """Return what is subtracted from a value between `low` and `high`, and what it is multiplied by then."""
    return np.float32(low), np.float32(255 / (high - low))


def pixels_to_planes(pixels: U8Array, multiple: int, low: float, high: float) -> F32Array:
    """Return pixels, uint8 (H, W, 1, 3 or 4), as float32 RGB planes (3, H', W') between `low` and `high`.

    H' and W' are the next multiples of `multiple`; the last row and column are repeated to fill them. One channel is
    grey, and repeated for all planes; the last of four is alpha, and ignored.
    """
    height, width = pixels.shape[:2]
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    planes = np.pad(pixels[:, :, :3], padding, mode="edge").transpose(2, 0, 1).astype(np.float32)
    factor, offset = to_planes(low, high)
    planes *= factor
    planes += offset
    return planes if len(planes) == 3 else planes.repeat(3, axis=0)


def planes_to_pixels(
    planes: F32Array | F16Array, width: int, height: int, low: float, high: float, channels: int = 3
) -> U8Array:
    """Return RGB planes, float32 or float16 (3, H', W'), as pixels, uint8 (height, width, channels).

    Cropped to the top left, clamped to `low` … `high`, rounded half to even; NaN becomes 0. The last of four channels
    is alpha, 255.
    """
    offset, factor = to_levels(low, high)
    pixels = np.full((height, width, channels), 255, np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        levels = (planes[:, :height, :width].astype(np.float32) - offset) * factor
    # Of NaN and a number, fmax returns the number.
    pixels[:, :, :3] = np.rint(np.minimum(np.fmax(levels, 0), 255)).transpose(1, 2, 0)
    return pixels


def planes_flags(planes: F32Array | F16Array, width: int, height: int) -> int:
    """Return the flags that `planes_to_pixels` raises on a device: `NOT_FINITE` if a pixel comes of NaN or infinity."""
    return 0 if np.isfinite(planes[:, :height, :width]).all() else NOT_FINITE


def blend(
    planes: F32Array, tile: F32Array | F16Array, window_y: F32Array, window_x: F32Array, top: int, left: int
) -> None:
    """Add a tile, weighted by a window, to the planes that tiles are cross-faded in, in place.

    The weight of an element is window_y[y] * window_x[x]. The windows of overlapping tiles add up to 1 where they
    overlap, so that seams vanish. Rounded are the weight, its product with the tile, and the sum, in this order.

    Arguments:
        planes: float32 (C, H, W), 0 at first.
        tile: float32 or float16 (C, h, w).
        window_y, window_x: float32 (h,) and (w,).
        top, left: where in `planes` the tile's first row and column lie.

    Raises `ValueError` if the tile does not lie inside the planes.
    """
    height, width = tile.shape[-2:]
    inside = planes[..., max(top, 0) : top + height, max(left, 0) : left + width]
    if inside.shape != tile.shape:
        raise ValueError(f"a tile of shape {tile.shape} at row {top}, column {left} is not inside {planes.shape}")
    inside += tile * (window_y[:, None] * window_x)


def ddim_step(latents: F32Array | F16Array, output: F32Array | F16Array, a: F32Array, b: F32Array) -> F32Array:
    """Return a * latents + b * output, float32 (N, …): one step of denoising, both products and the sum rounded.

    Deterministic steps are linear in the latents and in the output of the network, whatever it predicts. From noise
    level t to s with cumulative products A_t and A_s, a network that predicts noise has

        a = sqrt(A_s / A_t),  b = sqrt(1 - A_s) - sqrt(A_s * (1 - A_t) / A_t)

    (Song, Meng, Ermon: Denoising Diffusion Implicit Models, 2020, equation 12 with sigma 0).

    Arguments:
        latents, output: float32 or float16 (N, …), of one shape.
        a, b: float32 (N,), of each entry of the batch.
    """
    each = (-1,) + (1,) * (latents.ndim - 1)
    return a.reshape(each) * latents + b.reshape(each) * output


BLOCK = 8  # pixels a side of the residual's blocks
RESIDUAL_LIMIT = 1 << 16  # of values, and of what a pass of the transform leaves
ROWS_AT_ONCE = 4  # of blocks: few, so that all passes find them in the cache

# The orthonormal discrete cosine transform of type II in 1/4096, rounded: row k is the wave of frequency k.
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
# Axes of colour over R, G, B in 1/4096, orthonormal: brightness, red against blue, green against both.
COLOURS = np.array([[2365, 2365, 2365], [2896, 0, -2896], [-1672, 3344, -1672]], np.int32)


def add_residual(pixels: U8Array, values: I32Array) -> None:
    """Add the residual that blocks of values stand for to pixels, uint8 (H, W, 3 or 4), in place; alpha stays.

    `values`, int32 (3, rows, columns, 8, 8), as of `inverse_dct`, with rows = ceil(H / 8) and columns = ceil(W / 8).
    What is added to is clamped to 0 … 255.
    """
    height, width = pixels.shape[:2]
    whole = pixels[:, :, :3] + inverse_dct(values)[:height, :width]
    pixels[:, :, :3] = np.minimum(np.maximum(whole, 0), 255)


def inverse_dct(values: I32Array) -> I16Array:
    """Return the residual that blocks of values stand for, in levels, int16 (8 * rows, 8 * columns, 3).

    `values`, int32 (3, rows, columns, 8, 8), are coefficients of the axes of colour in 1/16 level, row and column of
    blocks, vertical and horizontal frequency; limited to +-2**16. Blocks are turned back vertically, then
    horizontally, then colours; each sum, of integers of less than 32 bits, is divided by 4096, rounded half up, and
    limited to +-2**16. Sums of colours are divided by 4096 * 16, to be levels.
    """
    _, rows, columns = values.shape[:3]
    levels = np.empty((rows * BLOCK, columns * BLOCK, 3), np.int16)
    for top in range(0, rows, ROWS_AT_ONCE):
        levels[top * BLOCK : (top + ROWS_AT_ONCE) * BLOCK] = _residual_of_rows(values[:, top : top + ROWS_AT_ONCE])
    return levels


def _residual_of_rows(values: I32Array) -> I16Array:
    _, rows, columns = values.shape[:3]
    blocks = values.reshape(-1, BLOCK, BLOCK)
    there = blocks.any((1, 2))
    planes = np.zeros(blocks.shape)  # float64: integers below 2**53 are exact in it, and its products are fast
    some = np.clip(blocks[there], -RESIDUAL_LIMIT, RESIDUAL_LIMIT).astype(np.float64)
    planes[there] = _inverse_dct_pass(_inverse_dct_pass(some))
    levels = COLOURS.T * 2.0**-16 @ planes.reshape(3, -1)
    levels += 0.5
    whole = np.floor(levels, out=levels).astype(np.int16).reshape(3, rows, columns, BLOCK, BLOCK)
    return whole.transpose(1, 3, 2, 4, 0).reshape(rows * BLOCK, columns * BLOCK, 3)


def _inverse_dct_pass(blocks: F64Array) -> F64Array:
    """Return blocks, (n, 8, 8), transformed back along their columns and transposed, limited to +-2**16."""
    sums = blocks.transpose(0, 2, 1).reshape(-1, BLOCK) @ (COSINES * 2.0**-12)
    sums += 0.5
    np.floor(sums, out=sums)
    return np.clip(sums, -RESIDUAL_LIMIT, RESIDUAL_LIMIT, out=sums).reshape(-1, BLOCK, BLOCK)


def apply_overlay(pixels: U8Array, overlay: U8Array) -> None:
    """Put an overlay, uint8 (H, W, 4), over pixels, uint8 (H, W, 3 or 4), in place.

    U8Array take red, green and blue of the overlay where its alpha is 255; where it is not, they stay. So does their
    own alpha.
    """
    np.copyto(pixels[:, :, :3], overlay[:, :, :3], where=overlay[:, :, 3:] == 255)
