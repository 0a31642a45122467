"""Names that clash with each other, with folders or with devices: no sample is lost, and no run blocks."""

import errno
import json
import os
import re
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from environment import needs_names_in_utf_8

from sdtrt import cli
from sdtrt.dataset import stores
from sdtrt.dataset.runner import Summary, changed_files
from sdtrt.dataset.sources import IMAGES, is_same_location, list_samples

Running = Callable[..., Summary]


@pytest.fixture
def image(image_files: dict[str, bytes]) -> bytes:
    return image_files["part 0/0"]


def folder_with(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if "txt" in path.name.lower())


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    "names",
    [
        ("a.b.txt", "a.B.txt"),
        ("a.txt", "a.TXT"),
        ("a.TXT", "a.Txt"),
        ("a.TXT", "a.Txt", "a.txt", "a.txt_"),
        ("a.b.txt", "a.B.TXT", "a.B.txt", "a.b.TXT"),
    ],
)
def test_sidecars_that_differ_in_case_are_all_kept(
    running: Running, image: bytes, tmp_path: Path, names: tuple[str, ...], form: str
) -> None:
    texts = {name: name.encode() for name in names if name != "a.txt_"}
    source = folder_with(tmp_path / "in", {"a.png": image, "a.b.png": image} | texts)
    if len([path for path in source.iterdir() if "txt" in path.name.lower()]) < len(texts):
        pytest.skip("this file system ignores case")
    assert running("encode", str(source), str(tmp_path / "out"), form=form).errors == []
    for archive in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path / "out", filter="data")
    assert contents(tmp_path / "out") == sorted(texts.values())


def tar_of(path: Path, *members: tuple[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, BytesIO(data))
    return str(path)


def test_tar_repeated_name_begins_another_sample(image: bytes, tmp_path: Path) -> None:
    twice = [("c.png", image), ("c.txt", b"1"), ("c.png", image + b"x"), ("c.txt", b"2")]
    source = tar_of(tmp_path / "s.tar", *twice, ("d.PNG", b"1"), ("d.png", b"22"), ("d.Png", b"333"))
    found = list_samples(source, IMAGES)
    assert [(one.key, one.main.nbytes, len(one.others)) for one in found] == [
        ("c", len(image), 1),
        ("c_2", len(image) + 1, 1),
        ("d", 1, 2),
    ]
    assert len({name for name, _ in found[2].others}) == 2
    assert {one.others[0][1].offset for one in found[:2]} != {found[0].others[0][1].offset}


def test_result_with_the_name_of_a_folder_is_an_error_of_its_sample(
    running: Running, image: bytes, tmp_path: Path
) -> None:
    source = folder_with(tmp_path / "in", {"x.png": image, "x.sdt/y.png": image, "z.png": image, "w.png": image})
    (tmp_path / "out" / "w.sdt").mkdir(parents=True)
    summary = running("encode", str(source), str(tmp_path / "out"))
    assert sorted(error["key"] for error in summary.errors) == ["w", "x.sdt/y"]
    assert summary.sums["samples"] == 2
    (tmp_path / "out" / "w.sdt").rmdir()
    assert [error["key"] for error in running("encode", str(source), str(tmp_path / "out")).errors] == ["x.sdt/y"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_list_with_pipes_devices_and_folders_continues(running: Running, image: bytes, tmp_path: Path) -> None:
    """Reading a pipe would block, and some devices never end."""
    folder_with(tmp_path, {"in/a.png": image})
    os.mkfifo(tmp_path / "pipe.png")
    names = [tmp_path / "pipe.png", "/dev/zero", tmp_path / "in", tmp_path / "l.txt", tmp_path / "in" / "a.png"]
    (tmp_path / "l.txt").write_text("\r\n".join(map(str, names)))
    summary = running("encode", str(tmp_path / "l.txt"), str(tmp_path / "out"))
    assert (len(summary.errors), summary.sums["samples"]) == (4, 1)
    assert ["is a pipe or a device" in error["error"] for error in summary.errors] == [True, True, False, False]


@pytest.mark.parametrize("name", ["l.txt", "L.TXT"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_list_in_a_windows_encoding_is_read(image: bytes, tmp_path: Path, encoding: str, name: str) -> None:
    needs_names_in_utf_8()
    paths = [tmp_path / "caf\u00e9.png", tmp_path / "b.png"]
    text = "\r\n".join([*map(str, paths), ""])
    (tmp_path / name).write_text(f"\ufeff{text}" if encoding == "utf-16-be" else text, encoding, newline="")
    assert [sample.main.url for sample in list_samples(str(tmp_path / name), IMAGES)] == [str(path) for path in paths]


@pytest.mark.parametrize("name", ["in", "in/../in", "link", "in/", "up/in"])
def test_run_destination_equal_to_source_is_refused(running: Running, image: bytes, tmp_path: Path, name: str) -> None:
    source = folder_with(tmp_path / "in", {"a.png": image})
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "up").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="both source and destination"):
        running("encode", str(source), f"{tmp_path}/{name}")
    assert [path.name for path in source.iterdir()] == ["a.png"]


def test_is_same_location_compares_urls_by_name() -> None:
    assert is_same_location("memory://a/b", "memory://a/b")
    assert not is_same_location("memory://a/b", "memory://a/c")
    assert not is_same_location("memory://a", "/a")


def test_run_destination_inside_or_around_the_source_runs_twice(running: Running, image: bytes, tmp_path: Path) -> None:
    source = folder_with(tmp_path / "in", {"a.png": image, "a.txt": b"words"})
    for destination in (source / "out", tmp_path):
        first = running("encode", str(source), str(destination))
        second = running("encode", str(source), str(destination))
        assert (first.sums["samples"], second.sums["samples"], second.skipped) == (1, 1, 1)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no text": lambda data: b"\xff" + data,
    "no JSON": lambda data: data + b"{",
    "no files": lambda data: data + b"{}\n",
    "a list": lambda data: data + b"[1]\n",
    "a number as a name": lambda data: data.replace(b'"a.sdt"', b"5"),
    "a name elsewhere": lambda data: data.replace(b"a.sdt", b"../outside"),
    "an absolute name": lambda data: data.replace(b"a.sdt", b"/etc/hostname"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_damaged_manifest_is_a_value_error(
    running: Running, image: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    source, out = folder_with(tmp_path / "in", {"a.png": image}), tmp_path / "out"
    running("encode", str(source), str(out))
    manifest: Any = out / "manifest.jsonl"
    assert json.loads(manifest.read_text().splitlines()[1])["files"][0]["name"] == "a.sdt"
    manifest.write_bytes(DAMAGES[damage](manifest.read_bytes()))
    with pytest.raises(ValueError, match=r"a damaged manifest\.jsonl"):
        changed_files(str(out))
    assert cli.main(["dataset", "verify", str(out)]) != 0
    assert "damaged manifest.jsonl" in capsys.readouterr().err


def test_store_full_disk_error_names_the_file(image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stores, "replace_file", refuse)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "a.sdt"))):
        stores.Store(str(tmp_path)).put("a.sdt", image)


def test_command_workers_are_limited_by_the_shards(image: bytes, tmp_path: Path) -> None:
    source = folder_with(tmp_path / "in", {"a.png": image})
    arguments = ["--workers", "99999999999999999999", "--quiet", str(source), str(tmp_path / "out")]
    assert cli.main(["dataset", "encode", *arguments]) == 0
    assert (tmp_path / "out" / "a.sdt").exists()
