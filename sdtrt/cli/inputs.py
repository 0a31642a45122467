"""What commands open: models and images, as their options say, and what is not installed with every sdtrt."""

import argparse
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from PIL import Image, UnidentifiedImageError

from sdtrt.cli.files import read_input
from sdtrt.codec import Codec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import DeviceError, install_command
from sdtrt.images.picture import open_any_size
from sdtrt.progress import TileBar


def open_codec(model: str, options: argparse.Namespace) -> Codec:
    return Codec.open(model, **machine_options(options), report=TileBar(quiet=options.quiet))


def machine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a codec is to know of the machine, as `add_machine` asks for it."""
    return {name: getattr(options, name) for name in ("device", "backend", "threads", "precision", "tile", "overlap")}


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


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn the failure of an import into `DeviceError` that says which extra to install."""
    try:
        yield
    except ImportError as error:
        raise missing_libraries(name, str(error)) from error


def require_libraries(name: str, modules: Sequence[str]) -> None:
    """Raise `DeviceError` if one of the modules of an extra is not there to import; none is imported."""
    missing = [module for module in modules if not find_spec(module)]
    if missing:
        raise missing_libraries(name, f"no module {', '.join(missing)}")


def missing_libraries(name: str, text: str) -> DeviceError:
    """Return the error for libraries of an extra that are missing; no second ONNX Runtime is named beside a first."""
    runtime = () if find_spec("onnxruntime") else ("cpu",)
    return DeviceError(f"this needs libraries that are not installed ({text}): {install_command(*runtime, name)}")
