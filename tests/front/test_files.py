"""Where outputs go, and that each appears whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from sdtrt.cli.files import prepare_outputs, read_input, write_output


def test_beside_the_input() -> None:
    assert prepare_outputs(["a.png", "d/b.tar.png", "c"], None, ".sdt") == ["a.sdt", str(Path("d/b.tar.sdt")), "c.sdt"]
    assert prepare_outputs(["-"], None, ".sdt") == ["-"]


def test_one_file(tmp_path: Path) -> None:
    assert prepare_outputs(["a.png"], "b.sdt", ".sdt") == ["b.sdt"]
    assert prepare_outputs(["a.png"], "-", ".sdt") == ["-"]
    assert prepare_outputs(["x/a.png"], str(tmp_path), ".sdt") == [str(tmp_path / "a.sdt")]


def test_into_a_folder(tmp_path: Path) -> None:
    for folder in (str(tmp_path), "not/there/yet"):
        assert prepare_outputs(["a.png", "x/b.jpg"], folder, ".sdt") == [
            str(Path(folder, n)) for n in ("a.sdt", "b.sdt")
        ]


@pytest.mark.parametrize(
    ("sources", "output"),
    [(["a.png", "a.jpg"], None), (["x/a.png", "y/a.png"], "folder"), (["-", "-"], None), (["a.png", "b.png"], "-")],
)
def test_outputs_that_coincide(sources: list[str], output: str | None) -> None:
    with pytest.raises(ValueError, match=r"several inputs"):
        prepare_outputs(sources, output, ".sdt")


def test_write(tmp_path: Path) -> None:
    path = tmp_path / "out.sdt"
    write_output(str(path), b"one", force=False)
    with pytest.raises(FileExistsError, match="--force"):
        write_output(str(path), b"two", force=False)
    assert read_input(str(path)) == b"one"
    write_output(str(path), b"two", force=True)
    assert read_input(str(path)) == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["out.sdt"]


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_output(str(tmp_path / "ours"), b"", force=False)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "out.sdt"
    path.write_bytes(b"old")

    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(error):
        write_output(str(path), b"new", force=True)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.sdt"]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        write_output(str(tmp_path / "missing" / "a.sdt"), b"", force=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_written_to_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(str(pipe), b"through", force=True)
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_output(str(tmp_path), b"", force=True)
