"""Images to the bytes of image files."""

import io

from PIL import Image

from sdtrt.images.losses import warn
from sdtrt.images.media_types import NAMES, PNG_LEVEL
from sdtrt.images.metadata import save_options

LOSSY_FORMATS = ("JPEG", "WEBP", "AVIF", "MPO", "PDF")  # Pillow's names of formats whose writers take a quality
OPAQUE_FORMATS = {"JPEG", "MPO"}  # without an alpha channel
LOSSY_QUALITY = 90


def check_output_quality(name: str, quality: int | None) -> None:
    """Raise `ValueError` if a format, by Pillow's name, does not have this quality."""
    if quality is None:
        return
    if name not in LOSSY_FORMATS:
        raise ValueError(f"an output quality of {quality} for {name}, which is lossless; expected JPEG, WebP or AVIF")
    if type(quality) is not int or not 1 <= quality <= 100:
        raise ValueError(f"an output quality of {quality!r}, expected a whole number from 1 to 100")


def image_file(image: Image.Image, name: str, quality: int | None = None, png_level: int = PNG_LEVEL) -> bytes:
    """Return an image as the bytes of an image file, with as much of its metadata as the format can hold.

    Arguments:
        image: of mode L, LA, RGB or RGBA. JPEG has no alpha channel: the image is composited on white, and an
            `ImageWarning` is given.
        name: Pillow's name of the format.
        quality: int, 1 to 100, for JPEG, WebP and AVIF only. Default None: 90.
        png_level: int, 0 to 9, zlib's level of compression in PNG files. Drawings get smaller by a high level.

    Raises `ValueError` for a quality that the format does not have, and what Pillow's writer raises.
    """
    check_output_quality(name, quality)
    if name in OPAQUE_FORMATS and image.mode in {"LA", "RGBA"}:
        image = on_white(image)
        warn(f"the alpha channel is dropped: {name} has none; the image is composited on white")
    options = save_options(image, name)
    if name in LOSSY_FORMATS:
        options["quality"] = LOSSY_QUALITY if quality is None else quality
    elif name == "PNG":
        options["compress_level"] = png_level
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def image_file_of_type(image: Image.Image, kind: str, quality: int | None = None) -> bytes:
    """Return an image as a file of a media type, as `image_file` does."""
    return image_file(image, NAMES[kind], quality)


def on_white(image: Image.Image) -> Image.Image:
    """Composite an image on white; return the image itself if it has no alpha channel."""
    if image.mode not in {"LA", "RGBA"}:
        return image
    translucent = image.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", image.size, "white"), translucent)
    opaque = opaque.convert("L" if image.mode == "LA" else "RGB")
    opaque.info = translucent.info
    return opaque
