"""Image files as bytes, for those who have no command line to say what they want: a service, a dataset."""

import io

from PIL import Image, features

from sdtrt.images.metadata import save_options
from sdtrt.images.opening import open_any_size

# Of what Pillow reads, images of cameras and of the web; none that starts other programs.
Image.init()
FORMATS = tuple(
    name for name in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000") if name in Image.OPEN
)
NAMES = {"image/png": "PNG", "image/webp": "WEBP", "image/avif": "AVIF", "image/jpeg": "JPEG"}
SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/avif": "avif", "image/jpeg": "jpg"}
KINDS = tuple(kind for kind in NAMES if kind != "image/avif" or features.check("avif"))  # that can be written
LARGEST_SIDES = {"image/png": 1 << 31, "image/webp": 16383, "image/avif": 32768, "image/jpeg": 65500}  # pixels
LOSSY_QUALITY = 90


def image_of_bytes(data: bytes) -> Image.Image:
    """Return an image, opened; `PIL.UnidentifiedImageError` if it is of no format in `FORMATS`."""
    return open_any_size(io.BytesIO(data), FORMATS)


def picture_file(image: Image.Image, kind: str) -> bytes:
    """Return an image as a file of a media type; JPEG, which has no alpha channel, lies on white."""
    name = NAMES[kind]
    if name == "JPEG" and image.mode in {"LA", "RGBA"}:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")
        image.info = opaque.info
    options = save_options(image, name) | ({} if name == "PNG" else {"quality": LOSSY_QUALITY})
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()
