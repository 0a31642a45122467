"""Models that `sdtrt.encode` and `sdtrt.decode` keep open between calls."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import sdtrt
from sdtrt.api import SharedCodecs
from sdtrt.engine.networks.bundle import built_in_root, find_bundle, opened_bundles

PIXELS = np.full((16, 16, 3), 90, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(built_in_root() / "tiny", tmp_path / "copy")


def test_opened_bundles_unchanged_files_give_the_same_object(folder: Path) -> None:
    (folder / ".lock").symlink_to("missing")  # an editor's
    first = find_bundle(folder)
    (folder / "notes.txt").write_text("not a file of the bundle")
    assert find_bundle(folder) is first


@pytest.mark.parametrize("name", ["bundle.json", "decoder.onnx"])
def test_opened_bundles_changed_file_is_noticed(folder: Path, name: str) -> None:
    first = find_bundle(folder)
    status = (folder / name).stat()
    (folder / name).write_bytes((folder / name).read_bytes())
    os.utime(folder / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert find_bundle(folder) is not first


def test_opened_bundles_from_threads_give_one_object(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        bundles = list(pool.map(opened_bundles.open, [folder] * 32))
    assert len({id(bundle) for bundle in bundles}) == 1


def test_shared_codecs_keep_the_last_two_models(tmp_path: Path) -> None:
    folders = [shutil.copytree(built_in_root() / "tiny", tmp_path / name) for name in "abc"]
    codecs = SharedCodecs()
    opened = [codecs.codec(find_bundle(folder)) for folder in folders]
    assert codecs.codec(find_bundle(folders[2])) is opened[2]
    assert codecs.codec(find_bundle(folders[1])) is opened[1]
    assert codecs.codec(find_bundle(folders[0])) is not opened[0]


def test_shared_codecs_changed_model_replaces_the_open_one(folder: Path) -> None:
    codecs = SharedCodecs()
    before = codecs.codec(find_bundle(folder))
    (folder / "bundle.json").write_bytes((folder / "bundle.json").read_bytes() + b"\n")
    after = codecs.codec(find_bundle(folder))
    assert after is not before
    assert len(codecs._codecs) == 1


def test_encode_with_a_model_that_breaks_between_calls_raises_bundle_error(folder: Path) -> None:
    data = sdtrt.encode(PIXELS, model=folder)
    sdtrt.decode(data, model=folder)
    (folder / "decoder.onnx").write_bytes(b"damaged")
    with pytest.raises(sdtrt.BundleError, match="damaged"):
        sdtrt.decode(data, model=folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_decode_in_a_forked_process_opens_its_own_model() -> None:
    data = sdtrt.encode(PIXELS)
    expected = sdtrt.decode(data).tobytes()
    process = os.fork()
    if not process:
        signal.alarm(60)  # a deadlock must end
        os._exit(0 if sdtrt.decode(data).tobytes() == expected else 1)
    assert os.waitpid(process, 0)[1] == 0
