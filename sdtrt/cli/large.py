"""`encode` and `decode` of large images by rows, without holding the whole image in memory."""

import argparse
import warnings
from pathlib import Path

from PIL import UnidentifiedImageError

from sdtrt.atomic import replacing
from sdtrt.cli.files import is_file, require_writable
from sdtrt.cli.inputs import SearchCost
from sdtrt.cli.parsers.arguments import limits_of
from sdtrt.codec import Codec
from sdtrt.errors import DeviceError, ImageWarning
from sdtrt.file_info import size_of
from sdtrt.images.rows import LARGE, rows_of_file, write_png


def encode_rows(codec: Codec, source: str, options: argparse.Namespace, cost: SearchCost) -> bytes | None:
    """Encode a large image by rows; return None if it is not large, or an option needs the whole image."""
    searched = (options.max_bytes, options.bpp, options.target_psnr, options.roi)
    if (
        not is_file(source)
        or options.frame
        or options.method != "latents"
        or any(options is not None for options in searched)
    ):
        return None
    try:
        rows = rows_of_file(Path(source), strip=options.strip, limits=limits_of(options))
    except UnidentifiedImageError:
        return None  # reported when the image is opened as a whole
    except DeviceError as error:
        _warn_of_memory(error)
        return None
    if rows is None:
        return None
    if options.layers == 2:
        warnings.warn(
            "large image, read by rows: encoded without layers, as with --layers 1", ImageWarning, stacklevel=2
        )
    cost.say(source, rows.width, rows.height)
    return codec.encode_rows(
        rows.bands,
        rows.width,
        rows.height,
        quality=options.quality,
        effort=options.effort,
        grey=rows.grey,
        metadata=rows.metadata,
    )


def decode_rows(codec: Codec, source: bytes | Path, target: str, options: argparse.Namespace) -> tuple[int, int] | None:
    """Write a large image as PNG by rows and return its size; return None if it must be decoded as a whole."""
    parts = (options.region, options.preview, options.partial)
    if isinstance(source, bytes) or Path(target).suffix.lower() != ".png" or any(parts) or options.denoise != "auto":
        return None
    about = size_of(source, limits=limits_of(options))
    if about.width * about.height <= LARGE or about.channels in {2, 4}:
        return None
    try:
        require_writable(target, force=options.force)
        with replacing(Path(target)) as stream:
            rows = codec.decode_rows(source, look=options.look, limits=limits_of(options))
            write_png(stream, about.width, about.height, rows, grey=about.channels == 1, level=options.png_level)
    except DeviceError as error:
        _warn_of_memory(error)
        return None
    if not options.strip:
        warnings.warn("an image this large is written without metadata", ImageWarning, stacklevel=2)
    return about.width, about.height


def _warn_of_memory(error: DeviceError) -> None:
    warnings.warn(f"the image is held whole in memory: {error}", ImageWarning, stacklevel=3)
