"""Other codecs, at a quality of 1 to 100 or at the quality that comes nearest to a number of bytes."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Encode = Callable[[Image.Image, int], bytes]


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Progressive, optimised tables, colour at half resolution."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True, progressive=True, subsampling="4:2:0")
    return stream.getvalue()


def webp(image: Image.Image, quality: int) -> bytes:
    """The slowest, smallest method."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=6)
    return stream.getvalue()


def avif(image: Image.Image, quality: int) -> bytes:
    """libavif through Pillow, speed 4 of 10."""
    stream = io.BytesIO()
    image.save(stream, "AVIF", quality=quality, speed=4)
    return stream.getvalue()


def jpeg_xl(image: Image.Image, quality: int) -> bytes:
    """libjxl through imagecodecs, effort 7 of 9; qualities below 30 by libjxl's own rule for distances."""
    import imagecodecs  # here, since the tables of small things need not have it

    distance = 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), distance=distance, effort=7))


RIVALS: dict[str, Encode] = {"JPEG": jpeg, "WebP": webp}
ALL_RIVALS: dict[str, Encode] = {**RIVALS, "AVIF": avif, "JPEG XL": jpeg_xl}


def at_bytes(encode: Encode, image: Image.Image, nbytes: int) -> tuple[int, bytes]:
    """Return (quality, file) of the largest file of at most `nbytes`, or of the smallest there is."""
    low, high = 1, 100
    while low < high:  # size rises with quality, but for a few bytes
        middle = (low + high + 1) // 2
        if len(encode(image, middle)) <= nbytes:
            low = middle
        else:
            high = middle - 1
    return low, encode(image, low)


def decoded(data: bytes) -> Pixels:
    """Return the RGB pixels of an image file's bytes, uint8 (H, W, 3)."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def psnr(original: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pictures over all samples, in dB."""
    error = np.mean((original.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
