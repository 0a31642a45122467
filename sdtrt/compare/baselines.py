"""Other codecs as baselines, through Pillow: at a quality from 1 to 100, or within a number of bytes."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from sdtrt._arrays import U8Array

EncodeAtQuality = Callable[[Image.Image, int], bytes]


def jpeg(image: Image.Image, quality: int) -> bytes:
    """JPEG: progressive, optimised Huffman tables, 4:2:0."""
    return _saved(image, "JPEG", quality=quality, optimize=True, progressive=True, subsampling="4:2:0")


def webp(image: Image.Image, quality: int) -> bytes:
    """WebP: method 6, the slowest with the smallest files."""
    return _saved(image, "WEBP", quality=quality, method=6)


def avif(image: Image.Image, quality: int) -> bytes:
    """AVIF by libavif: speed 4 of 10, 4:2:0."""
    return _saved(image, "AVIF", quality=quality, speed=4)


def avif_444(image: Image.Image, quality: int) -> bytes:
    """AVIF by libavif: speed 4 of 10, 4:4:4."""
    return _saved(image, "AVIF", quality=quality, speed=4, subsampling="4:4:4")


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


BASELINES: dict[str, EncodeAtQuality] = {"JPEG": jpeg, "WebP": webp, "AVIF": avif}


def encode_within(encode: EncodeAtQuality, image: Image.Image, nbytes: int) -> tuple[int, bytes]:
    """Encode an image at the highest quality whose file has at most `nbytes` bytes.

    Arguments:
        encode: the codec.
        image: the image.
        nbytes: the largest size of the file in bytes.

    Returns the quality, 1 to 100, and the file. The quality is 1 if even that file is larger than `nbytes`.
    """
    low, high, best = 1, 100, b""
    while low < high:  # a binary search, since the size nearly always rises with the quality
        middle = (low + high + 1) // 2
        file = encode(image, middle)
        if len(file) <= nbytes:
            low, best = middle, file
        else:
            high = middle - 1
    return low, best or encode(image, low)


def decode_pixels(data: bytes) -> U8Array:
    """Return the RGB pixels of an image file, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
