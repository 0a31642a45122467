"""Colour under transparency: what nobody sees, made cheap to code and harmless at edges."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import U8Array

BLOCK = 8

Floats = NDArray[np.floating[Any]]


def filled(pixels: U8Array, alpha: U8Array) -> U8Array:
    """Return RGB pixels, uint8 (H, W, 3), whose wholly transparent ones take on the colour of visible neighbours.

    Visible pixels are averaged over blocks of 8x8 and ever larger ones; a transparent pixel takes the colour of the
    smallest block around it that has any (pull and push: Gortler et al., "The Lumigraph", 1996, section 3.4).
    """
    seen = alpha > 0
    if seen.all():
        return pixels
    colours = _grown(_summed(pixels * seen[:, :, None], BLOCK), _summed(seen, BLOCK))
    height, width = alpha.shape
    fill = np.rint(colours).astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
    return np.where(seen[:, :, None], pixels, fill)


def _grown(sums: Floats, counts: Floats) -> Floats:
    """Return the mean colour of each block, (h, w, 3), of coarser blocks where nothing is seen; black at last."""
    means: Floats = sums / np.maximum(counts, np.float32(1))[:, :, None]
    if counts.all() or counts.size == 1:
        return means
    height, width = counts.shape
    coarse = _grown(_summed(sums, 2), _summed(counts, 2)).repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where(counts[:, :, None] > 0, means, coarse)


def _summed(planes: NDArray[np.generic], side: int) -> Floats:
    """Return sums over blocks of so many rows and columns, float32; the last ones may be smaller."""
    rows = np.add.reduceat(planes, np.arange(0, planes.shape[0], side), axis=0, dtype=np.float32)
    return np.add.reduceat(rows, np.arange(0, planes.shape[1], side), axis=1, dtype=np.float32)
