"""What the commands that make models notice before they read a network: outputs, inputs and names that cannot be."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environment import file_name
from PIL import Image

from sdtrt.dataset import runner
from sdtrt.dataset.shards import Task
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.errors import BundleError
from sdtrt.export import build, engines, folder, import_onnx
from sdtrt.export.graphs import onnx_graph

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("work was begun")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what cannot be a bundle, a photo or a network; nothing may be read of it."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "locked").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_bytes(b"")
    if sys.platform != "win32":
        (tmp_path / "loop").symlink_to("loop")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *rest, **options: Path(path).name != "locked" and access(path, *rest, **options)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


OUTPUTS = [
    ("file", "is not a bundle"),
    ("file/below", "is not a folder"),
    ("locked/new", "permission denied"),
    ("other", "is not a bundle"),
    (".", "the folder you are in"),
    pytest.param("loop", "loop of symbolic links", marks=POSIX),
]


@pytest.mark.parametrize(("out", "words"), OUTPUTS)
def test_export_folder_that_cannot_be_written_is_noticed_before_the_checkpoint(
    place: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    monkeypatch.setattr(build, "locate", refuse)
    with pytest.raises(BundleError, match=words):
        build.build(build.ExportOptions("nonesuch", Path(out)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photos": Path("missing")}, "missing is not a folder"),
        ({"photos": Path("empty")}, "holds no images"),
        ({"latent_space": "two words"}, "expected a word"),
    ],
)
def test_export_and_import_options_that_cannot_be_met_are_noticed_before_any_network(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(build, "locate", refuse)
    monkeypatch.setattr(onnx_graph, "read", refuse)
    with pytest.raises((BundleError, ValueError), match=words):
        build.build(build.ExportOptions("owner/name", Path("new"), **options))
    with pytest.raises((BundleError, ValueError), match=words):
        import_onnx.import_pair(import_onnx.ImportOptions(Path("file"), Path("file"), Path("new"), **options))
    assert not Path("new").exists()


@pytest.mark.parametrize("missing", ["encoder", "decoder", "fast"])
def test_import_network_that_is_missing_is_noticed_before_any_is_read(
    place: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(onnx_graph, "read", refuse)
    paths = {name: Path("file") for name in ("encoder", "decoder", "fast")} | {missing: Path("absent.onnx")}
    with pytest.raises(BundleError, match=r"absent\.onnx does not exist"):
        import_onnx.import_pair(import_onnx.ImportOptions(out=Path("new"), **paths))


@pytest.mark.parametrize(("out", "words"), OUTPUTS)
def test_import_folder_that_cannot_be_written_is_noticed_before_any_network(
    place: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    monkeypatch.setattr(onnx_graph, "read", refuse)
    with pytest.raises(BundleError, match=words):
        import_onnx.import_pair(import_onnx.ImportOptions(Path("file"), Path("file"), Path(out)))


def test_build_engines_folder_that_cannot_be_written_is_noticed_before_any_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(engines, "choose_library", lambda _: (None, ["portable"]))
    monkeypatch.setattr(engines, "build_engine", refuse)
    monkeypatch.setattr(engines, "engines_folder", lambda _: tmp_path / "file" / "engines")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        engines.build_engines(engines.EngineBuildOptions(find_bundle("tiny")))


def test_dataset_run_destination_that_cannot_be_written_is_noticed_before_the_source_is_listed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "split_into_shards", refuse)
    for destination, error in (("file", NotADirectoryError), ("file/x", NotADirectoryError), ("locked", OSError)):
        with pytest.raises(error):
            runner.run(
                Task(operation="verify", source="photos", destination=destination),
                refuse,
                shard_size=1,
                max_errors=None,
                on_progress=refuse,
            )


def fill(out: Path, *, force: bool) -> None:
    """Write a copy of the built-in bundle as the exporting commands do."""
    bundle = find_bundle("tiny")
    with folder.new_bundle(out, force=force) as fresh:
        for name in ("bundle.json", *bundle.files):
            (fresh / name).write_bytes((bundle.folder / name).read_bytes())


@POSIX
@pytest.mark.parametrize("text", ["bundle", "b" * 255, "写" * 85])
def test_new_bundle_name_of_any_length_is_written(tmp_path: Path, text: str) -> None:
    name = file_name(text)
    fill(tmp_path / name, force=False)
    fill(tmp_path / name, force=True)
    assert Bundle.open(tmp_path / name).latent_space == find_bundle("tiny").latent_space
    assert [path.name for path in tmp_path.iterdir()] == [name]


@POSIX
@pytest.mark.parametrize("bits", [0o700, 0o750, 0o500])
def test_new_bundle_replaced_folder_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    out = tmp_path / "bundle"
    fill(out, force=False)
    out.chmod(bits)
    fill(out, force=True)
    assert stat.S_IMODE(out.stat().st_mode) == bits


@POSIX
@pytest.mark.parametrize("dangling", [False, True])
def test_new_bundle_link_is_kept_and_its_target_written(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "link").symlink_to("store")
    if not dangling:
        fill(tmp_path / "store", force=False)
    fill(tmp_path / "link", force=not dangling)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "bundle.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "store"]
