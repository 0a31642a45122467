"""Names are data: no character in the path of an image or in a line of a list is special."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from environment import needs_names_in_utf_8

from sdtrt import cli
from sdtrt.dataset.runner import Summary
from sdtrt.dataset.sources import IMAGES, SDT_FILES, absolute_location, is_chained_url, list_samples, resolve_location

Running = Callable[..., Summary]

NAMES = [
    "photo",
    "photo #1.png",
    "#top.png",
    "what?.png",
    "100%.png",
    "a%20b.png",
    "*.png",
    "[ab].png",
    "{a,b}.png",
    "a::b.png",
    "zip::x.png",
    "s3:x.png",
    "file:x.png",
    "-q.png",
    "~.png",
    "~root.png",
    " spaces  .png",
    "tab\t.png",
    "back\\slash.png",
    "quote'\".png",
    "$HOME.png",
    "form\x0cfeed.png",
    "line\u2028separator.png",
    "next\x85line.png",
    "cafe\u0301.png",
    "caf\u00e9.png",
    "\x1b[31m.png",
    "caf\udce9.png",
]


@pytest.fixture
def odd_folder(tmp_path: Path, image_files: dict[str, bytes]) -> Path:
    """A folder with an image of each name that this file system allows."""
    needs_names_in_utf_8()
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        try:
            (folder / name).write_bytes(image_files["part 0/0"])
        except OSError:
            assert not name.isascii() or os.sep != "/"
    return folder


def made(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.sdt"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list_odd_names_are_paths(
    running: Running, odd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    names = sorted(path.name for path in odd_folder.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    monkeypatch.chdir(odd_folder)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbf" + os.fsencode(end.join([*names, ""])))
    samples = list_samples(str(tmp_path / "l.txt"), IMAGES)
    assert [sample.main.url for sample in samples] == [str(odd_folder / name) for name in names]
    summary = running("encode", str(tmp_path / "l.txt"), str(tmp_path / "out"))
    assert (summary.errors, summary.sums["samples"]) == ([], len(names))
    assert len(made(tmp_path / "out")) == len(names)
    assert {"photo #1.sdt", "#top.sdt", "photo.sdt"} <= {*made(tmp_path / "out")}


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_folder_odd_names_round_trip(running: Running, odd_folder: Path, tmp_path: Path, form: str) -> None:
    count = len(list(odd_folder.iterdir())) - 1  # one has no suffix
    summary = running("encode", str(odd_folder), str(tmp_path / "out"), form=form)
    assert (summary.errors, summary.sums["samples"], dict(summary.left_behind)) == ([], count, {"none": 1})
    back = running("decode", str(tmp_path / "out"), str(tmp_path / "back"), form=form)
    assert (back.errors, back.sums["samples"]) == ([], count)
    text = (tmp_path / "out" / "manifest.jsonl").read_bytes().decode()
    keys = [key for line in text.splitlines()[1:] for key in json.loads(line)["keys"]]
    assert len(set(keys)) == count
    for key in keys:
        key.encode()


@pytest.mark.parametrize("name", ["a*[b]?", "a::b", "~", "s3:", "#", " ", "-x", "%41", "caf\udce9", "x.tar", "l.txt"])
def test_command_odd_folder_names_are_not_interpreted(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).rename(tmp_path / name)
    out = f"out {name}"
    code = cli.main(["dataset", "encode", "--json", "--workers", "1", "--", name, out])
    assert (code, json.loads(capsys.readouterr().out)["samples"]) == (0, 7)
    assert len(made(tmp_path / out)) == 7


def test_source_star_in_an_existing_name_is_no_pattern(tmp_path: Path, image_files: dict[str, bytes]) -> None:
    for name in ("s-*.tar", "s-1.tar"):
        with tarfile.open(tmp_path / name, "w") as archive:
            member = tarfile.TarInfo(f"of {name[2]}.png")
            member.size = len(image_files["part 0/0"])
            archive.addfile(member, io.BytesIO(image_files["part 0/0"]))
    assert [sample.key for sample in list_samples(str(tmp_path / "s-*.tar"), IMAGES)] == ["of *"]
    (tmp_path / "s-*.tar").unlink()
    assert [sample.key for sample in list_samples(str(tmp_path / "s-*.tar"), IMAGES)] == ["of 1"]


@pytest.mark.parametrize(
    ("location", "is_url"),
    [
        ("s3://bucket/a::b #?.png", True),
        ("memory://a", True),
        ("zip://a.png::memory://b.zip", True),
        ("simplecache::memory://b", True),
        ("a::memory://b", False),
        ("./s3://x", False),
        ("/data/http://host/x.png", False),
        ("C:\\photos\\a.png", False),
        ("s3:/x", False),
        ("://x", False),
    ],
)
def test_absolute_location_keeps_urls(location: str, is_url: bool) -> None:
    assert absolute_location(location) == (location if is_url else str(Path(location).absolute()))


def test_resolve_location_url_with_double_colon_is_one_object() -> None:
    files, _ = resolve_location("memory://plain/a::b.png")
    assert "memory" in files.protocol
    assert not is_chained_url("memory://plain/a::b.png")


def test_tar_member_name_that_is_not_utf8_is_escaped(running: Running, tmp_path: Path, odd_folder: Path) -> None:
    data = (odd_folder / "photo").read_bytes()
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in (("caf\udce9.png", data), ("caf\udce9.txt", b"said"), ("\udcff.png", b"damaged")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for form in ("folder", "tar", "parquet"):
        summary = running("encode", str(tmp_path / "s.tar"), str(tmp_path / form), form=form)
        assert [error["key"] for error in summary.errors] == ["%FF"]
        assert [sample.key for sample in list_samples(str(tmp_path / form), SDT_FILES)] == ["caf%E9"]


def test_command_errors_are_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "\x1b[31m\nred.png").write_bytes(b"no image")
    for arguments in ([], ["--json"]):
        code = cli.main(["dataset", "encode", str(folder), str(tmp_path / "out"), "--workers", "1", *arguments])
        said = capsys.readouterr()
        assert code == 1
        assert "object at 0x" not in said.out + said.err
        assert "\x1b" not in said.out + said.err
        text = said.err if not arguments else json.loads(said.out)["errors"][0]["source"]
        assert f"{folder}/\\x1b[31m\\nred.png" in text
        assert "PNG" in said.out + said.err
