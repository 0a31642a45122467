"""What a file name gets that is written to: links, descriptors, devices, existing files, odd file systems."""

import _thread
import errno
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from environment import file_name

from sdtrt import atomic
from sdtrt.atomic import check_folder, check_new_folder, check_output, may_follow, output_of, replace_file, replacing

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="links, modes and descriptors of POSIX")
pytestmark = POSIX


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """The function that sets the mask of new files; it is set back at the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_half(path: Path, error: BaseException) -> NoReturn:
    """Begin to write to a file name, and fail."""
    with replacing(path) as file:
        file.write(b"half of the new bytes")
        raise error


def refusing(code: int, original: Callable[..., Any] | None = None, name: str = "") -> Callable[..., Any]:
    """Return a function that fails as the system does, or only for a file whose name begins with `name`."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        if original is not None and not Path(arguments[0]).name.startswith(name):
            return original(*arguments, **options)
        raise OSError(code, os.strerror(code), str(arguments[0]))

    return refuse


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("target", ["store/file", "/store/file", "other/file", "again"])
def test_replace_file_link_is_kept_and_its_target_written(tmp_path: Path, target: str, dangling: bool) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "other").symlink_to("store")
    (tmp_path / "again").symlink_to("other/file")
    if not dangling:
        (tmp_path / "store" / "file").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(f"{tmp_path}{target}" if target.startswith("/") else target)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "store" / "file").read_bytes() == b"new"
    assert names(tmp_path / "store") == ["file"]
    assert names(tmp_path) == ["again", "link", "other", "store"]


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}, {str(n): str(n + 1) for n in range(60)}])
def test_replace_file_loop_of_links_is_refused(tmp_path: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    for call in (check_output, lambda path: replace_file(path, b"")):
        with pytest.raises(OSError, match="loop of symbolic links") as refused:
            call(tmp_path / next(iter(links)))
        assert refused.value.errno == errno.ELOOP
    assert names(tmp_path) == sorted(links)


def test_replace_file_dangling_link_into_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing/file")
    for call in (check_output, lambda path: replace_file(path, b"")):
        with pytest.raises(FileNotFoundError, match="missing"):
            call(tmp_path / "link")
    assert names(tmp_path) == ["link"]


def status(uid: int, bits: int) -> os.stat_result:
    return os.stat_result((bits, 0, 0, 1, uid, uid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("link", "folder", "bits", "allowed"),
    [
        (5, 0, 0o1777, True),  # their own
        (7, 7, 0o1777, True),  # of the owner of the folder
        (7, 0, 0o1777, False),  # of somebody else, where all may write
        (7, 0, 0o755, True),
        (7, 0, 0o777, True),
        (7, 0, 0o1755, True),
    ],
)
def test_may_follow_is_as_linux_decides(link: int, folder: int, bits: int, allowed: bool) -> None:
    assert may_follow(status(link, 0o777), status(folder, bits), 5) is allowed


def test_output_of_link_that_another_user_planted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("victim")
    monkeypatch.setattr(atomic, "may_follow", lambda *_: False)
    with pytest.raises(PermissionError, match="another user"):
        replace_file(tmp_path / "link", b"")
    assert names(tmp_path) == ["link"]


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o644, 0o666, 0o400, 0o755, 0o200])
def test_replacing_existing_file_keeps_its_mode_and_is_never_wider(
    tmp_path: Path, umask: Callable[[int], int], bits: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(bits)
    umask(0)
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        (temporary,) = (other for other in tmp_path.iterdir() if other != path)
        assert mode(temporary) == 0o600
    assert mode(path) == bits
    path.chmod(0o600)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("mask", "bits"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_replacing_new_file_has_the_usual_mode_from_the_start(
    tmp_path: Path, umask: Callable[[int], int], mask: int, bits: int
) -> None:
    umask(mask)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
        assert [mode(path) for path in tmp_path.iterdir()] == [bits]
    assert mode(tmp_path / "file") == bits
    assert umask(mask) == mask


class AccessLists:
    """Access lists of files, by inode, in place of those of a file system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: dict[int, bytes] = {}
        for name in ("listxattr", "getxattr", "setxattr", "removexattr"):
            monkeypatch.setattr(os, name, getattr(self, name), raising=False)

    def listxattr(self, path: Path) -> list[str]:
        return [atomic.ACCESS_LIST] if path.stat().st_ino in self.lists else []

    def getxattr(self, path: Path, _: str) -> bytes:
        return self.lists[path.stat().st_ino]

    def setxattr(self, path: Path, _: str, value: bytes) -> None:
        self.lists[path.stat().st_ino] = value

    def removexattr(self, path: Path, _: str) -> None:
        del self.lists[path.stat().st_ino]


def test_replacing_existing_file_keeps_its_access_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lists = tmp_path / "file", AccessLists(monkeypatch)
    path.write_bytes(b"old")
    lists.setxattr(path, "", b"a list")
    replace_file(path, b"new")
    assert lists.getxattr(path, "") == b"a list"


def test_replacing_existing_file_gets_no_access_list_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lists = tmp_path / "file", AccessLists(monkeypatch)
    path.write_bytes(b"old")
    with replacing(path):
        (temporary,) = (other for other in tmp_path.iterdir() if other != path)
        lists.setxattr(temporary, "", b"the default")
    assert lists.listxattr(path) == []


def test_replacing_access_list_that_cannot_be_set_is_kept_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lists = tmp_path / "file", AccessLists(monkeypatch)
    path.write_bytes(b"old")
    lists.setxattr(path, "", b"a list")
    monkeypatch.setattr(os, "setxattr", refusing(errno.ENOTSUP))
    replace_file(path, b"new")
    assert lists.getxattr(path, "") == b"a list"
    assert path.read_bytes() == b"new"


@pytest.fixture
def of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An existing file that seems to belong to another user and group."""
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    path.chmod(0o664)
    about = list(path.stat())
    about[4], about[5] = about[4] + 1, about[5] + 1
    monkeypatch.setattr(atomic, "_status", lambda _: os.stat_result(about))
    return path


def test_replacing_file_of_another_user_keeps_owner_and_group(
    of_another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = []
    monkeypatch.setattr(os, "chown", lambda path, *owner: changes.append((Path(path), *owner)))
    replace_file(of_another, b"new")
    ((temporary, *owner),) = changes
    assert temporary.parent == of_another.parent
    assert owner == [of_another.stat().st_uid + 1, of_another.stat().st_gid + 1]
    assert (of_another.read_bytes(), mode(of_another)) == (b"new", 0o664)


def test_replacing_file_whose_owner_cannot_be_kept_writes_in_place(
    of_another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = of_another.stat().st_ino
    monkeypatch.setattr(os, "chown", refusing(errno.EPERM))
    replace_file(of_another, b"new")
    assert (of_another.read_bytes(), mode(of_another)) == (b"new", 0o664)
    assert of_another.stat().st_ino == inode
    assert names(of_another.parent) == ["file"]


@pytest.mark.parametrize(("bits", "left"), [(0o664, 0o644), (0o660, 0o600), (0o604, 0o600), (0o755, 0o755)])
def test_replacing_read_only_file_of_another_user_gives_nobody_more(
    of_another: Path, monkeypatch: pytest.MonkeyPatch, bits: int, left: int
) -> None:
    about = list(atomic._status(of_another) or ())
    about[0] = stat.S_IFREG | bits
    monkeypatch.setattr(atomic, "_status", lambda _: os.stat_result(about))
    monkeypatch.setattr(os, "chown", refusing(errno.EPERM))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    replace_file(of_another, b"new")
    assert (of_another.read_bytes(), mode(of_another)) == (b"new", left)


@pytest.mark.parametrize("data", [b"new", b"longer than the old bytes are" * 1000, b""])
def test_replace_file_hard_links_are_not_cut(tmp_path: Path, data: bytes) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"the old bytes")
    path.chmod(0o640)
    os.link(path, other)
    replace_file(path, data)
    assert path.read_bytes() == other.read_bytes() == data
    assert path.samefile(other)
    assert mode(path) == 0o640
    assert names(tmp_path) == ["file", "other"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, ValueError])
@pytest.mark.parametrize("kind", ["new", "file", "hard link", "link", "dangling"])
def test_replacing_block_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException], kind: str) -> None:
    path = tmp_path / "file"
    if kind not in {"new", "dangling"}:
        path.write_bytes(b"old")
    if kind == "hard link":
        os.link(path, tmp_path / "other")
    if kind in {"link", "dangling"}:
        path, _ = tmp_path / "link", (tmp_path / "link").symlink_to("file")
    before = {other.name: other.read_bytes() for other in tmp_path.iterdir() if other.exists()}
    listing = names(tmp_path)
    with pytest.raises(error):
        write_half(path, error())
    assert names(tmp_path) == listing
    assert {other.name: other.read_bytes() for other in tmp_path.iterdir() if other.exists()} == before


def test_replacing_interrupt_while_written_in_place_completes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "file", shutil.copyfileobj
    path.write_bytes(b"old" * 100)
    os.link(path, tmp_path / "other")

    def interrupted(*arguments: Any) -> None:
        _thread.interrupt_main()
        copy(*arguments)

    monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file", "other"]


def test_replacing_full_disk_keeps_what_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.link(path, tmp_path / "other")
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.ENOSPC), raising=False)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"longer")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_replacing_file_system_that_cannot_reserve_space_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.link(path, tmp_path / "other")
    monkeypatch.setattr(os, "posix_fallocate", refusing(code), raising=False)
    replace_file(path, b"longer")
    assert path.read_bytes() == b"longer"


@pytest.mark.parametrize("text", ["n" * 255, "写" * 85, "é" * 127 + "x", "n" * 251 + ".sdt"])
def test_replace_file_name_of_255_bytes_is_written(tmp_path: Path, text: str) -> None:
    name = file_name(text)
    for data in (b"new", b"newer"):
        replace_file(tmp_path / name, data)
        assert (tmp_path / name).read_bytes() == data
    assert names(tmp_path) == [name]


REFUSALS = [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.ENOSYS]


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("call", ["chmod", "replace", "open"])
@pytest.mark.parametrize("exists", [False, True])
def test_replace_file_file_system_that_refuses_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], int], call: str, code: int, exists: bool
) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old, and longer than the new one")
        path.chmod(0o640)
    with monkeypatch.context() as patch:
        if call == "open":  # a folder in which no file can be created, but the existing one can be written
            patch.setattr(os, "open", refusing(code, os.open, ".sdtrt-"))
        else:
            patch.setattr(Path, call, refusing(code))
        replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == (0o640 if exists else 0o644)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["replace", "open"])
def test_replace_file_disk_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr(os, "open", refusing(code, os.open, ".sdtrt-"))
        else:
            patch.setattr(Path, call, refusing(code))
        with pytest.raises(OSError, match=os.strerror(code)):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_replace_file_new_file_that_cannot_be_completed_in_place_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, file: Any, *__: Any) -> NoReturn:
        file.write(b"half")
        raise OSError(errno.EIO, "the disk has gone")

    monkeypatch.setattr(Path, "replace", refusing(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="the disk has gone"):
        replace_file(tmp_path / "file", b"new")
    assert names(tmp_path) == []


DESCRIPTORS = [name for name in ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd") if Path(name).is_dir()]


@pytest.mark.parametrize("folder", DESCRIPTORS)
@pytest.mark.parametrize("linked", [False, True])
def test_replace_file_descriptor_is_written_at_its_position(tmp_path: Path, folder: str, linked: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("r+b", buffering=0) as file:
        file.seek(2)
        name = Path(folder, str(file.fileno()))
        if linked:
            (tmp_path / "link").symlink_to(name)
            name = tmp_path / "link"
        assert check_output(name).is_stream
        replace_file(name, b"ab")
        file.write(b"c")
        os.unlink(path)  # noqa: PTH108  (a file without a name is written, too)
        replace_file(name, b"d")
        file.seek(0)
        assert file.read() == b"01abcd6789"
    assert names(tmp_path) == ["link"] * linked


@pytest.mark.parametrize("folder", DESCRIPTORS)
def test_replace_file_descriptor_of_a_pipe_or_socket_is_written(folder: str) -> None:
    reading, writing = os.pipe()
    ours, theirs = socket.socketpair()
    try:
        replace_file(Path(folder, str(writing)), b"through")
        assert os.read(reading, 99) == b"through"
        replace_file(Path(folder, str(theirs.fileno())), b"through")
        assert ours.recv(99) == b"through"
    finally:
        os.close(reading)
        os.close(writing)
        ours.close()
        theirs.close()


def test_check_output_descriptor_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (tmp_path / "file").open("rb") as file:
        name = Path("/dev/fd", str(file.fileno()))
        for call in (check_output, lambda path: replace_file(path, b"")):
            with pytest.raises(OSError, match="reading only"):
                call(name)
    for call in (check_output, lambda path: replace_file(path, b"")):
        with pytest.raises(OSError, match="no file is open"):
            call(name)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_check_output_standard_output_that_is_closed_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OSError, match="is closed"):
        check_output(Path(name))


@pytest.mark.parametrize(
    ("name", "descriptor"),
    [
        ("/dev/stdin", 0),
        ("/dev/stdout", 1),
        ("/dev/stderr", 2),
        ("/dev/fd/17", 17),
        ("/proc/self/fd/5", 5),
        ("/proc/PID/fd/5", 5),
        ("/proc/PID/task/1/fd/5", 5),
        ("/dev/fd/x", None),
        ("/dev/fd/", None),
        ("/dev/fd", None),
        ("/dev/null", None),
        ("fd/1", None),
        ("stdout", None),
        ("./dev/stdout", None),
        ("/proc/0/fd/1", None),
        ("/dev/fd/٣", None),
    ],
)
def test_descriptor_of_names_of_descriptors_only(name: str, descriptor: int | None) -> None:
    assert atomic.descriptor_of(name.replace("PID", str(os.getpid()))) == descriptor


def test_replace_file_device_is_written_through() -> None:
    before = Path("/dev/null").stat()
    assert not check_output(Path("/dev/null")).is_file
    replace_file(Path("/dev/null"), b"gone")
    after = Path("/dev/null").stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_replace_file_named_pipe_is_written_through_and_not_before_all_is_known(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for name in ("pipe", "link"):
            with pytest.raises(ValueError, match="no more"):
                write_half(tmp_path / name, ValueError("no more"))
            replace_file(tmp_path / name, b"through")
            assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["link", "pipe"]


def test_check_output_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match="is a socket"):
            check_output(Path("socket"))


def test_check_output_says_what_is_wrong_with_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link"):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            check_output(tmp_path / name)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        check_output(tmp_path / "file" / "below")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_folder(tmp_path / "missing")
    check_new_folder(tmp_path / "missing" / "deep")
    with pytest.raises(NotADirectoryError):
        check_new_folder(tmp_path / "file" / "deep")
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match="create files in this folder"):
        check_output(tmp_path / "new")
    with pytest.raises(PermissionError, match="create files in this folder"):
        check_new_folder(tmp_path / "missing" / "deep")
    check_output(tmp_path / "file")  # is written in place


@pytest.mark.parametrize("hard", [False, True])
def test_check_output_read_only_file_is_replaced_but_not_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    if hard:
        os.link(path, tmp_path / "other")
    monkeypatch.setattr(os, "access", lambda name, *_, **__: Path(name) != path)
    if hard:
        with pytest.raises(PermissionError, match="this user may not write it"):
            check_output(path)
    else:
        check_output(path)


def test_output_of_file_of_another_process_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here")
    (tmp_path / "file").write_bytes(b"old and long")
    with (tmp_path / "file").open("r+b") as file:
        name = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        monkeypatch.setattr(os, "getpid", lambda: 1 << 30)  # so that the descriptor seems to be that of another one
        assert output_of(name).is_in_place
        replace_file(name, b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
@pytest.mark.parametrize("hard", [False, True])
def test_replace_file_without_place_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, hard: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    if hard:
        os.link(path, tmp_path / "other")

    def refuse(*_: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))  # without a name, as `write` raises it

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(OSError, match="file") as failed:
        replace_file(path, b"longer") if hard else write_half(path, OSError(code, os.strerror(code)))
    assert failed.value.filename == str(path)
    assert path.read_bytes() == b"old"
    with pytest.raises(OSError, match="of a source") as other:
        write_half(path, OSError(errno.EIO, "of a source"))
    assert other.value.filename is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_replace_file_full_device_is_named() -> None:
    with pytest.raises(OSError, match="No space left") as failed:
        replace_file(Path("/dev/full"), b"new")
    assert failed.value.filename == "/dev/full"
