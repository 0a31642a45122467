"""Every kind of source to every form of destination, and back: each key once, with all that belongs to it."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.dataset import Latents
from sdtrt.dataset.reading import Reader
from sdtrt.dataset.runs import Summary, changed_files
from sdtrt.dataset.sources import IMAGES, SDT_FILES, Place, Sample, samples_of

Running = Callable[..., Summary]


def contents(source: str, wanted: object = SDT_FILES) -> dict[str, tuple[bytes, dict]]:
    with Reader() as reader:
        return {sample.key: reader.read(sample) for sample in samples_of(source, wanted)}


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_there_and_back(
    running: Running,
    codec: sdtrt.Codec,
    picture_files: dict[str, bytes],
    source: tuple[str, str],
    form: str,
    tmp_path: Path,
) -> None:
    kind, where = source
    packed, back = str(tmp_path / "packed"), str(tmp_path / "back")
    summary = running("encode", where, packed, form=form, options={"quality": 80})
    assert (summary.sums["samples"], summary.errors, summary.shards) == (len(picture_files), [], 3)
    found = contents(packed)
    above = f"{str(tmp_path).strip('/')}/in/" if kind == "list" else ""
    assert sorted(found) == sorted(above + key for key in picture_files)
    for key, data in picture_files.items():
        encoded, fields = found[above + key]
        assert encoded == codec.encode(Image.open(io.BytesIO(data)), quality=80)
        if kind in {"tar", "parquet"} and form != "folder":
            assert fields["txt"] == f"picture {key[-1]}"
        if kind == "tar" and form == "tar":
            assert fields["json"] == {"n": int(key[-1]), "cls": int(key[-1])}
        if kind == "parquet" and form == "parquet":
            assert fields["n"] == int(key[-1])
    assert running("decode", packed, back, form=form).sums["samples"] == len(picture_files)
    for key, (data, _) in contents(back, IMAGES).items():
        expected = np.asarray(codec.decode(found[key][0]))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    assert changed_files(packed) == changed_files(back) == []


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_the_same_bytes_every_time(running: Running, folder: str, form: str, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        running("encode", folder, str(tmp_path / name), form=form)
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        files.append({path.relative_to(tmp_path / name): path.read_bytes() for path in paths})
    assert files[0] == files[1]


def test_latents(running: Running, codec: sdtrt.Codec, folder: str, tmp_path: Path) -> None:
    packed, unpacked = str(tmp_path / "packed"), str(tmp_path / "latents")
    running("encode", folder, packed, form="tar")
    running("latents", packed, unpacked, form="tar")
    expected = {key: codec.decode_latents(data) for key, (data, _) in contents(packed).items()}
    for where in (packed, unpacked):
        loader = Latents(where)
        assert len(loader) == 7
        found = {key: latents for key, latents, _ in loader}
        assert found.keys() == expected.keys()
        for key, latents in found.items():
            np.testing.assert_array_equal(latents, expected[key])
        parts = [key for part in range(3) for key, _, _ in Latents(where, part=(part, 3))]
        assert sorted(parts) == sorted(expected)
    for part in ((3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="part"):
            Latents(packed, part=part)


def test_latents_in_torch(running: Running, folder: str, picture_files: dict[str, bytes], tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    from sdtrt.dataset.for_torch import LatentsDataset

    running("encode", folder, str(tmp_path / "packed"))
    for workers in (0, 2):
        loader = DataLoader(LatentsDataset(str(tmp_path / "packed")), batch_size=2, num_workers=workers)
        batches = list(loader)
        assert sorted(key for keys, _, _ in batches for key in keys) == sorted(picture_files)
        assert {tuple(latents.shape[1:]) for _, latents, _ in batches} == {(40, 2, 3)}


def test_verify_and_stats(running: Running, folder: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    running("encode", folder, str(packed), options={"quality": 30})
    assert running("verify", str(packed)).errors == []
    sums = running("stats", str(packed)).sums
    assert (sums["samples"], sums["pixels"]) == (7, 7 * 24 * 16)
    assert sums["nbytes"] == sum(path.stat().st_size for path in packed.rglob("*.sdt"))
    assert sums["nbytes"] == sum(sums[f"{name}_nbytes"] for name in ("head", "latents", "metadata"))
    victims = sorted(packed.rglob("*.sdt"))
    broken = bytearray(victims[0].read_bytes())
    broken[9] ^= 1
    victims[0].write_bytes(broken)
    victims[1].unlink()
    names = [victim.relative_to(packed).as_posix() for victim in victims]
    assert changed_files(str(packed)) == [f"{names[0]} has changed", f"{names[1]} is missing"]
    errors = running("verify", str(packed)).errors
    assert [error["error"].partition(":")[0] for error in errors] == ["FormatError", "FileNotFoundError"]


def test_keys_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("../../up.png\nhttp://host/../..//a/./b.png\nfile:///etc/x.png\n..\n")
    keys = [sample.key for sample in samples_of(str(tmp_path / "list.txt"), IMAGES)]
    assert keys == ["_/_/up", "host/_/_/a/_/b", "etc/x", "_"]


def test_keys_differ(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a_2.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [sample.key for sample in samples_of(str(tmp_path), IMAGES)] == ["a", "a_2", "a_2_2", "b"]


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.tar").write_bytes(b"x" * 1024)
    (tmp_path / "no.parquet").write_bytes(b"x" * 1024)
    for name in ("nothing", "empty", "no.tar", "no.parquet", "none-*.tar"):
        with pytest.raises(ValueError, match=name.replace("*", r"\*")):
            samples_of(str(tmp_path / name), IMAGES)


def test_a_sample_without_an_image(running: Running, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        member = tarfile.TarInfo("a.txt")
        archive.addfile(member, io.BytesIO())
    caption = Place(f"file://{tmp_path}/s.tar", 512, 0)
    assert samples_of(str(tmp_path / "s.tar"), IMAGES) == [Sample("a", None, (("txt", caption),))]
    summary = running("encode", str(tmp_path / "s.tar"), str(tmp_path / "out"))
    assert [error["key"] for error in summary.errors] == ["a"]
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[0])["errors"] == 1
