"""The other codecs that sdtrt is measured beside."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt.compare import baselines
from sdtrt.compare.baselines import EncodeAtQuality, encode_within
from sdtrt.engine.image import psnr

__all__ = ["ALL_RIVALS", "RIVALS", "decoded", "encode_within", "psnr"]


def jpeg_xl(image: Image.Image, quality: int) -> bytes:
    """libjxl through imagecodecs, effort 7 of 9; qualities below 30 by libjxl's own rule for distances."""
    import imagecodecs  # here, since the tables of small things need not have it

    distance = 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), distance=distance, effort=7))


RIVALS: dict[str, EncodeAtQuality] = {name: baselines.BASELINES[name] for name in ("JPEG", "WebP")}
ALL_RIVALS: dict[str, EncodeAtQuality] = {**baselines.BASELINES, "JPEG XL": jpeg_xl}


def decoded(data: bytes) -> NDArray[np.uint8]:
    """Return the RGB pixels of an image file's bytes, uint8 (H, W, 3)."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data))
    return baselines.decode_pixels(data)
