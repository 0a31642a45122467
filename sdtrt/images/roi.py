"""Regions of interest as callers give them, a rectangle or a mask, to ROI weights."""

import os

import numpy as np
from PIL import Image

from sdtrt._arrays import U8Array
from sdtrt.engine.coding.encode_options import MAX_ROI_WEIGHT
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.format.arguments import checked_number, value_text
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.image import checked_region
from sdtrt.engine.part_options import Region
from sdtrt.images.opening import load, open_any_size
from sdtrt.images.sources import FilePath

Roi = Region | U8Array | Image.Image | FilePath


def roi_weights(roi: Roi, weight: float, width: int, height: int) -> RoiWeights:
    """Return the ROI weights of an image of `width` x `height` pixels.

    Arguments:
        roi: (left, top, width, height) in pixels, or a mask of the image's size: uint8 (H, W), an image or its path.
            255 is inside the region, 0 is outside.
        weight: float, 1 to 64: the factor of the squared error inside the region.

    Raises:
        ValueError: the region does not fit the image.
    """
    weight = checked_weight(weight)
    share = mask_of(roi, width, height).astype(np.float32) / np.float32(255)
    return RoiWeights(np.float32(weight) ** share)


def checked_weight(weight: object) -> float:
    """Return the weight of a region of interest, 1 to 64; errors as of `checked_number`."""
    return checked_number("roi_weight", weight, 1, MAX_ROI_WEIGHT)


def mask_of(roi: Roi, width: int, height: int) -> U8Array:
    """Return a region as a mask, uint8 (H, W); `ValueError` if it does not fit an image of that size."""
    if isinstance(roi, tuple | list) or (isinstance(roi, np.ndarray) and roi.ndim == 1):
        left, top, across, down = checked_region(roi, width, height, "roi")
        mask = np.zeros((height, width), np.uint8)
        mask[top : top + down, left : left + across] = 255
        return mask
    if isinstance(roi, str | os.PathLike):
        with open_any_size(roi) as image:
            return _mask_of_image(image, width, height)
    if isinstance(roi, Image.Image):
        return _mask_of_image(roi, width, height)
    if not isinstance(roi, np.ndarray):
        raise TypeError(f"roi is {value_text(roi)}, expected (left, top, width, height), or a mask or its path")
    if roi.shape != (height, width) or roi.dtype != np.uint8:
        raise ValueError(f"roi is a mask of {roi.dtype} and shape {roi.shape}, expected uint8 {(height, width)}")
    return roi


def _mask_of_image(image: Image.Image, width: int, height: int) -> U8Array:
    """Return an image as a mask. Its size is checked before its pixels are read."""
    if image.size != (width, height):
        raise ValueError(f"roi is a mask of {image.width}x{image.height}, expected {width}x{height} as the image is")
    load(image, UNLIMITED)
    return np.asarray(image.convert("L"))
