"""Regions of interest, as callers name them: a rectangle, or a mask."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt.engine.coding.interest import LARGEST_WEIGHT, Interest
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.picture import Region, checked_region
from sdtrt.images.opening import load, open_any_size

Roi = Region | NDArray[np.uint8] | Image.Image | str | Path

DEFAULT_WEIGHT = 4.0


def interest_of(roi: Roi, weight: float, width: int, height: int) -> Interest:
    """Return the interest in a part of a picture, where squared error counts `weight` times, 1 to 64.

    `roi` is (left, top, width, height) in pixels, or a mask of the picture's size, uint8 (H, W), an image or the path
    of one: 0 is no interest, 255 all of it. Raises `ValueError` if it does not fit the picture.
    """
    if not 1 <= weight <= LARGEST_WEIGHT:
        raise ValueError(f"weight {weight} of a region of interest, expected 1 to {LARGEST_WEIGHT:.0f}")
    share = mask_of(roi, width, height).astype(np.float32) / np.float32(255)
    return Interest(np.float32(weight) ** share)


def mask_of(roi: Roi, width: int, height: int) -> NDArray[np.uint8]:
    """Return a region as a mask, uint8 (H, W); `ValueError` if it does not fit a picture of that size."""
    if isinstance(roi, tuple | list):
        left, top, across, down = checked_region(roi, width, height)
        mask = np.zeros((height, width), np.uint8)
        mask[top : top + down, left : left + across] = 255
        return mask
    if isinstance(roi, str | Path):
        with open_any_size(roi) as image:
            return mask_of(image, width, height)
    if isinstance(roi, Image.Image):
        _check_fit(roi.height, roi.width, width, height)
        load(roi, UNLIMITED)
        return np.asarray(roi.convert("L"))
    if not isinstance(roi, np.ndarray):
        raise TypeError(f"region of interest is a {type(roi).__name__}; expected four numbers, a mask or its path")
    if roi.ndim != 2 or roi.dtype != np.uint8:
        raise ValueError(f"mask of {roi.dtype} and shape {roi.shape}, expected uint8 (H, W)")
    _check_fit(roi.shape[0], roi.shape[1], width, height)
    return roi


def _check_fit(mask_height: int, mask_width: int, width: int, height: int) -> None:
    if (mask_height, mask_width) != (height, width):
        raise ValueError(f"a mask of {mask_width}x{mask_height} for a picture of {width}x{height}")
