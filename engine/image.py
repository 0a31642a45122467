"""Images, as the codec takes and gives them, and how alike two of them are."""

from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.format.arguments import digits, is_integer, value_text
from sdtrt.engine.format.metadata import NO_METADATA, Metadata
from sdtrt.engine.part_options import Region


@dataclass(frozen=True, slots=True)
class ImageData:
    """RGB pixels, uint8 (H, W, 3); `alpha`, uint8 (H, W), or None; `grey` if the three channels came from one.

    `look` is the one in which an image was decoded, None of others; `missing` says what was not to be had of a file
    that is cut short or damaged, nothing of whole ones.
    """

    pixels: U8Array
    alpha: U8Array | None = None
    grey: bool = False
    metadata: Metadata = NO_METADATA
    look: str | None = None
    missing: str = ""


def luma(pixels: U8Array) -> U8Array:
    """Return the brightness of RGB pixels, uint8 (H, W, 3) to (H, W): what a grey image's are delivered as.

    ITU-R BT.601's weights in 1/65536, rounded, as Pillow has them.
    """
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 32768) >> 16).astype(np.uint8)


def psnr(first: U8Array, second: U8Array) -> float:
    """Return the peak signal-to-noise ratio of two images of 8 bits, in dB; infinite if they are equal."""
    error = np.square(first.astype(np.float64) - second).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def checked_region(region: object, width: int, height: int, name: str = "region") -> Region:
    """Return a region of an image of a size; `name` is that of the argument.

    Raises `TypeError` if it is not four whole numbers, `ValueError`, which names the image's size, if it is not within
    the image.
    """
    expected = "expected (left, top, width, height), four whole numbers of pixels"
    if not isinstance(region, tuple | list | np.ndarray) or len(np.shape(region)) != 1:
        raise TypeError(f"{name} is {value_text(region)}, {expected}")
    if len(region) != 4:
        raise ValueError(f"{name} is {value_text(region)}, {expected}")
    if not all(is_integer(number) for number in region):
        raise TypeError(f"{name} is {value_text(region)}, {expected}")
    left, top, across, down = map(int, region)
    if min(left, top) < 0 or min(across, down) < 1 or left + across > width or top + down > height:
        sides = f"{digits(across)}x{digits(down)}+{digits(left)}+{digits(top)}"
        raise ValueError(
            f"{name} {sides} is not within the image, which is {width}x{height}; "
            "expected width and height of at least 1"
        )
    return left, top, across, down
