"""The files under a service's root: a folder of this machine, or any location that fsspec opens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from sdtrt.errors import DeviceError, install_command
from sdtrt.serve.problems import ProblemError, log

SUFFIX = ".sdt"
LONGEST_NAME = 255  # bytes, of a file or folder
FORBIDDEN = set('\\:*?"<>|') | {chr(code) for code in range(32)} | {"\x7f"}
FORBIDDEN_ELSEWHERE = FORBIDDEN | {"%", "#"}  # what they stand for in URLs
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
VERSIONS = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "ukey")  # what tells one from the next


class Shelf:
    """`.sdt` files by their names below a root, which no name leads out of."""

    def __init__(self, root: str) -> None:
        """Open a root; `DeviceError` if this machine cannot, `ValueError` if it is no folder."""
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(root)
        except ImportError as error:
            raise DeviceError(f"{root} cannot be opened: {error}; install it: {install_command('serve')}") from error
        self._local = "file" in _protocols(self._files)
        if self._local and not Path(self._root).is_dir():
            raise ValueError(f"--root {root}: no such folder")

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, str]]:
        """Yield a file, of which only what is needed is read, and what tells its version; a `ProblemError` if none."""
        path = self._path_of(name)
        with _reach(name):
            about = self._files.info(path)
            if about["type"] != "file" or (self._local and not Path(path).is_file()):
                raise _missing(name)
            stream = self._files.open(path, "rb")
        with stream:
            yield cast(BinaryIO, _Reached(stream, name)), repr([about.get(key) for key in VERSIONS])

    def _path_of(self, name: str) -> str:
        parts = name.split("/")
        forbidden = FORBIDDEN if self._local else FORBIDDEN_ELSEWHERE
        if not name.endswith(SUFFIX) or not all(_is_plain(part, forbidden) for part in parts):
            raise _missing(name)
        path = f"{self._root.rstrip('/')}/{name}"
        if self._local and not _is_within(path, self._root):
            raise _missing(name)
        return path


class _Reached:
    """A file whose location may fail while it is read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name

    def read(self, count: int = -1) -> bytes:
        with _reach(self._name):
            return self._stream.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _reach(self._name):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _reach(name: str) -> Iterator[None]:
    """Turn what a location raises into a `ProblemError`."""
    try:
        yield
    except ProblemError:
        raise
    except MISSING as error:
        raise _missing(name) from error
    except Exception as error:  # of whatever library reads there
        log.warning("%s cannot be read", name, exc_info=error)
        raise ProblemError(502, "the files cannot be read at the moment") from error


def _is_plain(part: str, forbidden: set[str]) -> bool:
    return part not in {"", ".", ".."} and len(part.encode()) <= LONGEST_NAME and not forbidden & set(part)


def _missing(name: str) -> ProblemError:
    return ProblemError(404, f"there is no file {name[:200]!r}")


def _is_within(path: str, root: str) -> bool:
    """Return whether a path, links followed, leads to a place below a folder."""
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
