"""Weights as people have them: variants, shards, names of their own, incomplete downloads; no networks are built."""

import json
from pathlib import Path

import pytest

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.weights import find_weights
from sdtrt.export.export_options import ExportOptions

PLAIN, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
PICKLED = "diffusion_pytorch_model.bin"


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_bytes(b"weights")
    return path


def write_index(folder: Path, name: str, shards: list[str]) -> None:
    (folder / name).write_text(json.dumps({"weight_map": {f"tensor{n}": shard for n, shard in enumerate(shards)}}))


@pytest.mark.parametrize(
    ("names", "variant", "allow_pickle", "expected"),
    [
        ((PLAIN, HALF), None, False, PLAIN),
        ((PLAIN, HALF), "fp16", False, HALF),
        ((PLAIN, PICKLED), None, True, PLAIN),
        ((PICKLED,), None, True, PICKLED),
        (("model.bf16.safetensors", "model.safetensors"), "bf16", False, "model.bf16.safetensors"),
        ((PLAIN, "diffusion_pytorch_model.non_ema.safetensors"), None, False, PLAIN),
        ((HALF, "diffusion_pytorch_model.fp16.bin"), "fp16", True, HALF),
    ],
)
def test_find_weights_several_variants_returns_the_requested_one(
    tmp_path: Path, names: tuple[str, ...], variant: str | None, allow_pickle: bool, expected: str
) -> None:
    found = find_weights(folder_of(tmp_path, *names), variant=variant, allow_pickle=allow_pickle)
    assert [path.name for path in found.files] == [expected]
    assert not found.note


@pytest.mark.parametrize("names", [(HALF,), (HALF, PICKLED), (HALF, "config.json", "flax_model.msgpack")])
def test_find_weights_single_variant_is_returned_with_a_note(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = find_weights(folder_of(tmp_path / "vae", *names))
    assert [path.name for path in found.files] == [HALF]
    assert found.variant == "fp16"
    assert "vae" in found.note
    assert "fp16" in found.note


def test_find_weights_two_variants_raises_with_choices(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, HALF, "diffusion_pytorch_model.bf16.safetensors")
    with pytest.raises(BundleError, match=r"choose one with --variant bf16 or --variant fp16.*folder contains: "):
        find_weights(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((HALF, PLAIN), r"no weights of variant fp32; choose one with --variant fp16.*folder contains: .*fp16"),
        ((PLAIN,), r"no weights of variant fp32; omit --variant"),
        (("diffusion_pytorch_model.fp32.bin",), r"fp32\.bin is pickled.*--allow-pickle"),
    ],
)
def test_find_weights_absent_variant_lists_files(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        find_weights(folder_of(tmp_path, *names), variant="fp32")


@pytest.mark.parametrize(
    ("index", "shards", "variant"),
    [
        (f"{PLAIN}.index.json", [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)], None),
        (
            f"{PLAIN}.index.fp16.json",
            [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)],
            "fp16",
        ),
        (f"{HALF}.index.json", [f"diffusion_pytorch_model-0000{n}-of-00002.fp16.safetensors" for n in (1, 2)], "fp16"),
    ],
)
def test_find_weights_shards_returns_all_shards(
    tmp_path: Path, index: str, shards: list[str], variant: str | None
) -> None:
    folder = folder_of(tmp_path, *shards)
    with pytest.raises(BundleError, match=r"shards, but no index.*folder contains: "):
        find_weights(folder)
    write_index(folder, index, shards)
    found = find_weights(folder)
    assert ([path.name for path in found.files], found.variant) == (shards, variant)
    (folder / shards[1]).unlink()
    with pytest.raises(BundleError, match=rf"{shards[1]} is missing, but listed in .*{index}; .*folder contains: "):
        find_weights(folder)
    with pytest.raises(BundleError, match="one of several shards"):
        find_weights(folder / shards[0])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_find_weights_malformed_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{PLAIN}.index.json").write_text(text)
    with pytest.raises(BundleError, match=r"index\.json"):
        find_weights(tmp_path)


def test_find_weights_index_stays_in_its_folder(tmp_path: Path) -> None:
    """A name that leads elsewhere is taken for a file beside the index."""
    folder = folder_of(tmp_path / "vae")
    folder_of(tmp_path, "secret.safetensors")
    write_index(folder, f"{PLAIN}.index.json", ["../secret.safetensors"])
    with pytest.raises(BundleError, match="is missing"):
        find_weights(folder)


def test_find_weights_unusual_name_is_returned_with_a_note(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "sdxl_vae.safetensors", "config.json")
    assert "sdxl_vae.safetensors" in find_weights(folder).note
    folder_of(tmp_path, "other.safetensors")
    with pytest.raises(BundleError, match=r"several files of weights.*folder contains: .*sdxl_vae"):
        find_weights(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "folder contains: config.json"),
        ((PICKLED,), "is pickled.*--allow-pickle"),
        (
            ("diffusion_flax_model.msgpack",),
            r"expected diffusion_pytorch_model\.safetensors; the folder contains: .*msgpack",
        ),
    ],
)
def test_find_weights_without_weights_lists_files(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        find_weights(folder_of(tmp_path, "config.json", *names))


@pytest.mark.parametrize(
    ("data", "message"), [(b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"), (b"", "is empty")]
)
def test_find_weights_incomplete_download_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / PLAIN).write_bytes(data)
    with pytest.raises(BundleError, match=message):
        find_weights(tmp_path)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_export_options_check_invalid_weights_raise_before_reading(tmp_path: Path, part: str) -> None:
    for name in ("vae", "unet"):
        folder_of(tmp_path / name, PLAIN)
    (tmp_path / part / PLAIN).unlink()
    with pytest.raises(BundleError, match=rf"{part} has no readable weights"):
        ExportOptions(str(tmp_path), tmp_path / "out", unet=True).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "no-such"}, r"no-such does not exist"),
        ({"latent_space": "two words"}, "latent space 'two words'"),
        ({"latent_space": "my-own"}, "--calibrate"),
        ({"photos": Path("no-photos")}, "no-photos is not a folder"),
        ({"revision": "main"}, "--revision applies to models on the hub"),
        ({"unet": True}, r"no folder unet.*folder contains: "),
        ({"out": Path("file") / "bundle"}, "cannot be written"),
    ],
)
def test_export_options_check_invalid_options_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(folder_of(tmp_path / "here", "file"))
    model = folder_of(tmp_path / "vae", PLAIN, "config.json")
    fields: dict[str, object] = {"model": str(model), "out": tmp_path / "out"}
    with pytest.raises((BundleError, ValueError), match=message):
        ExportOptions(**(fields | changes)).check()  # type: ignore[arg-type]
