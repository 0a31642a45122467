"""Image files of requests and datasets: the formats of cameras and of the web. All modules of Pillow are imported."""

import io

from PIL import Image, features

from sdtrt.images.media_types import NAMES
from sdtrt.images.opening import open_any_size

# Formats whose readers start other programs are left out.
Image.init()
FORMATS = tuple(
    name for name in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000") if name in Image.OPEN
)
KINDS = tuple(kind for kind in NAMES if kind != "image/avif" or features.check("avif"))  # that can be written
MAX_SIDES = {"image/png": 1 << 31, "image/webp": 16383, "image/avif": 32768, "image/jpeg": 65500}  # pixels


def image_of_bytes(data: bytes) -> Image.Image:
    """Open an image file; `PIL.UnidentifiedImageError` if its format is not in `FORMATS`."""
    return open_any_size(io.BytesIO(data), FORMATS)
