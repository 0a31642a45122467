"""What commands open: models and images, as their options say, and what is not installed with every sdtrt."""

import argparse
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from PIL import Image, UnidentifiedImageError

from sdtrt.cli.files import read_input
from sdtrt.codec import Codec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import DeviceError
from sdtrt.images.opening import open_any_size, seek
from sdtrt.progress import TileBar


def open_codec(model: str, options: argparse.Namespace) -> Codec:
    return Codec.open(model, **machine_options(options), report=TileBar(quiet=options.quiet))


@contextmanager
def opened_codecs(options: argparse.Namespace) -> Iterator[Callable[[str], Codec]]:
    """Yield a function that returns the codec of a model, by name or folder; each is opened once, and closed here."""
    with ExitStack() as stack:
        yield cache(lambda model: stack.enter_context(open_codec(model, options)))


def machine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a codec is to know of the machine, as `add_machine` asks for it."""
    return {name: getattr(options, name) for name in ("device", "backend", "threads", "precision", "tile", "overlap")}


def limits_of(options: argparse.Namespace) -> Limits:
    return Limits(max_pixels=options.max_pixels)


def open_image(source: str, frame: int, limits: Limits) -> Image.Image:
    """Return an image, opened; frames are counted from 0, and of several the first is taken with a warning."""
    try:
        image = open_any_size(io.BytesIO(read_input(source)))
    except UnidentifiedImageError as error:
        raise ValueError("not an image file that Pillow knows") from error
    if frame:
        seek(image, frame, limits)
    return image


def check_roi(options: argparse.Namespace, _target: str) -> None:
    """Raise `OSError` or `ValueError` if the mask that `--roi` names is not there, or is no image."""
    if options.roi is not None and isinstance(options.roi[0], str):
        try:
            open_any_size(options.roi[0]).close()
        except UnidentifiedImageError as error:
            raise ValueError(f"--roi {options.roi[0]}: not an image file that Pillow knows") from error


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn the failure of an import into `DeviceError` that says which extra to install."""
    try:
        yield
    except ImportError as error:
        raise DeviceError(
            f"this needs libraries that are not installed ({error}): pip install 'sdtrt[cpu,{name}]'"
        ) from error
