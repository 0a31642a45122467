"""The files under a service's root: a folder of this machine, or any location that fsspec opens."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from sdtrt.errors import DeviceError
from sdtrt.process.install import install_command
from sdtrt.process.text import printable, without_surrogates
from sdtrt.serve.problems import ProblemError, log

SUFFIX = ".sdt"
MAX_NAME = 255  # bytes, of a file or folder
CONTROLS = {chr(code) for code in range(32)} | {"\x7f"}
FORBIDDEN = {"\0"} if os.sep == "/" else set('\\:*?"<>|') | CONTROLS  # in names of this machine's files
FORBIDDEN_ELSEWHERE = set('\\:*?"<>|%#') | CONTROLS  # and in those of other locations, where they may be syntax
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ}  # of the system's errors
VERSIONS = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "ukey")  # what tells one from the next


class Shelf:
    """`.sdt` files by their names below a root, which no name leads out of."""

    def __init__(self, root: str) -> None:
        """Open a root; `DeviceError` if this machine cannot, `ValueError` if it is no folder."""
        try:
            from sdtrt.dataset.sources import located

            self._files, self._root = located(root)
        except ImportError as error:
            raise DeviceError(f"{root} cannot be opened: {error}; install it: {install_command('serve')}") from error
        self._local = "file" in _protocols(self._files)
        if self._local and not Path(self._root).is_dir():
            raise ValueError(f"--root {printable(root)}: no such folder")

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, str]]:
        """Yield a file, of which only what is needed is read, and what tells its version; a `ProblemError` if none.

        A byte of the name that is not UTF-8 is a lone surrogate, as `os.fsdecode` has it.
        """
        path = self._path_of(name)
        with _reach(name):
            stream, version = _opened_here(path) if self._local else self._opened_elsewhere(path, name)
        with stream:
            yield cast(BinaryIO, _Reached(stream, name)), version

    def _opened_elsewhere(self, path: str, name: str) -> tuple[BinaryIO, str]:
        about = self._files.info(path)
        if about["type"] != "file":
            raise _missing(name)
        return self._files.open(path, "rb"), repr([about.get(key) for key in VERSIONS])

    def _path_of(self, name: str) -> str:
        forbidden = FORBIDDEN if self._local else FORBIDDEN_ELSEWHERE
        if not name.endswith(SUFFIX) or not all(_is_plain(part, forbidden) for part in name.split("/")):
            raise _missing(name)
        if not self._local and without_surrogates(name) != name:
            raise _missing(name)
        # On disk a name is bytes, whatever the locale takes them for.
        here = os.fsdecode(name.encode("utf-8", "surrogateescape")) if self._local else name
        path = f"{self._root.rstrip('/')}/{here}"
        if self._local and not _is_within(path, self._root):
            raise _missing(name)
        return path


def _opened_here(path: str) -> tuple[BinaryIO, str]:
    """Return a file of this machine, opened, and its version; `FileNotFoundError` if it is no regular file."""
    if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would wait for its other end
        raise FileNotFoundError(path)
    stream = Path(path).open("rb")  # noqa: SIM115  # the caller closes it
    about = os.fstat(stream.fileno())
    return stream, repr((about.st_mtime_ns, about.st_ino, about.st_size))


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
    except Exception as error:  # of whatever library reads there
        if isinstance(error, MISSING) or getattr(error, "errno", None) in NO_SUCH_NAME:
            raise _missing(name) from error
        log.warning("%s cannot be read", printable(name), exc_info=error)
        raise ProblemError(502, "the files cannot be read at the moment") from error


def _is_plain(part: str, forbidden: set[str]) -> bool:
    return (
        part not in {"", ".", ".."}
        and len(part.encode("utf-8", "surrogateescape")) <= MAX_NAME
        and not forbidden & set(part)
    )


def _missing(name: str) -> ProblemError:
    return ProblemError(404, f"there is no file '{printable(name[:200])}'")


def _is_within(path: str, root: str) -> bool:
    """Return whether a path, links followed, leads to a place below a folder."""
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
