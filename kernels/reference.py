"""The NumPy definition of every kernel: normative. Kernels on devices must give the same bits, or say where not."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SYMBOL_LIMIT = 32767


def normalise(latents: Floats, mean: Floats, delta: Floats) -> Floats:
    """Return latents in steps, float32 (C, h, w), saturated at +-32766.

    Arguments
        latents: float32 (C, h, w).
        mean, delta: float32 (C,), the centre and the quantizer's step of each channel; delta > 0.

    Raises `ValueError` if a latent is not a finite number.
    """
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    with np.errstate(over="ignore"):  # what is beyond all numbers is saturated, too
        scaled = (latents - mean[:, None, None]) / delta[:, None, None]
    return np.clip(scaled, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)


def quantize(latents: Floats, mean: Floats, delta: Floats, dead_zone: float) -> NDArray[np.int16]:
    """Return the symbols of latents, int16 (C, h, w); arguments and errors as in `normalise`.

    `dead_zone` is by how much of a step the zero bin, and each bin towards zero, is widened; 0 rounds to nearest.
    """
    scaled = normalise(latents, mean, delta)
    return np.copysign(np.floor(np.abs(scaled) + np.float32(0.5 - dead_zone)), scaled).astype(np.int16)


def dequantize(symbols: NDArray[np.int16], mean: Floats, delta: Floats, points: NDArray[np.int8] | Floats) -> Floats:
    """Return the latents that symbols stand for, float32 (C, h, w).

    `points` are where in a symbol's interval its latents lie: int8 (C, h, w), in 1/64 step from the symbol; or
    float32 (C,), how many steps towards zero non-zero symbols' points lie.
    """
    values = symbols.astype(np.float32)
    if points.dtype == np.int8:
        values += points * np.float32(1 / 64)
    else:
        values -= np.sign(values) * points[:, None, None]
    return values * delta[:, None, None] + mean[:, None, None]


def pixels_to_planes(pixels: Pixels, multiple: int, low: float, high: float) -> Floats:
    """Return RGB pixels, uint8 (H, W, 3), as float32 (3, H', W') between `low` and `high`.

    H' and W' are the next multiples of `multiple`; the last row and column are repeated to fill them.
    """
    height, width = pixels.shape[:2]
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    planes = np.pad(pixels, padding, mode="edge").transpose(2, 0, 1).astype(np.float32)
    planes *= np.float32((high - low) / 255)
    planes += np.float32(low)
    return planes


def planes_to_pixels(planes: Floats, width: int, height: int, low: float, high: float) -> Pixels:
    """Return planes, float32 (3, H', W'), as RGB pixels, uint8 (height, width, 3).

    Cropped to the top left, clamped to `low` … `high`, rounded half to even.
    """
    levels = (planes[:, :height, :width] - np.float32(low)) * np.float32(255 / (high - low))
    rounded = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))
