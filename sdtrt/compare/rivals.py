"""Other codecs, through Pillow: at a quality of 1 to 100, or at the quality that comes nearest to a number of bytes."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from sdtrt._arrays import U8Array

Encode = Callable[[Image.Image, int], bytes]


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Progressive, optimised tables, colour at half resolution."""
    return _saved(image, "JPEG", quality=quality, optimize=True, progressive=True, subsampling="4:2:0")


def webp(image: Image.Image, quality: int) -> bytes:
    """The slowest, smallest method."""
    return _saved(image, "WEBP", quality=quality, method=6)


def avif(image: Image.Image, quality: int) -> bytes:
    """libavif, speed 4 of 10."""
    return _saved(image, "AVIF", quality=quality, speed=4)


def avif_444(image: Image.Image, quality: int) -> bytes:
    """libavif, speed 4 of 10, colour at full resolution."""
    return _saved(image, "AVIF", quality=quality, speed=4, subsampling="4:4:4")


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


RIVALS: dict[str, Encode] = {"JPEG": jpeg, "WebP": webp, "AVIF": avif}


def at_bytes(encode: Encode, image: Image.Image, nbytes: int) -> tuple[int, bytes]:
    """Return (quality, file) of the largest file of at most `nbytes`, or of the smallest there is."""
    low, high, best = 1, 100, b""
    while low < high:  # size rises with quality, but for a few bytes
        middle = (low + high + 1) // 2
        file = encode(image, middle)
        if len(file) <= nbytes:
            low, best = middle, file
        else:
            high = middle - 1
    return low, best or encode(image, low)


def decoded(data: bytes) -> U8Array:
    """Return the RGB pixels of an image file's bytes, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
