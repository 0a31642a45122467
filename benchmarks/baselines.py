"""The codecs that sdtrt is compared with: sdtrt's own wrappers of Pillow's, and JPEG XL through imagecodecs."""

import io
from functools import partial

import numpy as np
from PIL import Image

from sdtrt.compare import baselines as pillow_codecs
from sdtrt.compare.baselines import EncodeAtQuality, encode_within

__all__ = ["ALL_CODECS", "PILLOW_CODECS", "EncodeAtQuality", "decode_rgb", "encode_within"]

JPEG_XL_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL ")


def jpeg_xl(image: Image.Image, quality: int) -> bytes:
    """EncodeAtQuality by libjxl at effort 7 of 9; qualities below 30 follow libjxl's own rule for distances."""
    import imagecodecs  # not needed for `make demo`

    distance = 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), distance=distance, effort=7))


def avif(image: Image.Image, quality: int, *, speed: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "AVIF", quality=quality, speed=speed)
    return stream.getvalue()


PILLOW_CODECS: dict[str, EncodeAtQuality] = {name: pillow_codecs.BASELINES[name] for name in ("JPEG", "WebP")}
ALL_CODECS: dict[str, EncodeAtQuality] = {**pillow_codecs.BASELINES, "JPEG XL": jpeg_xl}
VARIANTS: dict[str, EncodeAtQuality] = {
    "AVIF 4:4:4": pillow_codecs.avif_444,
    "AVIF, speed 4": partial(avif, speed=4),
    "AVIF, speed 0": partial(avif, speed=0),
}


def decode_rgb(data: bytes) -> np.ndarray:
    """Return the RGB pixels of a file of any of these codecs, uint8 (H, W, 3)."""
    if data.startswith(JPEG_XL_SIGNATURES):
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data))
    return pillow_codecs.decode_pixels(data)
