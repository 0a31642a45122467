"""Opening and loading image files with Pillow: any size within the limits, and one kind of error."""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

from sdtrt.engine.format.limits import Limits, checked_limits
from sdtrt.errors import LimitError, SdtrtError
from sdtrt.images.sources import FilePath


class _PillowLimit:
    """Pillow's own limit of pixels. All threads share it, so while they read it is the highest of their limits."""

    def __init__(self) -> None:
        self._lock, self._usual = Lock(), Image.MAX_IMAGE_PIXELS
        self._active: list[float] = []

    @contextmanager
    def __call__(self, limits: Limits | None) -> Iterator[None]:
        # Pillow warns above its limit and fails above twice that. A warning is of no use beside `LimitError`.
        bound = math.inf if limits is None else 2 * limits.max_pixels
        with self._lock:
            if not self._active:
                self._usual = Image.MAX_IMAGE_PIXELS
            self._active.append(bound)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._active.remove(bound)
                self._apply()

    def _apply(self) -> None:
        highest = max(self._active, default=None)
        if highest is None:
            Image.MAX_IMAGE_PIXELS = self._usual
        else:
            Image.MAX_IMAGE_PIXELS = None if highest == math.inf else int(highest)


_pillow_limit = _PillowLimit()


@contextmanager
def reading(limits: Limits | None = None) -> Iterator[None]:
    """Run Pillow's readers within a limit of pixels, and raise `ValueError` for errors of a damaged image.

    Errors of the operating system, `MemoryError`, warnings that are errors, errors of sdtrt and
    `UnidentifiedImageError` pass unchanged. `limits` None sets no limit.
    """
    try:
        with _pillow_limit(limits):
            yield
    except (MemoryError, SdtrtError, UnidentifiedImageError, Warning):
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(
            f"a frame of the image is too large: {error}; the limit can be raised (--max-pixels)"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"damaged image: {cause_of(error)}") from error


def cause_of(error: Exception) -> str:
    """Return the message of an error, with its type where the message alone is not clear."""
    words, kind = str(error), type(error).__name__
    if words and isinstance(error, OSError | SyntaxError | ValueError):
        return words
    return f"{kind}: {words}" if words else kind


def open_any_size(file: FilePath | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image file, but do not load its pixels.

    Arguments:
        file: the path of an image file, or its stream.
        formats: Pillow's names of the formats that are tried. Default None: all.

    The number of pixels is not checked; see `check_size`.

    Raises:
        ValueError: the file is damaged.
        PIL.UnidentifiedImageError: the file has none of the formats.
        OSError: the file cannot be read.
    """
    if isinstance(file, str | os.PathLike):
        file = os.fsdecode(file)  # raises `TypeError` for an object that names no path
    with reading():
        return Image.open(file, formats=formats)


def load(image: Image.Image, limits: Limits) -> None:
    """Load the pixels of an image; `ValueError` if they are damaged, `LimitError` if they exceed `limits`."""
    check_size(*image.size, limits)
    with reading(limits):
        image.load()
    check_size(*image.size, limits)


def seek(image: Image.Image, frame: int, limits: Limits) -> None:
    """Make a frame of an image, counted from 0, the current one.

    Raises `ValueError` if the frame is missing or damaged, `LimitError` if the image exceeds `limits`.
    """
    check_size(*image.size, limits)
    try:
        with reading(limits):
            image.seek(frame)
    except ValueError as error:
        if isinstance(error.__cause__, EOFError):
            raise ValueError(f"has no frame {frame}") from error
        raise


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise `LimitError` if an image has more pixels than `limits`."""
    if width * height > checked_limits(limits).max_pixels:
        raise size_error(width, height, limits)


def size_error(width: int, height: int, limits: Limits) -> LimitError:
    return LimitError(f"the image has {width}x{height} pixels; the limit is {limits.max_pixels} (--max-pixels)")


def frames_of(image: Image.Image, limits: Limits) -> int:
    """Return the number of an image's frames, and keep its current frame.

    Raises:
        ValueError: a frame is damaged.
        FrameLostError: a frame is damaged, and the reader cannot return to the current frame.
    """
    current, shape = image.tell(), (image.size, image.mode)
    try:
        with reading(limits):
            return int(getattr(image, "n_frames", 1))
    except ValueError:
        seek(image, current, limits)
        if (image.size, image.mode) != shape:
            raise FrameLostError("damaged image: the frames after this one cannot be read") from None
        raise


class FrameLostError(ValueError):
    """The reader cannot return to the current frame, because a later frame is damaged."""


def is_file_image(image: Image.Image) -> bool:
    """Return whether an image still has the pixels of its file, and is not turned, cropped or copied."""
    return isinstance(image, ImageFile.ImageFile)


@contextmanager
def raw_file(image: Image.Image) -> Iterator[IO[bytes]]:
    """Yield the file that an image was opened from, at its start; an empty stream if the file is gone."""
    stream, name = getattr(image, "fp", None), getattr(image, "filename", "")
    if stream is not None and not stream.closed and stream.seekable():
        position = stream.tell()
        try:
            stream.seek(0)
            yield stream
        finally:
            stream.seek(position)
    else:
        with _reopened(Path(os.fsdecode(name))) as reopened:
            yield reopened


def _reopened(path: Path) -> IO[bytes]:
    """Open a file; return an empty stream if the file is gone or unreadable."""
    try:
        return path.open("rb") if path.is_file() else io.BytesIO()
    except OSError:
        return io.BytesIO()
