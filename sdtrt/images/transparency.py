"""Colour of transparent pixels. It is replaced by a colour that costs few bits and does not bleed at edges."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import U8Array

BLOCK = 8

Floats = NDArray[np.floating[Any]]


def fill_transparent(pixels: U8Array, alpha: U8Array) -> U8Array:
    """Return RGB pixels, uint8 (H, W, 3), in which fully transparent pixels have the colour of visible neighbours.

    Visible pixels are averaged over blocks of 8x8 pixels, 16x16 pixels and so on. A transparent pixel takes the
    mean of the smallest block around it that has visible pixels (pull-push: Gortler et al., "The Lumigraph", 1996,
    section 3.4).
    """
    visible = alpha > 0
    if visible.all():
        return pixels
    colours = _pull_push(_block_sums(pixels * visible[:, :, None], BLOCK), _block_sums(visible, BLOCK))
    height, width = alpha.shape
    fill = np.rint(colours).astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
    return np.where(visible[:, :, None], pixels, fill)


def _pull_push(sums: Floats, counts: Floats) -> Floats:
    """Return the mean colour of each block, (h, w, 3). A block without visible pixels has that of a larger block."""
    means: Floats = sums / np.maximum(counts, np.float32(1))[:, :, None]
    if counts.all() or counts.size == 1:
        return means
    height, width = counts.shape
    coarse = _pull_push(_block_sums(sums, 2), _block_sums(counts, 2)).repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where(counts[:, :, None] > 0, means, coarse)


def _block_sums(planes: NDArray[np.generic], side: int) -> Floats:
    """Return sums over blocks of `side` rows and columns, float32. The last blocks may be smaller."""
    rows = np.add.reduceat(planes, np.arange(0, planes.shape[0], side), axis=0, dtype=np.float32)
    return np.add.reduceat(rows, np.arange(0, planes.shape[1], side), axis=1, dtype=np.float32)
