"""Command lines of people in a hurry: each mistake is refused in words, before any work, and changes no file."""

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.atomic import check_folder, check_output


def main(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3))
    image.save("photo.png")
    Path("photo.sdt").write_bytes(sdtrt.encode(image))
    np.save("photo.npy", np.zeros((40, 4, 5), np.float32))
    Path("holiday").mkdir()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("encode photo.png -o new.jpg", "new.jpg would be an .sdt file with the name of a JPEG file"),
        ("encode photo.png -o photo.png --force", "photo.png: the output photo.png is the input photo.png"),
        ("encode --from-latents photo.npy -o new.WEBP", "new.WEBP would be an .sdt file with the name of a WEBP file"),
        ("encode photo.sdt", "photo.sdt: the output photo.sdt is the input photo.sdt; name another file"),
        ("decode photo.png", "photo.png: the output photo.png is the input photo.png; name another file"),
        ("encode photo.sdt -o new.sdt", "photo.sdt: an .sdt file, expected an image file; decode it with sdtrt decode"),
        (
            "compare photo.sdt -o new.html",
            "photo.sdt: an .sdt file, expected an image file; decode it with sdtrt decode",
        ),
        ("encode holiday", "holiday: a directory, expected a file"),
        ("decode holiday", "holiday: a directory, expected a file"),
        ("info holiday", "holiday: a directory, expected a file"),
        (
            "decode photo.sdt --region 41x9+0+0 -o new.png",
            "region 41x9+0+0 is not within the image, which is 40x30; expected width and height of at least 1",
        ),
    ],
)
def test_command_that_mixes_files_up_says_so_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    before = contents(folder)
    assert main(*line.split()) == 1
    assert words in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["new.sdt", "new", "new.bin", "new.sdt.part"])
def test_encode_into_names_of_no_image_writes_the_file(folder: Path, name: str) -> None:
    assert main("encode", "photo.png", "-o", name) == 0
    assert Path(name).read_bytes().startswith(b"SDT")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("encode photo.png --max-bytes 2kB", "argument --max-bytes: '2kB', expected a whole number"),
        ("encode photo.png -q high", "argument -q/--quality: 'high', expected a number"),
        ("encode photo.png --bpp x", "argument --bpp: 'x', expected a number"),
        ("decode photo.sdt --output-quality x", "argument --output-quality: 'x', expected a whole number"),
        ("serve --port http", "argument --port: 'http', expected a whole number"),
        ("serve --timeout 1h", "argument --timeout: '1h', expected a number"),
    ],
)
def test_option_that_is_no_number_says_what_is_expected(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert main(*line.split()) == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="statvfs is of POSIX")
@pytest.mark.parametrize("flag", [0, 1])
def test_check_output_on_a_read_only_file_system_names_the_cause(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    (folder / "old").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flag * os.ST_RDONLY))
    code, words = (errno.EROFS, "read-only file system") if flag else (errno.EACCES, "permission denied")
    for check, path in ((check_folder, folder), (check_output, folder / "new"), (check_output, folder / "old")):
        with pytest.raises(OSError, match=words) as raised:
            check(path)
        assert raised.value.errno == code
