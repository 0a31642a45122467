"""The files below a service's root: a folder of this machine, or a location that fsspec opens."""

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
MAX_NAME = 255  # bytes of a file or folder name
CONTROLS = {chr(code) for code in range(32)} | {"\x7f"}
FORBIDDEN = {"\0"} if os.sep == "/" else set('\\:*?"<>|') | CONTROLS  # in names of local files
FORBIDDEN_REMOTE = set('\\:*?"<>|%#') | CONTROLS  # in names of other locations, where they may be syntax
NOT_FOUND_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
NOT_FOUND_ERRNOS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ}
VERSION_KEYS = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "ukey")  # of fsspec's file info


class FileStore:
    """The `.sdt` files below a root. No name leads out of the root.

    Arguments:
        root: a folder of this machine, or an fsspec location.

    Raises:
        DeviceError: a library for the location is missing.
        ValueError: the local folder does not exist.
    """

    def __init__(self, root: str) -> None:
        try:
            from sdtrt.dataset.sources import resolve_location

            self._files, self._root = resolve_location(root)
        except ImportError as error:
            raise DeviceError(f"{root} cannot be opened: {error}; install it: {install_command('serve')}") from error
        self._is_local = "file" in _protocols(self._files)
        if self._is_local and not Path(self._root).is_dir():
            raise ValueError(f"--root {printable(root)}: no such folder")

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, str]]:
        """Open a file, and yield its stream and its version.

        Arguments:
            name: the file's path below the root; bytes that are not UTF-8 are lone surrogates, as by `os.fsdecode`.

        Raises:
            ProblemError: 404, there is no such file; 502, the location cannot be read.
        """
        path = self._path(name)
        with _errors_as_problems(name):
            stream, version = _open_local(path) if self._is_local else self._open_remote(path, name)
        with stream:
            yield cast(BinaryIO, _CheckedFile(stream, name)), version

    def _open_remote(self, path: str, name: str) -> tuple[BinaryIO, str]:
        info = self._files.info(path)
        if info["type"] != "file":
            raise _not_found(name)
        return self._files.open(path, "rb"), repr([info.get(key) for key in VERSION_KEYS])

    def _path(self, name: str) -> str:
        """Return the path of a file; `ProblemError` 404 if its name is not allowed or leads out of the root."""
        forbidden = FORBIDDEN if self._is_local else FORBIDDEN_REMOTE
        if not name.endswith(SUFFIX) or not all(_is_allowed(part, forbidden) for part in name.split("/")):
            raise _not_found(name)
        if not self._is_local and without_surrogates(name) != name:
            raise _not_found(name)
        # A local name is bytes. The locale's encoding may differ from UTF-8.
        local_name = os.fsdecode(name.encode("utf-8", "surrogateescape")) if self._is_local else name
        path = f"{self._root.rstrip('/')}/{local_name}"
        if self._is_local and not _is_within(path, self._root):
            raise _not_found(name)
        return path


def _open_local(path: str) -> tuple[BinaryIO, str]:
    """Return the stream and the version of a local file; `FileNotFoundError` unless it is a regular file."""
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would block
        raise FileNotFoundError(path)
    stream = Path(path).open("rb")  # noqa: SIM115  # the caller closes it
    status = os.fstat(stream.fileno())
    return stream, repr((status.st_mtime_ns, status.st_ino, status.st_size))


class _CheckedFile:
    """A stream whose errors become `ProblemError`s, because a remote location may fail while a file is read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name

    def read(self, count: int = -1) -> bytes:
        with _errors_as_problems(self._name):
            return self._stream.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _errors_as_problems(self._name):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _errors_as_problems(name: str) -> Iterator[None]:
    """Turn the errors of a location into `ProblemError`s."""
    try:
        yield
    except ProblemError:
        raise
    except Exception as error:  # libraries of fsspec raise errors of their own
        if isinstance(error, NOT_FOUND_ERRORS) or getattr(error, "errno", None) in NOT_FOUND_ERRNOS:
            raise _not_found(name) from error
        log.warning("%s cannot be read", printable(name), exc_info=error)
        raise ProblemError(502, "the files cannot be read at the moment") from error


def _is_allowed(part: str, forbidden: set[str]) -> bool:
    return (
        part not in {"", ".", ".."}
        and len(part.encode("utf-8", "surrogateescape")) <= MAX_NAME
        and not forbidden & set(part)
    )


def _not_found(name: str) -> ProblemError:
    return ProblemError(404, f"there is no file '{printable(name[:200])}'")


def _is_within(path: str, root: str) -> bool:
    """Return whether a path is below a folder after all links are resolved."""
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
