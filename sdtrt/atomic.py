"""Writing to a file name: what the name stands for, and how it gets its bytes.

All code that writes to a name which a user chose goes through this module. The rules are those of `cp`:

- Symbolic links are followed and stay. The target of a dangling link is created.
- Devices, pipes and open file descriptors (`/dev/stdout`, `/dev/fd/3`) are written through.
- A regular file is replaced at once by a complete one, which keeps its mode, owner, group and access list.
- A regular file is written in place if it has several hard links, or if it cannot be replaced.

Nothing is written to a name before all bytes for it are known.
"""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

MAX_LINKS = 40  # that lead from one to the next, as Linux has it
IN_MEMORY = 1 << 27  # bytes that are collected in memory; more of them go to a temporary file
COPIED = 1 << 20  # bytes that are copied at once
STANDARD_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
OWN_DESCRIPTORS = re.compile(r"/(?:dev|proc/(?:self|thread-self|(\d+)(?:/task/\d+)?))/fd")
ACCESS_LIST = "system.posix_acl_access"
# Errors of writing by which a file has no place on its disk. The system does not say the name of the file.
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
# Errors by which a folder or a file system refuses a new file, its mode, its owner or its renaming.
REFUSALS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "EXDEV", "EBUSY", "EINVAL"),
        *("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENAMETOOLONG", "ETXTBSY"),
    )
    if hasattr(errno, name)
)


@dataclass(frozen=True, slots=True)
class Output:
    """A file name to write to.

    Attributes:
        path: the name behind all links.
        descriptor: the open file descriptor of this process that the name stands for, or None.
        status: the status of the file that exists under `path`, or None.
        replaceable: whether a file may take the place of `path` by renaming.
    """

    path: Path
    descriptor: int | None = None
    status: os.stat_result | None = None
    replaceable: bool = True

    @property
    def is_stream(self) -> bool:
        """Whether bytes are written through: to a descriptor, a device or a pipe."""
        return self.descriptor is not None or (self.status is not None and not stat.S_ISREG(self.status.st_mode))

    @property
    def is_in_place(self) -> bool:
        """Whether the file under `path` is written to, and not replaced by another one."""
        return self.is_stream or not self.replaceable or (self.status is not None and self.status.st_nlink > 1)

    @property
    def is_file(self) -> bool:
        """Whether a regular file exists, which would lose what it holds."""
        return self.status is not None and not self.is_stream


def output_of(path: Path) -> Output:
    """Return what a file name stands for; `OSError` for a loop of links, or a link that must not be followed."""
    here = path
    for _ in range(MAX_LINKS + 1):
        folder = os.path.realpath(here.parent)
        if (number := descriptor_of(str(here), folder)) is not None:
            return Output(here, number)
        if OWN_DESCRIPTORS.fullmatch(folder):  # of another process: its links have no text to follow
            return Output(here, status=_status(here), replaceable=False)
        if not here.is_symlink():
            return Output(here, status=_status(here))
        _check_link(here, folder)
        here = Path(folder, here.readlink())
    raise OSError(errno.ELOOP, "a loop of symbolic links; name a file that is none", str(path))


def descriptor_of(name: str, folder: str | None = None) -> int | None:
    """Return the descriptor of this process that a name stands for, or None; `folder` is that of the name, resolved."""
    parent, _, base = name.rpartition("/")
    if parent == "/dev" and base in STANDARD_STREAMS:
        return STANDARD_STREAMS[base]
    if not re.fullmatch(r"\d{1,9}", base, re.ASCII):
        return None
    match = OWN_DESCRIPTORS.fullmatch(parent) or OWN_DESCRIPTORS.fullmatch(folder or "")
    return int(base) if match and match[1] in {None, str(os.getpid())} else None


def is_standard_input(name: str) -> bool:
    """Return whether a name stands for standard input, as `/dev/stdin` does."""
    try:
        return output_of(Path(name)).descriptor == 0
    except OSError:
        return False


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_link(path: Path, folder: str) -> None:
    """Raise `PermissionError` for a link that Linux would not follow (`fs.protected_symlinks`)."""
    if hasattr(os, "geteuid") and not may_follow(path.lstat(), Path(folder).stat(), os.geteuid()):
        raise PermissionError(
            errno.EACCES, "a symbolic link of another user in a folder that all users share; remove it", str(path)
        )


def may_follow(link: os.stat_result, folder: os.stat_result, user: int) -> bool:
    """Return whether a user may follow a link: in a folder that all share only their own, or those of its owner."""
    shared = stat.S_ISVTX | stat.S_IWOTH
    return folder.st_mode & shared != shared or link.st_uid in {user, folder.st_uid}


def check_output(path: Path) -> Output:
    """Return what a file name stands for; `OSError` if it cannot be written to. To be asked before long work."""
    output = output_of(path)
    name = str(path)
    if output.descriptor is not None:
        _check_descriptor(output.descriptor, name)
    elif output.status is None:
        check_folder(output.path.parent)
    elif stat.S_ISDIR(output.status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", name)
    elif stat.S_ISSOCK(output.status.st_mode):
        raise OSError(errno.ENXIO, "is a socket, which cannot be opened by its name; name a file or a pipe", name)
    elif not os.access(output.path, os.W_OK) and (output.is_in_place or not os.access(output.path.parent, os.W_OK)):
        _require_writable_system(output.path.parent, name)
        raise PermissionError(errno.EACCES, "permission denied: this user may not write it", name)
    return output


def _require_writable_system(folder: Path, name: str) -> None:
    """Raise `OSError` if a folder is on a file system that nobody can write to."""
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, "is on a read-only file system; name an output elsewhere", name)


def check_folder(folder: Path) -> None:
    """Raise `OSError` if no file can be created in a folder; to be asked before long work."""
    name = str(folder)
    if not folder.exists():
        raise FileNotFoundError(errno.ENOENT, "no such folder; create it first", name)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder; name another one", name)
    if not os.access(folder, os.W_OK | os.X_OK):
        _require_writable_system(folder, name)
        raise PermissionError(errno.EACCES, "permission denied: this user may not create files in this folder", name)


def check_new_folder(folder: Path) -> None:
    """Raise `OSError` if no file can be created in a folder, which may have to be created with those above it."""
    check_folder(next(path for path in (folder, *folder.absolute().parents) if path.exists()))


def _check_descriptor(descriptor: int, name: str) -> None:
    """Raise `OSError` if a descriptor is not open for writing."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    if descriptor < len(streams) and streams[descriptor] is None:  # the number may be that of another file by now
        raise OSError(errno.EBADF, "this standard stream is closed", name)
    try:
        import fcntl

        writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except ImportError:  # not a Unix
        writable = True
    except OSError as error:
        raise OSError(errno.EBADF, "no file is open under this descriptor", name) from error
    if not writable:
        raise OSError(errno.EBADF, "this descriptor is open for reading only", name)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write bytes to a file name as the rules of this module say; `OSError` where the disk refuses."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; when the block ends well, its bytes go to `path` as the rules of this module say.

    When the block fails, `path` stays as it was, and nothing is left beside it.
    """
    try:
        yield from _replacing(path)
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


def _replacing(path: Path) -> Iterator[BinaryIO]:
    output = output_of(path)
    temporary = _temporary_beside(output)
    if temporary is None:
        import tempfile

        with tempfile.SpooledTemporaryFile(IN_MEMORY) as collected:
            yield cast(BinaryIO, collected)
            collected.seek(0)
            _write_in_place(output, cast(BinaryIO, collected))
        return
    handle, name = temporary
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _rename(name, output)
    finally:
        name.unlink(missing_ok=True)


def _temporary_beside(output: Output) -> tuple[int, Path] | None:
    """Return a new file beside an output, opened, and its name; None if the output is written in place.

    The kernel gives a file for a new name its usual mode. A file for an existing name is its owner's alone at first.
    """
    if output.is_in_place:
        return None
    mode = 0o666 if output.status is None else 0o600
    while True:
        name = output.path.parent / f".sdtrt-{os.urandom(8).hex()}"
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            return os.open(name, flags, mode), name
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno in REFUSALS:
                return None
            error.filename = str(output.path)
            raise


def _rename(temporary: Path, output: Output) -> None:
    """Give a complete file the name of an output; write in place if the file system refuses."""
    kept = output.status is None or _keep_attributes(temporary, output.path, output.status)
    try:
        if kept or not os.access(output.path, os.W_OK):
            temporary.replace(output.path)
            return
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    with temporary.open("rb") as file:
        _write_in_place(output, file)


def _keep_attributes(temporary: Path, path: Path, status: os.stat_result) -> bool:
    """Give a file the owner, group, mode and access list of another one; return whether all of them were kept.

    At no time may anyone read the file who may not read the other one.
    """
    mode = stat.S_IMODE(status.st_mode)
    new = temporary.stat()
    try:
        if (new.st_uid, new.st_gid) != (status.st_uid, status.st_gid):
            os.chown(temporary, status.st_uid, status.st_gid)
        _keep_access_list(temporary, path)
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        both = mode & mode >> 3 & 0o007  # group and others have changed places: they get what both had
        with suppress(OSError):
            temporary.chmod(mode & 0o700 | both << 3 | both)
        return False
    return True


def _keep_access_list(temporary: Path, path: Path) -> None:
    if not hasattr(os, "listxattr"):
        return
    try:
        lists = [ACCESS_LIST in os.listxattr(name) for name in (temporary, path)]
    except OSError:  # a file system without extended attributes
        return
    if lists[1]:
        os.setxattr(temporary, ACCESS_LIST, os.getxattr(path, ACCESS_LIST))
    elif lists[0]:  # by default in this folder
        os.removexattr(temporary, ACCESS_LIST)


def _write_in_place(output: Output, source: BinaryIO) -> None:
    """Copy a complete file to an output that is not replaced."""
    if output.is_stream:
        _write_through(output, source)
        return
    from concurrent.futures import ThreadPoolExecutor

    # An interrupt reaches the main thread alone: what has begun is completed.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_overwrite, output, source).result()


def _write_through(output: Output, source: BinaryIO) -> None:
    if output.descriptor is None:
        handle = os.open(output.path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    else:
        _check_descriptor(output.descriptor, str(output.path))
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # what was printed comes first
        handle = os.dup(output.descriptor)
    with os.fdopen(handle, "wb") as through:
        shutil.copyfileobj(source, through, COPIED)


def _overwrite(output: Output, source: BinaryIO) -> None:
    """Write over a regular file, or create one; a new file that cannot be completed is removed."""
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0)
    before = output.status.st_size if output.status else 0
    nbytes = source.seek(0, os.SEEK_END)
    source.seek(0)
    handle = os.open(output.path, flags if output.status else flags | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            _reserve(handle, before, nbytes)
            shutil.copyfileobj(source, file, COPIED)
            file.truncate(nbytes)
    except BaseException:
        if output.status is None:
            output.path.unlink(missing_ok=True)
        raise


def _reserve(handle: int, before: int, nbytes: int) -> None:
    """Make a file longer, so that a full disk is noticed before anything in it is overwritten."""
    if nbytes <= before or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, before, nbytes - before)
    except OSError as error:
        os.ftruncate(handle, before)
        if error.errno in FULL:
            raise
