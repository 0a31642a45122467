"""Where a file's bytes come from: memory, a path, or a stream."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sdtrt.engine.format import container
from sdtrt.engine.format.arguments import value_text
from sdtrt.engine.format.container import File
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import FormatError

FilePath = str | os.PathLike[str]
Source = bytes | FilePath | BinaryIO


@contextmanager
def opened(source: Source, name: str = "source") -> Iterator[bytes | BinaryIO]:
    """Yield the bytes of a source, or a stream from which callers read only the parts that they need.

    Arguments:
        source: bytes; the path of a file, which is opened and closed again; or a binary stream. A stream is read from
            its position to its end, as by `numpy.load` and `tarfile`, and is put back afterwards. A stream that cannot
            seek is read at once. An object that is both a stream and a path is taken as a stream.
        name: the name of the argument, for messages.

    The file begins at position 0 of the stream that is yielded.

    Raises:
        TypeError: the source is of another type, or a stream of text.
        ValueError: the stream is closed, or is open for writing only.
        OSError: the file cannot be opened.
        FormatError: the stream is at its end.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif hasattr(source, "read") and (hasattr(source, "seek") or not isinstance(source, os.PathLike)):
        yield from _open_stream(cast(BinaryIO, source), name)
    elif isinstance(source, str | os.PathLike):
        with Path(os.fsdecode(source)).open("rb") as stream:
            yield from _open_stream(stream, name)
    else:
        raise TypeError(f"{name} is {value_text(source)}, expected bytes, a path, or a binary stream")


def parse(content: bytes | BinaryIO, limits: Limits, *, lazily: bool = False) -> File:
    """Parse the content of a source.

    Arguments:
        content: the bytes of a file, or a stream.
        limits: bounds of what the file may ask for.
        lazily: whether the segments of a stream are read when they are needed. The stream must then stay open.

    Raises:
        FormatError, LimitError: as of `container.read`.
    """
    if lazily:
        return container.read_from(io.BytesIO(content) if isinstance(content, bytes) else content, limits)
    return container.read(content if isinstance(content, bytes) else content.read(), limits)


def bytes_of(source: Source, name: str = "source") -> bytes:
    """Return all bytes of a source."""
    with opened(source, name) as content:
        return content if isinstance(content, bytes) else content.read()


def _open_stream(stream: BinaryIO, name: str) -> Iterator[bytes | BinaryIO]:
    """Yield a stream from its position, or its bytes if it cannot seek; `FormatError` if it is at its end."""
    _require_readable(stream, name)
    try:
        start = _seek(stream, 0, io.SEEK_CUR)
    except (AttributeError, OSError):
        yield _require_bytes(stream.read())
        return
    end = _seek(stream, 0, io.SEEK_END)
    stream.seek(start)
    if start == end > 0:
        raise FormatError(f"nothing to read: the stream is at its end, byte {end}; call seek(0) first")
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
    """A stream that begins at the position `start` of another one."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream, self._start = stream, start

    def read(self, nbytes: int = -1) -> bytes:
        """Return the next `nbytes` bytes; all remaining bytes for -1."""
        return _require_bytes(self._stream.read(nbytes))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        return _seek(self._stream, offset + self._start * (whence == io.SEEK_SET), whence) - self._start


def _seek(stream: BinaryIO, offset: int, whence: int) -> int:
    """Move a stream and return its position, also where its `seek` returns None."""
    position: int | None = stream.seek(offset, whence)
    return stream.tell() if position is None else position


def _require_bytes(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the stream gives {type(data).__name__}, expected bytes; open the file in mode 'rb'")
    return bytes(data)
