"""What commands open: models and images, as their options say."""

import argparse
import io

from PIL import Image, UnidentifiedImageError

from sdtrt.cli.files import read_input
from sdtrt.codec import Codec
from sdtrt.engine.format.limits import Limits
from sdtrt.images.picture import open_any_size
from sdtrt.progress import TileBar


def open_codec(model: str, options: argparse.Namespace) -> Codec:
    return Codec.open(
        model,
        device=options.device,
        backend=options.backend,
        threads=options.threads,
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        report=TileBar(quiet=options.quiet),
    )


def limits_of(options: argparse.Namespace) -> Limits:
    return Limits(max_pixels=options.max_pixels)


def open_image(source: str, frame: int) -> Image.Image:
    """Return an image, opened; frames are counted from 0, and of several the first is taken with a warning."""
    try:
        image = open_any_size(io.BytesIO(read_input(source)))
    except UnidentifiedImageError as error:
        raise ValueError("not an image file that Pillow knows") from error
    if frame:
        try:
            image.seek(frame)
        except EOFError as error:
            raise ValueError(f"has no frame {frame}") from error
    return image
