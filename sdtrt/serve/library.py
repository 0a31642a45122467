"""The files under a service's root: a folder of this machine, or any location that fsspec opens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sdtrt.errors import DeviceError
from sdtrt.serve.problems import ProblemError

SUFFIX = ".sdt"
LONGEST_NAME = 255  # bytes, of a file or folder
FORBIDDEN = set('\\:*?"<>|') | {chr(code) for code in range(32)} | {"\x7f"}


class Library:
    """`.sdt` files by their names below a root, which no name leads out of."""

    def __init__(self, root: str) -> None:
        """Open a root; `DeviceError` if this machine cannot, `ValueError` if it is no folder."""
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(root)
        except ImportError as error:
            raise DeviceError(f"{root} cannot be opened: {error}; install with: pip install 'sdtrt[serve]'") from error
        self._local = "file" in _protocols(self._files)
        if self._local and not Path(self._root).is_dir():
            raise ValueError(f"--root {root}: no such folder")

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Yield a file, of which only what is needed is read; a `ProblemError` if there is none of that name."""
        path = self._path_of(name)
        try:
            with self._files.open(path, "rb") as stream:
                yield stream
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise _missing(name) from error
        except OSError as error:
            raise ProblemError(502, "the files cannot be read at the moment") from error

    def _path_of(self, name: str) -> str:
        parts = name.split("/")
        if not name.endswith(SUFFIX) or not all(map(_is_plain, parts)):
            raise _missing(name)
        path = f"{self._root.rstrip('/')}/{name}"
        if self._local and not _is_within(path, self._root):
            raise _missing(name)
        return path


def _is_plain(part: str) -> bool:
    return part not in {"", ".", ".."} and len(part.encode()) <= LONGEST_NAME and not FORBIDDEN & set(part)


def _missing(name: str) -> ProblemError:
    return ProblemError(404, f"there is no file {name[:200]!r}")


def _is_within(path: str, root: str) -> bool:
    """Return whether a path, links followed, leads to a place below a folder."""
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
