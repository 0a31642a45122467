"""Where a file's bytes come from: memory, a path, or an object with `read` and `seek`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sdtrt.engine.format.arguments import shown

Source = bytes | str | Path | BinaryIO


@contextmanager
def opened(source: Source, name: str = "source") -> Iterator[bytes | BinaryIO]:
    """Yield bytes, or a stream of which only what is needed is read; a path is opened and closed again.

    `name` is that of the argument, for the `TypeError` if it is nothing of the kind.
    """
    if isinstance(source, str | Path):
        with Path(source).open("rb") as stream:
            yield stream
    elif isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif hasattr(source, "read") and hasattr(source, "seek"):
        yield source
    else:
        raise TypeError(f"{name} is {shown(source)}, expected bytes, a path, or an object with read and seek")


def bytes_of(source: Source, name: str = "source") -> bytes:
    """Return all bytes of a source."""
    with opened(source, name) as found:
        if isinstance(found, bytes):
            return found
        found.seek(0)
        return found.read()
