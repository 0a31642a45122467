"""A file's picture at an eighth of its size, or less, by the linear part of its latent space alone: no network."""

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.quantized import latents_of
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.format.container import File
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits

Pixels = NDArray[np.uint8]


def preview_of_file(file: File, scale: int, limits: Limits = DEFAULT_LIMITS) -> Pixels | None:
    """Return RGB pixels, uint8 (H, W, 3), at 1/`scale` of the size, each the mean of a block; sides are rounded up.

    Only coarse passes are read. None if there is no such way: the profile knows none, or `scale` is no multiple of
    its downscale. Errors as of `StoredLatents`.
    """
    stored = StoredLatents(file, limits)
    way, downscale = stored.profile.preview, stored.profile.downscale
    if way is None or stored.kind == "latents" or scale % downscale:
        return None
    latents = latents_of(stored.some(way.channels))
    return reduced(way.picture(latents), scale // downscale)


def reduced(pixels: Pixels, factor: int) -> Pixels:
    """Return means over blocks, uint8; sides are rounded up, and blocks at the end may be smaller."""
    if factor == 1:
        return pixels
    rows = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], factor), axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, np.arange(0, pixels.shape[1], factor), axis=1)
    height, width = (np.diff(np.r_[np.arange(0, n, factor), n]) for n in pixels.shape[:2])
    counts = np.outer(height, width).reshape(sums.shape[:2] + (1,) * (pixels.ndim - 2))
    return np.rint(sums / counts).astype(np.uint8)
