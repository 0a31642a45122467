"""Models and images that commands open; the estimated time of a search."""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from sdtrt.cli.files import check_not_input, read_input
from sdtrt.cli.parsers.arguments import machine_options
from sdtrt.codec import Codec
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format import container
from sdtrt.engine.format.container import MAGIC
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.gradient_search import ITERATIONS_BY_EFFORT
from sdtrt.engine.networks.bundle import find_bundle_for
from sdtrt.errors import SdtrtError
from sdtrt.images.opening import open_any_size, seek
from sdtrt.images.sources import Source, bytes_of, opened, parse
from sdtrt.process.streams import print_message
from sdtrt.process.text import printable
from sdtrt.progress import Clock, TileProgress, clear_bar

PROBE_SIDE = 64  # pixels of the image that the time of a search is measured on
TRIALS_OF_SEARCH = 4  # files that a search for a size or a PSNR makes, about


def open_codec(model: str, options: argparse.Namespace) -> Codec:
    report, single_call = TileProgress(quiet=options.quiet), len(options.inputs) == 1
    return Codec(EngineCodec(model, **machine_options(options), report=report, single_call=single_call))


@contextmanager
def opened_codecs(options: argparse.Namespace) -> Iterator[Callable[[str], Codec]]:
    """Yield a function that returns the codec of a model, by name or folder; each is opened once, and closed here."""
    with ExitStack() as stack:
        yield cache(lambda model: stack.enter_context(open_codec(model, options)))


def find_model(source: Source, *, partial: bool, limits: Limits) -> str:
    """Return the folder of the first model that decodes a file; `partial` allows a damaged one."""
    if partial:
        return str(find_bundle_for(container.salvage(bytes_of(source), limits).file).folder)
    with opened(source) as content:
        return str(find_bundle_for(parse(content, limits, lazily=not isinstance(content, bytes))).folder)


class SearchCost:
    """Prints an estimate of the time that a high effort takes, on standard error, before the search starts.

    The time is measured once, on a small synthetic image, and grows with the number of pixels.

    Arguments:
        encode: encodes an image at an effort.
        effort: int, 1 to 9. Nothing is printed for an effort without a search.
        trials: int, the number of files that will be made of each image.
        quiet: bool, whether to print nothing.
        clock: returns the time in seconds. Default: `time.perf_counter`.
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
        """Return the cost for the options of `encode`."""
        searched = any(options is not None for options in (options.max_bytes, options.bpp, options.target_psnr))

        def encode(image: Image.Image, effort: int) -> object:
            return codec.encode(image, quality=options.quality, effort=effort, layers=options.layers)

        quiet = options.quiet or options.method != "latents"
        return cls(encode, options.effort, trials=TRIALS_OF_SEARCH if searched else 1, quiet=quiet)

    def say(self, source: str, width: int, height: int) -> None:
        """Print the estimated time for an image, if the image is large."""
        if self._silent or width * height <= (2 * PROBE_SIDE) ** 2:
            return
        seconds = self._per_pixel() * width * height * self._trials
        text = f"{printable(source)}: {width}x{height} pixels at effort {self._effort}"
        clear_bar()
        print_message(
            f"{text}, this takes about {duration_text(seconds)}" if seconds else f"{text}: this may take minutes"
        )

    def _per_pixel(self) -> float:
        """Return the seconds per pixel; 0 if the networks refuse the small image, as engines of a fixed size do."""
        if self._seconds_per_pixel is None:
            y, x = np.mgrid[:PROBE_SIDE, :PROBE_SIDE]
            planes = np.stack([96 + x, 64 + 2 * y, 128 + 40 * np.sin(x / 3) * np.cos(y / 5)], axis=2)
            image = Image.fromarray(planes.astype(np.uint8))
            try:
                self._encode(image, 1)  # loads the networks
                started = self._clock()
                self._encode(image, self._effort)
                self._seconds_per_pixel = (self._clock() - started) / PROBE_SIDE**2
            except SdtrtError:
                self._seconds_per_pixel = 0.0
        return self._seconds_per_pixel


def duration_text(seconds: float) -> str:
    """Return a duration as text in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


def open_image(source: str, frame: int, limits: Limits) -> Image.Image:
    """Open an image file at a frame, counted from 0."""
    data = read_input(source)
    if data.startswith(MAGIC):  # Pillow opens such a file, too, once its plugin is imported
        raise ValueError("an .sdt file, expected an image file; decode it with sdtrt decode")
    try:
        image = open_any_size(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ValueError("not an image file that Pillow can read") from error
    if frame:
        seek(image, frame, limits)
    return image


def check_roi(options: argparse.Namespace, target: str) -> None:
    """Raise `OSError` or `ValueError` if the mask of `--roi` is missing, is not an image, or is the output."""
    if isinstance(options.roi, str):
        check_not_input(options.roi, target)
        try:
            open_any_size(options.roi).close()
        except UnidentifiedImageError as error:
            raise ValueError(f"--roi {options.roi}: not an image file that Pillow can read") from error
