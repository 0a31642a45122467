"""Checkpoints found: folders, files, and the hub through its cache, without a network."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.checkpoint import load_autoencoder, load_unet, schedule_of
from sdtrt.export.checkpoints.sources import locate
from sdtrt.export.checkpoints.spaces import Factors

Make = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Return a function that puts a folder into the hub's cache; nothing else can be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(name: str, folder: Path) -> None:
        root = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, root / "snapshots" / COMMIT)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text(COMMIT)

    return put


def test_the_hub(hub: Callable[[str, Path], None], pipeline: Make, models: SimpleNamespace) -> None:
    folder = pipeline(unet=models.unet_2d_condition(), prediction="v_prediction")
    hub("someone/some-model", folder)
    found = locate("someone/some-model", unet=True)
    assert found != folder
    assert load_autoencoder(found).factors == Factors(0.18215)
    assert load_unet(found).config.cross_attention_dim == 12
    assert schedule_of(found)["prediction_type"] == "v_prediction"


def test_a_vae_alone_on_the_hub(hub: Callable[[str, Path], None], tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "taesd")
    hub("madebyollin/taesd", tmp_path / "taesd")
    assert load_autoencoder(locate("madebyollin/taesd")).channels == 4


def test_not_on_the_hub(hub: Callable[[str, Path], None]) -> None:
    with pytest.raises(BundleError, match="nobody/nothing cannot be fetched from the hub"):
        locate("nobody/nothing")


@pytest.mark.parametrize("model", ["no-such-folder", "no/such/folder", "C:\\models", ""])
def test_neither_path_nor_id(model: str) -> None:
    if model:
        with pytest.raises(BundleError, match="does not exist"):
            locate(model)


def test_a_folder_of_something_else(tmp_path: Path, models: SimpleNamespace) -> None:
    with pytest.raises(BundleError, match=r"no config\.json"):
        load_autoencoder(tmp_path)
    models.unet_2d().save_pretrained(tmp_path / "unet")
    with pytest.raises(BundleError, match="UNet2DModel, expected AutoencoderKL"):
        load_autoencoder(tmp_path / "unet")


def test_missing_weights_are_not_made_up(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "vae")
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if name != "decoder.layers.12.bias"}, path)
    with pytest.raises(BundleError, match=r"lacks weights: decoder\.layers\.12\.bias"):
        load_autoencoder(tmp_path / "vae")


def test_pickled_weights_in_a_folder(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "vae", safe_serialization=False)
    with pytest.raises(BundleError, match="--allow-pickle"):
        load_autoencoder(tmp_path / "vae")
    assert load_autoencoder(tmp_path / "vae", allow_pickle=True).channels == 4
