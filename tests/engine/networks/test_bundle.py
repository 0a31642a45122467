"""Bundles: which are refused, and the messages."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.container import INLINE, File, Header
from sdtrt.engine.networks import bundle as bundle_module
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, bundle_folders, find_bundle, find_bundle_for
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.errors import BundleError

FIELDS: dict[str, Any] = {
    "schema": 1,
    "name": "mine",
    "latent_space": "x-01020304",
    "profile": 1,
    "pixel_range": [0, 1],
    "decoder_takes_step": False,
    "files": {"decoder.onnx": hashlib.sha256(b"network").hexdigest()},
}


def bundle_in(folder: Path, text: str | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(FIELDS | changes) if text is None else text)
    (folder / "decoder.onnx").write_bytes(b"network")
    return folder


def file_in(latent_space: str) -> File:
    """Return a file in the latent space `tiny`, or in another space whose profile is in the file."""
    if latent_space == "tiny":
        return File(Header(8, 8, 1, 1, 2048), (b"",))
    profile = bytes.fromhex(latent_space[2:]) + struct.pack("<BBHH", 40, 8, 2300, 1300)
    profile += np.repeat(np.array([0, 1, 1, 0], "<f4"), 40).tobytes()  # the 40 channels of the model
    return File(Header(8, 8, INLINE, 0, 2048), (b"",), profile=profile)


def test_bundle_open_reads_the_manifest(tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_in(tmp_path / "b"))
    assert (bundle.name, bundle.latent_space, bundle.profile) == ("mine", "x-01020304", 1)
    assert bundle.pixel_range == (0.0, 1.0)
    assert bundle.file("decoder.onnx").read_bytes() == b"network"


def test_built_in_bundle_files_have_their_hashes() -> None:
    bundle = find_bundle(BUILT_IN)
    assert bundle.name == BUILT_IN
    assert {"encoder.onnx", "decoder.onnx"} <= set(bundle.files)
    for name in bundle.files:
        bundle.file(name)


def test_bundle_open_without_manifest_raises(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a bundle.*bundle\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "{", "\x00", "[]", "7", "null", '"text"', "{}"])
def test_bundle_open_of_malformed_json_raises(tmp_path: Path, text: str) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.open(bundle_in(tmp_path / "b", text))


def test_bundle_open_of_binary_manifest_raises(tmp_path: Path) -> None:
    folder = bundle_in(tmp_path / "b")
    (folder / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"files": ["decoder.onnx"]},
        {"files": None},
        {"files": {"../decoder.onnx": ""}},
        {"profile": {"channels": 4}},
        {"profile": 2.0},
        {"profile": True},
        {"pixel_range": [1, -1]},
        {"pixel_range": [0, 1e-300]},
        {"pixel_range": [0, 10**400]},
        {"decoder_takes_step": "false"},
        {"latent_space": None},
        {"pixel_range": [1]},
        {"pixel_range": None},
        {"profile": "first"},
        {"look": "fast"},
        {"look": "fine", "files": {"fast.onnx": "", "fine.onnx": ""}},
        {"look": None},
        {"prior": "prior.npz"},
        {"prior": "decoder.onnx"},
        {"prior": 7},
    ],
)
def test_bundle_open_of_malformed_field_raises(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="malformed"):
        Bundle.open(bundle_in(tmp_path / "b", **change))


@pytest.mark.parametrize("field", FIELDS)
def test_bundle_open_without_required_field_raises(tmp_path: Path, field: str) -> None:
    text = json.dumps({name: value for name, value in FIELDS.items() if name != field})
    with pytest.raises(BundleError, match=field):
        Bundle.open(bundle_in(tmp_path / "b", text))


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_bundle_open_of_another_schema_raises(tmp_path: Path, schema: object) -> None:
    with pytest.raises(BundleError, match="schema"):
        Bundle.open(bundle_in(tmp_path / "b", schema=schema))


def test_file_with_another_hash_raises(tmp_path: Path) -> None:
    folder = bundle_in(tmp_path / "b")
    (folder / "decoder.onnx").write_bytes(b"netwark")
    with pytest.raises(BundleError, match=r"decoder\.onnx is damaged.*sdtrt export or sdtrt import, with --force"):
        Bundle.open(folder).file("decoder.onnx")


def test_file_hash_is_checked_once_for_each_open_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    bundle = Bundle.open(bundle_in(tmp_path / "b"))
    digest = bundle.files["decoder.onnx"]
    monkeypatch.setattr(bundle_module, "file_hash", lambda path: names.append(path.name) or digest)
    for _ in range(2):
        bundle.file("decoder.onnx")
    assert names == ["decoder.onnx"]
    Bundle.open(bundle.folder).file("decoder.onnx")
    assert names == ["decoder.onnx"] * 2


def test_engine_codec_of_an_open_bundle_does_not_open_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = find_bundle(BUILT_IN)
    monkeypatch.setattr(Bundle, "open", None)
    codec = EngineCodec(bundle, device="cpu")
    assert codec.bundle is bundle
    assert codec.profile is bundle.latent_profile


def test_find_bundle_of_relative_folder_gives_absolute_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_in(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    assert find_bundle("b").folder == tmp_path / "b"


def test_file_that_is_missing_raises(tmp_path: Path) -> None:
    folder = bundle_in(tmp_path / "b")
    (folder / "decoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"decoder\.onnx cannot be read"):
        Bundle.open(folder).file("decoder.onnx")
    with pytest.raises(BundleError, match=r"mine has no encoder\.onnx"):
        Bundle.open(folder).file("encoder.onnx")


def test_find_bundle_unknown_name_lists_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_in(tmp_path / "models" / "sd-test")
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path / "models"))
    with pytest.raises(BundleError, match=r"'nonesuch'.*tiny, sd-test"):
        find_bundle("nonesuch")
    assert find_bundle("sd-test").name == "mine"
    assert find_bundle(tmp_path / "models" / "sd-test").name == "mine"


def test_find_bundle_for_finds_by_latent_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_in(tmp_path / "sd-test")
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path))
    assert find_bundle_for(file_in("x-01020304")).name == "mine"
    assert find_bundle_for(file_in("tiny")).name == "tiny"
    with pytest.raises(BundleError, match=r"x-ffffffff.*tiny, x-01020304"):
        find_bundle_for(file_in("x-ffffffff"))


def test_find_bundle_for_skips_malformed_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_in(tmp_path / "broken", "{")
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path))
    assert find_bundle_for(file_in("tiny")).name == "tiny"


def test_bundle_folders_with_missing_models_folder_are_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path / "missing"))
    assert [folder.name for folder in bundle_folders()] == [BUILT_IN]


def test_codec_open_with_unknown_profile_raises(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="profile 77"):
        sdtrt.Codec.open(bundle_in(tmp_path / "b", profile=77))


def test_codec_decode_with_malformed_network_raises(tmp_path: Path, real_files: dict[str, bytes]) -> None:
    codec = sdtrt.Codec.open(bundle_in(tmp_path / "b", latent_space="tiny"), threads=1)
    with codec, pytest.raises(BundleError, match=r"decoder\.onnx cannot be opened"):
        codec.decode(real_files["colour"])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1}'])
def test_bundle_open_of_incomplete_manifest_names_file_and_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json .*remove .*make the bundle again: sdtrt export or"):
        Bundle.open(tmp_path)


def test_bundle_open_without_manifest_lists_files(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is nothing"):
        Bundle.open(tmp_path)
    (tmp_path / "encoder.onnx").touch()
    with pytest.raises(BundleError, match=r"no bundle\.json, there: encoder\.onnx; bundles are made by sdtrt export"):
        Bundle.open(tmp_path)
