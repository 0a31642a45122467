"""Image files, opened, counted and loaded by Pillow: any size that the limits allow, and one kind of error."""

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
from sdtrt.sources import FilePath


class _PillowLimit:
    """Pillow's own limit of pixels, which is one for all threads: while they read, the highest of their limits."""

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
    """Run Pillow's readers: with these limits of pixels, and with `ValueError` for whatever they raise.

    The operating system's errors, `MemoryError`, warnings that are errors, and errors of sdtrt pass unchanged. So does
    `UnidentifiedImageError`. None is without a limit.
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
    """Return an error in words, with its type where the words alone are not enough."""
    words, kind = str(error), type(error).__name__
    if words and isinstance(error, OSError | SyntaxError | ValueError):
        return words
    return f"{kind}: {words}" if words else kind


def open_any_size(file: FilePath | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Return an image, opened but not loaded.

    Arguments:
        file: the path of an image file, or its stream.
        formats: Pillow's names of the formats that are tried; None is all.

    Raises `ValueError` if the file is damaged, `PIL.UnidentifiedImageError` if it is of no such format, `OSError` if
    it cannot be read. `check_size` checks the number of pixels.
    """
    with reading():
        return Image.open(file, formats=formats)


def load(image: Image.Image, limits: Limits) -> None:
    """Load the pixels of an image; `ValueError` if they are damaged, `LimitError` if they exceed `limits`."""
    check_size(image, limits)
    with reading(limits):
        image.load()
    check_size(image, limits)


def seek(image: Image.Image, frame: int, limits: Limits) -> None:
    """Make a frame of an image, counted from 0, the current one.

    Raises `ValueError` if the frame is missing or damaged, `LimitError` if the image exceeds `limits`.
    """
    check_size(image, limits)
    try:
        with reading(limits):
            image.seek(frame)
    except ValueError as error:
        if isinstance(error.__cause__, EOFError):
            raise ValueError(f"has no frame {frame}") from error
        raise


def check_size(image: Image.Image, limits: Limits) -> None:
    """Raise `LimitError` if an image has more pixels than `limits`."""
    if image.width * image.height > checked_limits(limits).max_pixels:
        raise LimitError(
            f"the image has {image.width}x{image.height} pixels; the limit is {limits.max_pixels} (--max-pixels)"
        )


def frames_of(image: Image.Image, limits: Limits) -> int:
    """Return the number of an image's frames; `ValueError` if a damaged frame hinders the count.

    The current frame stays the current one. Raises `FrameLostError` if that is impossible.
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
    """A damaged frame hinders the reader from coming back to the current one."""


def is_file_image(image: Image.Image) -> bool:
    """Return whether the pixels of an image are those of its file: nobody has turned, cropped or copied them."""
    return isinstance(image, ImageFile.ImageFile)


@contextmanager
def raw_file(image: Image.Image) -> Iterator[IO[bytes]]:
    """Yield the file that an image was opened from, at its start; an empty one if it is no longer at hand."""
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
    """Return a file, opened; an empty one if there is none any more, or this user may not read it."""
    try:
        return path.open("rb") if path.is_file() else io.BytesIO()
    except OSError:
        return io.BytesIO()
