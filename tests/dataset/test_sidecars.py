"""Sidecars such as captions go where their images go; other files are counted."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sdtrt import cli
from sdtrt.dataset import LatentDataset
from sdtrt.dataset.runner import Summary

Running = Callable[..., Summary]

# By name beside the image: bytes that another JSON or text writer would not give back.
SIDECARS = {
    "a.txt": b"a caption\r\n",
    "a.json": b'{"w":1,\n "nan": NaN, "big": 1e999, "\xc3\xa9": "\\u00e9"} ',
    "a.cls": b"007\n",
    "sub/1.txt": "Café".encode(),
    "sub/1.json": b'[1, 2.50, {"a": null}]',
    "sub/1.cls": b"12",
    "sub/deep/x.caption": b"in latin-1: caf\xe9",
    "sub/deep/x.json": b"{ broken",
    "photo.jpg.json": b"{}",
    "b.seg.json": b'{"of": "b.seg"}',
    "b.txt": b"of b",
}
SUFFIXES = {".txt", ".json", ".cls", ".caption"}
IMAGES = ("a.png", "sub/1.png", "sub/deep/x.png", "photo.jpg", "b.png", "b.seg.png")
LEFT = {"README": b"", "sub/notes.txt": b"", "a.mov": b"", "other.TXT": b"", ".DS_Store": b"", ".git/a.png": b""}


@pytest.fixture
def photos(tmp_path: Path, image_files: dict[str, bytes]) -> Path:
    image = image_files["part 0/0"]
    for name, data in (SIDECARS | LEFT | dict.fromkeys(IMAGES, image)).items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "in"


def sidecars_in(folder: Path) -> dict[str, bytes]:
    paths = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix in {".txt", ".json", ".cls", ".caption"}
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if ".shards" not in path.parts}


@pytest.mark.parametrize("middle", ["folder", "tar", "parquet"])
def test_sidecars_round_trip_keeps_bytes(running: Running, photos: Path, tmp_path: Path, middle: str) -> None:
    packed, back = tmp_path / "packed", tmp_path / "back"
    assert running("encode", str(photos), str(packed), form=middle).errors == []
    assert running("decode", str(packed), str(back)).errors == []
    expected = SIDECARS
    if middle == "tar":  # whose names have no dots
        expected = {name.replace("b.seg", "b_seg"): data for name, data in SIDECARS.items()}
    assert sidecars_in(back) == expected


def test_sidecars_in_tar_have_the_key_of_their_image(running: Running, photos: Path, tmp_path: Path) -> None:
    running("encode", str(photos), str(tmp_path / "out"), form="tar", shard_size=99)
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive}
    assert {"sub/1.sdt", "sub/1.txt", "sub/1.json", "sub/1.cls"} <= found.keys()
    assert found["a.json"] == SIDECARS["a.json"]


def test_sidecars_columns_of_parquet_have_types(running: Running, photos: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    running("encode", str(photos), str(tmp_path / "out"), form="parquet", shard_size=99)
    table = parquet.read_table(tmp_path / "out" / "shard-000000.parquet")
    rows = {row["key"]: row for row in table.to_pylist()}
    assert rows["sub/1"]["txt"] == "Café"
    assert rows["a"]["json"].encode() == SIDECARS["a.json"]
    assert rows["sub/deep/x"]["caption"] == SIDECARS["sub/deep/x.caption"]
    assert rows["photo"]["jpg.json"] == "{}"


def test_latent_dataset_sidecars_are_parsed(running: Running, photos: Path, tmp_path: Path) -> None:
    for form in ("folder", "tar", "parquet"):
        running("encode", str(photos), str(tmp_path / form), form=form)
        fields = {key: fields for key, _, fields in LatentDataset(str(tmp_path / form))}
        assert (fields["sub/1"]["txt"], fields["sub/1"]["json"]) == ("Café", [1, 2.5, {"a": None}])
        assert fields["sub/1"]["cls"] == 12


def test_sidecars_of_two_images_with_one_stem_go_to_both(running: Running, photos: Path, tmp_path: Path) -> None:
    (photos / "a.jpg").write_bytes((photos / "a.png").read_bytes())
    running("encode", str(photos), str(tmp_path / "out"))
    assert (tmp_path / "out" / "a.txt").read_bytes() == (tmp_path / "out" / "a_2.txt").read_bytes() == SIDECARS["a.txt"]


def test_left_behind_is_counted_by_suffix(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dataset", "encode", str(photos), str(tmp_path / "out"), "--workers", "1"]
    assert cli.main(arguments) == 0
    assert "not carried: 6 files (2 hidden, 2 .txt, 1 .mov, 1 without a suffix)" in capsys.readouterr().err
    assert cli.main([*arguments, "--json"]) == 0
    counts = {"hidden": 2, "mov": 1, "none": 1, "txt": 2}
    assert json.loads(capsys.readouterr().out)["left_behind"] == counts


def test_left_behind_in_tars_is_counted(running: Running, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name in ("README", "a.png", "a.txt", "sub/.hidden"):
            path = photos / name
            path.touch()
            archive.add(path, name)
    assert dict(running("encode", str(tmp_path / "s.tar"), str(tmp_path / "out")).left_behind) == {
        "none": 1,
        "hidden": 1,
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_folder_pipes_are_skipped_and_file_links_followed(running: Running, photos: Path, tmp_path: Path) -> None:
    """Opening a pipe would block. Links to files are followed, broken links and links to folders are not."""
    os.mkfifo(photos / "pipe.png")
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "folder.png").symlink_to(photos / "sub")
    (photos / "link.png").symlink_to("a.png")
    summary = running("encode", str(photos), str(tmp_path / "out"))
    assert (summary.errors, summary.sums["samples"], summary.left_behind["png"]) == ([], len(IMAGES) + 1, 3)
    assert (tmp_path / "out" / "link.sdt").read_bytes() == (tmp_path / "out" / "a.sdt").read_bytes()


def test_folder_unreadable_subfolder_is_an_error(
    running: Running, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/sub"):
            raise PermissionError(13, "Permission denied", path)
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    summary = running("encode", str(photos), str(tmp_path / "out"))
    (error,) = summary.errors
    assert "PermissionError" in error["error"]
    assert f"{photos}/sub" in error["error"]
    assert summary.sums["samples"] == len(IMAGES) - 2
