"""Where a file's bytes come from: memory, a path, or a stream."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sdtrt.engine.format.arguments import value_text
from sdtrt.errors import FormatError

FilePath = str | os.PathLike[str]
Source = bytes | FilePath | BinaryIO


@contextmanager
def opened(source: Source, name: str = "source") -> Iterator[bytes | BinaryIO]:
    """Yield the bytes of a source, or a stream of which only what is needed is read.

    Arguments:
        source: bytes; the path of a file, which is opened and closed again; or a binary stream. A stream is read from
            where it stands to its end, as by `numpy.load` and `tarfile`, and stands there again afterwards. One that
            cannot seek is read at once. An object that is both a stream and a path is taken as a stream.
        name: the argument, for messages.

    Position 0 of the stream that is yielded is where the file begins. Raises `TypeError` for anything else,
    `ValueError` for a stream that is closed or cannot be read, `OSError` if the file cannot be opened, and
    `FormatError` for a stream that stands at its end.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif hasattr(source, "read") and (hasattr(source, "seek") or not isinstance(source, os.PathLike)):
        yield from _of_stream(cast(BinaryIO, source), name)
    elif isinstance(source, str | os.PathLike):
        with Path(os.fsdecode(source)).open("rb") as stream:
            yield from _of_stream(stream, name)
    else:
        raise TypeError(f"{name} is {value_text(source)}, expected bytes, a path, or a binary stream")


def bytes_of(source: Source, name: str = "source") -> bytes:
    """Return all bytes of a source."""
    with opened(source, name) as found:
        return found if isinstance(found, bytes) else found.read()


def _of_stream(stream: BinaryIO, name: str) -> Iterator[bytes | BinaryIO]:
    """Yield a stream from where it stands, or its bytes if it cannot seek; `FormatError` if it stands at its end."""
    _require_readable(stream, name)
    try:
        start = _moved(stream, 0, io.SEEK_CUR)
    except (AttributeError, OSError):
        yield _checked(stream.read())
        return
    end = _moved(stream, 0, io.SEEK_END)
    stream.seek(start)
    if start == end > 0:
        raise FormatError(f"nothing to read: the stream stands at its end, byte {end}; call seek(0) first")
    try:
        yield cast(BinaryIO, StreamFrom(stream, start))
    finally:
        if not getattr(stream, "closed", False):
            stream.seek(start)


def _require_readable(stream: BinaryIO, name: str) -> None:
    """Raise `ValueError` or `TypeError` for a stream from which no bytes can be read."""
    if getattr(stream, "closed", False) is True:
        raise ValueError(f"{name} is a closed file, expected an open one; open it again, or pass its path")
    if isinstance(stream, io.TextIOBase):
        raise TypeError(f"{name} is a stream of text, expected bytes; open the file in mode 'rb'")
    if isinstance(stream, io.IOBase) and not stream.readable():
        raise ValueError(f"{name} is a file that is open for writing only; open it in mode 'rb'")


class StreamFrom:
    """A stream from a position on, which is 0 here."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream, self._start = stream, start

    def read(self, nbytes: int = -1) -> bytes:
        """Return the next bytes, all that are left for -1."""
        return _checked(self._stream.read(nbytes))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        return _moved(self._stream, offset + self._start * (whence == io.SEEK_SET), whence) - self._start


def _moved(stream: BinaryIO, offset: int, whence: int) -> int:
    """Move a stream and return where it stands, which `seek` of some classes does not say."""
    position: int | None = stream.seek(offset, whence)
    return stream.tell() if position is None else position


def _checked(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the stream gives {type(data).__name__}, expected bytes; open the file in mode 'rb'")
    return bytes(data)
