"""Every form of source to every form of destination, and back: each key once, with all its fields."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.dataset import LatentDataset
from sdtrt.dataset.reading import SampleReader
from sdtrt.dataset.runner import Summary, changed_files
from sdtrt.dataset.sources import FORMAT, IMAGES, SDT_FILES, ByteRange, Sample, list_samples
from sdtrt.dataset.tables import to_column

Running = Callable[..., Summary]


def contents(source: str, wanted: object = SDT_FILES) -> dict[str, tuple[bytes, dict]]:
    with SampleReader() as reader:
        found = {sample.key: reader.read(sample) for sample in list_samples(source, wanted)}
    return {key: (data, extras.fields()) for key, (data, extras) in found.items()}


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_run_every_source_to_every_form_round_trips(
    running: Running,
    codec: sdtrt.Codec,
    image_files: dict[str, bytes],
    source: tuple[str, str],
    form: str,
    tmp_path: Path,
) -> None:
    kind, where = source
    packed, back = str(tmp_path / "packed"), str(tmp_path / "back")
    summary = running("encode", where, packed, form=form, options={"quality": 80})
    assert (summary.sums["samples"], summary.errors, summary.shards) == (len(image_files), [], 3)
    found = contents(packed)
    above = f"{str(tmp_path).strip('/')}/in/" if kind == "list" else ""
    assert sorted(found) == sorted(above + key for key in image_files)
    for key, data in image_files.items():
        encoded, fields = found[above + key]
        assert encoded == codec.encode(Image.open(io.BytesIO(data)), quality=80)
        if kind in {"tar", "parquet"}:
            assert fields["txt"] == f"caption {key[-1]}"
        if kind == "tar":
            assert (fields["json"], fields["cls"]) == ({"n": int(key[-1])}, int(key[-1]))
        if kind == "parquet":
            assert (fields if form == "parquet" else fields["json"])["n"] == int(key[-1])
    assert running("decode", packed, back, form=form).sums["samples"] == len(image_files)
    for key, (data, _) in contents(back, IMAGES).items():
        expected = np.asarray(codec.decode(found[key][0]))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    assert changed_files(packed) == changed_files(back) == []


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_run_twice_gives_the_same_bytes(running: Running, folder: str, form: str, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        running("encode", folder, str(tmp_path / name), form=form)
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        files.append({path.relative_to(tmp_path / name): path.read_bytes() for path in paths})
    assert files[0] == files[1]


def test_latent_dataset_loads_the_latents_of_both_kinds(
    running: Running, codec: sdtrt.Codec, folder: str, tmp_path: Path
) -> None:
    packed, unpacked = str(tmp_path / "packed"), str(tmp_path / "latents")
    running("encode", folder, packed, form="tar")
    running("latents", packed, unpacked, form="tar")
    expected = {key: codec.decode_latents(data) for key, (data, _) in contents(packed).items()}
    for where in (packed, unpacked):
        loader = LatentDataset(where)
        assert len(loader) == 7
        found = {key: latents for key, latents, _ in loader}
        assert found.keys() == expected.keys()
        for key, latents in found.items():
            np.testing.assert_array_equal(latents, expected[key])
        parts = [key for part in range(3) for key, _, _ in LatentDataset(where, part=(part, 3))]
        assert sorted(parts) == sorted(expected)
    for part in ((3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="part"):
            LatentDataset(packed, part=part)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than there are cores
def test_torch_dataset_batches_have_all_samples(
    running: Running, folder: str, image_files: dict[str, bytes], tmp_path: Path
) -> None:
    from torch.utils.data import DataLoader

    from sdtrt.dataset.torch_dataset import LatentTorchDataset

    running("encode", folder, str(tmp_path / "packed"))
    for workers in (0, 2):
        loader = DataLoader(LatentTorchDataset(str(tmp_path / "packed")), batch_size=2, num_workers=workers)
        batches = list(loader)
        assert sorted(key for keys, _, _ in batches for key in keys) == sorted(image_files)
        assert {tuple(latents.shape[1:]) for _, latents, _ in batches} == {(40, 2, 3)}


def test_verify_and_stats_report_changed_files(running: Running, folder: str, tmp_path: Path) -> None:
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


def test_keys_stay_below_the_destination(tmp_path: Path) -> None:
    lines = ["../../up.png", "http://host/../..//a/./b.png", "file:///etc/x.png", "..", f"{'ä' * 200}.png", "a\0b.png"]
    (tmp_path / "list.txt").write_text("\ufeff" + "\n".join(lines), "utf-8")
    keys = [sample.key for sample in list_samples(str(tmp_path / "list.txt"), IMAGES)]
    assert keys[:4] + keys[5:] == ["_/_/up", "host/_/_/a/b", "etc/x", "_", "a_b"]
    assert len(keys[4].encode()) <= 200


def test_keys_are_unique(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a_2.png", "b.x.png", "b_x.png", "manifest.png"):
        (tmp_path / name).write_bytes(b"x")
    keys = ["a", "a_2", "a_2_2", "b.x", "b_x", "manifest_"]
    assert [sample.key for sample in list_samples(str(tmp_path), IMAGES)] == keys
    assert [sample.key for sample in list_samples(str(tmp_path), IMAGES, dots=False)][3:5] == ["b_x", "b_x_2"]


def tar(path: Path, *files: tuple[str, bytes], link: str | None = None) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.LNKTYPE, files[0][0]
            archive.addfile(member)
    return str(path)


def test_tar_names_group_into_samples(tmp_path: Path) -> None:
    files = [
        ("./a.depth.png", b"1"),
        ("./a.jpg", b"22"),
        ("d//b.png", b"4444"),
        ("d/b.PNG", b"333"),
        (".x.png", b"5"),
        ("README", b"6"),
    ]
    found = list_samples(tar(tmp_path / "s.tar", *files, link="e/c.png"), IMAGES)
    assert [(sample.key, sample.main.nbytes, [name for name, _ in sample.others]) for sample in found] == [
        ("a", 2, ["depth.png"]),
        ("d/b", 4, ["PNG"]),
        ("e/c", 1, []),
    ]


@pytest.mark.parametrize("damage", ["flipped", "cut at a member", "cut in a header", "cut in data", "empty"])
def test_tar_damaged_keeps_the_samples_before_the_damage(
    running: Running, image_files: dict[str, bytes], tmp_path: Path, damage: str
) -> None:
    names = ["a", "b", "c"]
    whole = tar(tmp_path / "whole.tar", *((f"{n}.png", image_files["part 0/0"]) for n in names))
    data = bytearray(Path(whole).read_bytes())
    second = next(s.main.offset for s in list_samples(whole, IMAGES) if s.key == "b") - tarfile.BLOCKSIZE
    if damage == "flipped":
        data[second + 3] ^= 1
    else:
        cuts = {"cut at a member": 0, "cut in a header": 99, "cut in data": 600, "empty": -second}
        del data[second + cuts[damage] :]
    Path(whole).write_bytes(data)
    good = tar(tmp_path / "z.tar", ("z.png", image_files["part 0/2"]))
    summary = running("encode", str(tmp_path / "*.tar"), str(tmp_path / "out"))
    assert [error["key"] for error in summary.errors][-1] == "whole"
    assert "z" in contents(str(tmp_path / "out"))
    assert good


def test_fields_with_hostile_names_stay_in_the_destination(
    running: Running, image_files: dict[str, bytes], tmp_path: Path
) -> None:
    image = image_files["part 0/0"]
    beside = [
        ("sdt", b"old"),
        ("json", b"{ broken"),
        ("cls", b"7"),
        ("txt", b"said"),
        ("../../up", b"x"),
        ("a/b", b"y"),
    ]
    (tmp_path / "in").mkdir()
    source = tar(tmp_path / "in" / "s.tar", ("a.png", image), *((f"a.{name}", data) for name, data in beside))
    for form in ("folder", "tar", "parquet"):
        out = str(tmp_path / "out" / form)
        assert running("encode", source, out, form=form).errors == []
        data, fields = contents(out)["a"]
        assert sdtrt.info(data).width == 24
        assert (fields["source.sdt"], fields["txt"]) == (b"old", "said")
        assert changed_files(out) == []
        assert running("encode", source, out, form=form).skipped == 1
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_parquet_hostile_columns_stay_in_the_destination(
    running: Running, image_files: dict[str, bytes], tmp_path: Path
) -> None:
    import pyarrow
    from pyarrow import parquet

    image = image_files["part 0/0"]
    columns = {
        "image": [image, None],
        "key": ["a", "b"],
        "/../../up": ["x", "x"],
        "big": [1, 2],
        "empty": [{"a": None}] * 2,
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "in.parquet")
    for form in ("folder", "tar", "parquet"):
        summary = running("encode", str(tmp_path / "in.parquet"), str(tmp_path / "out" / form), form=form)
        assert [error["key"] for error in summary.errors] == ["b"]
        assert contents(str(tmp_path / "out" / form)).keys() == {"a"}
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "out"}
    for sort in ({"a": {}}, 1 << 70, "\ud83d", object()):
        assert len(to_column([sort, None])) == 2


def test_list_samples_invalid_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.jsonl").write_text('{"of": "others"}\n')
    for name in ("nothing", "empty", "none-*.tar"):
        with pytest.raises(ValueError, match=name.replace("*", r"\*")):
            list_samples(str(tmp_path / name), IMAGES)
    (tmp_path / "no.parquet").write_bytes(b"x" * 1024)
    assert "not a Parquet file" in list_samples(str(tmp_path / "no.parquet"), IMAGES)[0].fault


@pytest.mark.parametrize("name", ["../a.sdt", "/a.sdt", "b/../../a.sdt", "./a.sdt"])
def test_list_samples_manifest_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    line = {"files": [{"name": name, "nbytes": 1, "key": "a", "part": "sdt"}]}
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, ({"format": FORMAT}, line))))
    with pytest.raises(ValueError, match="leads out of its folder"):
        list_samples(str(tmp_path), SDT_FILES)
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"format": FORMAT}) + '\n{"of": "others"}\n')
    with pytest.raises(ValueError, match="damaged"):
        list_samples(str(tmp_path), SDT_FILES)


def test_run_sample_without_image_is_an_error(running: Running, tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", ("a.txt", b""))
    caption = ByteRange(f"{tmp_path}/s.tar", 512, 0)
    assert list_samples(str(tmp_path / "s.tar"), IMAGES) == [Sample("a", None, (("txt", caption),))]
    summary = running("encode", str(tmp_path / "s.tar"), str(tmp_path / "out"))
    assert [error["key"] for error in summary.errors] == ["a"]
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[0])["errors"] == 1
