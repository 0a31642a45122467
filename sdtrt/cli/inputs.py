"""What commands open: models and images, as their options say, and what is not installed with every sdtrt.

Also the time that a search will take, measured before it starts.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sdtrt.cli.files import check_not_input, read_input
from sdtrt.codec import Codec
from sdtrt.engine.format.container import MAGIC
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.gradient_search import ITERATIONS_BY_EFFORT
from sdtrt.errors import DeviceError, SdtrtError
from sdtrt.images.opening import open_any_size, seek
from sdtrt.process.install import install_command
from sdtrt.process.streams import print_message
from sdtrt.process.text import printable
from sdtrt.progress import Clock, TileProgress, clear_bar

PROBE_SIDE = 64  # pixels of the image that the time of a search is measured on
TRIALS_OF_SEARCH = 4  # files that a search for a size or a PSNR makes, about


def open_codec(model: str, options: argparse.Namespace) -> Codec:
    return Codec.open(model, **machine_options(options), report=TileProgress(quiet=options.quiet))


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


class SearchCost:
    """Says on standard error about how long the search of a high effort will take, before it starts.

    The time is measured once, on a small image made of numbers, and grows with the number of pixels.

    Arguments:
        encode: encodes an image at an effort.
        effort: int, 1 to 9; those that do not search cost nothing that is worth a line.
        trials: int, how many files will be made of each image.
        quiet: bool, whether nothing is to be said.
        clock: gives the time in seconds; default: `time.perf_counter`.
    """

    def __init__(
        self,
        encode: Callable[[Image.Image, int], object],
        effort: int,
        *,
        trials: int,
        quiet: bool,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._encode, self._effort, self._trials, self._clock = encode, effort, trials, clock
        self._silent = quiet or effort not in ITERATIONS_BY_EFFORT
        self._seconds_per_pixel: float | None = None

    @classmethod
    def of(cls, codec: Codec, options: argparse.Namespace) -> "SearchCost":
        """Return the cost of what the options of `encode` ask for."""
        searched = any(options is not None for options in (options.bytes, options.bpp, options.target_psnr))

        def encode(image: Image.Image, effort: int) -> object:
            return codec.encode(image, quality=options.quality, effort=effort, layers=options.layers)

        quiet = options.quiet or options.method != "latents"
        return cls(encode, options.effort, trials=TRIALS_OF_SEARCH if searched else 1, quiet=quiet)

    def say(self, source: str, width: int, height: int) -> None:
        """Print the time for an image, if it is large enough for that to matter."""
        if self._silent or width * height <= (2 * PROBE_SIDE) ** 2:
            return
        seconds = self._per_pixel() * width * height * self._trials
        text = f"{printable(source)}: {width}x{height} pixels at effort {self._effort}"
        clear_bar()
        print_message(f"{text}, this takes about {in_units(seconds)}" if seconds else f"{text}: this may take minutes")

    def _per_pixel(self) -> float:
        """Return the seconds for a pixel, 0 where networks refuse the small image, as engines of one size do."""
        if self._seconds_per_pixel is None:
            y, x = np.mgrid[:PROBE_SIDE, :PROBE_SIDE]
            planes = np.stack([96 + x, 64 + 2 * y, 128 + 40 * np.sin(x / 3) * np.cos(y / 5)], axis=2)
            image = Image.fromarray(planes.astype(np.uint8))
            try:
                self._encode(image, 1)  # what is prepared at first use
                started = self._clock()
                self._encode(image, self._effort)
                self._seconds_per_pixel = (self._clock() - started) / PROBE_SIDE**2
            except SdtrtError:
                self._seconds_per_pixel = 0.0
        return self._seconds_per_pixel


def in_units(seconds: float) -> str:
    """Return a duration in seconds, of several minutes in minutes, of several hours in hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


def open_image(source: str, frame: int, limits: Limits) -> Image.Image:
    """Return an image, opened; frames are counted from 0, and of several the first is taken with a warning."""
    data = read_input(source)
    if data.startswith(MAGIC):  # Pillow opens it, too, once its plugin is imported
        raise ValueError("an .sdt file, expected an image file; sdtrt decode makes one of it")
    try:
        image = open_any_size(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ValueError("not an image file that Pillow knows") from error
    if frame:
        seek(image, frame, limits)
    return image


def check_roi(options: argparse.Namespace, target: str) -> None:
    """Raise `OSError` or `ValueError` if the mask that `--roi` names is not there, no image, or the output."""
    if options.roi is not None and isinstance(options.roi[0], str):
        check_not_input(options.roi[0], target)
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
