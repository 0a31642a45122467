"""Checkpoints found: folders, files, and the hub through its cache, without a network."""

import fnmatch
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
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


def test_locate_hub_id_fetches_the_pipeline(
    hub: Callable[[str, Path], None], pipeline: Make, models: SimpleNamespace
) -> None:
    folder = pipeline(unet=models.unet_2d_condition(), prediction="v_prediction")
    hub("someone/some-model", folder)
    found = locate("someone/some-model", unet=True)
    assert found != folder
    assert load_autoencoder(found).factors == Factors(0.18215)
    assert load_unet(found).config.cross_attention_dim == 12
    assert schedule_of(found)["prediction_type"] == "v_prediction"


def test_locate_hub_id_of_a_vae_fetches_the_vae(
    hub: Callable[[str, Path], None], tmp_path: Path, models: SimpleNamespace
) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "taesd")
    hub("madebyollin/taesd", tmp_path / "taesd")
    assert load_autoencoder(locate("madebyollin/taesd")).channels == 4


def test_locate_unknown_id_raises(hub: Callable[[str, Path], None]) -> None:
    with pytest.raises(BundleError, match="nobody/nothing cannot be fetched from the hub"):
        locate("nobody/nothing")


@pytest.mark.parametrize("model", ["no-such-folder", "no/such/folder", "C:\\models", ""])
def test_locate_invalid_name_raises(model: str) -> None:
    if model:
        with pytest.raises(BundleError, match="does not exist"):
            locate(model)


def test_load_autoencoder_other_folder_raises(tmp_path: Path, models: SimpleNamespace) -> None:
    with pytest.raises(BundleError, match=r"no readable weights.*the folder is empty"):
        load_autoencoder(tmp_path)
    models.unet_2d().save_pretrained(tmp_path / "unet")
    with pytest.raises(BundleError, match="has UNet2DModel, expected AutoencoderKL"):
        load_autoencoder(tmp_path / "unet")


def test_load_autoencoder_missing_weights_raise(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "vae")
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if name != "decoder.layers.12.bias"}, path)
    with pytest.raises(BundleError, match=r"lacks weights: decoder\.layers\.12\.bias"):
        load_autoencoder(tmp_path / "vae")


def test_load_autoencoder_pickled_folder_needs_allow_pickle(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "vae", safe_serialization=False)
    with pytest.raises(BundleError, match="--allow-pickle"):
        load_autoencoder(tmp_path / "vae")
    assert load_autoencoder(tmp_path / "vae", allow_pickle=True).channels == 4


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shard", ["10GB", "20KB"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_load_autoencoder_common_layouts_give_equal_weights(
    tmp_path: Path, models: SimpleNamespace, dtype: torch.dtype, shard: str, variant: str | None
) -> None:
    """Of VAEs and UNets: half precision, in shards or not, as a variant or not, named by the option or found."""
    for make, load, name in ((models.autoencoder_kl, load_autoencoder, "vae"), (models.unet_2d, load_unet, "unet")):
        module = make().to(dtype)
        module.save_pretrained(tmp_path / name, variant=variant, max_shard_size=shard)
        assert (len(list((tmp_path / name).glob("*.safetensors"))) > 1) == (shard == "20KB")
        for asked in {None, variant}:
            notes: list[str] = []
            found = load(tmp_path / name, variant=asked, tell=notes.append)
            found = found if load is load_unet else found.module
            torch.testing.assert_close(weights_of(found), weights_of(module))
            assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}
            assert any("variant fp16" in note for note in notes) == (variant is not None and asked is None)


def test_load_autoencoder_file_beside_config_loads_this_file(tmp_path: Path, models: SimpleNamespace) -> None:
    first, second = models.autoencoder_kl(), models.autoencoder_kl()
    torch.nn.init.zeros_(second.decoder.conv_out.bias)
    first.save_pretrained(tmp_path)
    second.save_pretrained(tmp_path, variant="other")
    found = load_autoencoder(tmp_path / "diffusion_pytorch_model.other.safetensors")
    torch.testing.assert_close(weights_of(found.module), weights_of(second))
    assert found.factors == Factors(0.18215)


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_load_without_config_works_for_vaes_only(tmp_path: Path, models: SimpleNamespace, shard: str) -> None:
    """The shapes of a VAE's weights say its config; those of a UNet do not."""
    vae = models.autoencoder_kl()
    vae.save_pretrained(tmp_path / "vae", max_shard_size=shard)
    models.unet_2d().save_pretrained(tmp_path / "unet")
    for name in ("vae", "unet"):
        (tmp_path / name / "config.json").unlink()
    found = load_autoencoder(tmp_path)
    assert found.factors is None
    torch.testing.assert_close(weights_of(found.module), weights_of(vae))
    with pytest.raises(
        BundleError, match=r"unet has no config\.json.*folder contains: diffusion_pytorch_model\.safetensors"
    ):
        load_unet(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"_class_name": 3}'])
def test_load_autoencoder_invalid_config_is_named(tmp_path: Path, models: SimpleNamespace, text: str) -> None:
    models.autoencoder_kl().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BundleError, match=r"config\.json"):
        load_autoencoder(tmp_path)


def test_load_autoencoder_truncated_weights_are_named(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_kl().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"diffusion_pytorch_model\.safetensors cannot be loaded.*folder contains: "):
        load_autoencoder(tmp_path)


REPOSITORY = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"{part}/config.json" for part in ("vae", "unet", "text_encoder")),
    *("vae/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors"),
    *("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"),
    *("text_encoder/model.safetensors", "tokenizer/vocab.json"),
]
FP16_UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.mark.parametrize(
    ("variant", "absent"),
    [(None, {FP16_UNET}), ("fp16", {"unet/diffusion_pytorch_model.safetensors"})],
)
def test_locate_fetches_necessary_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str | None, absent: set[str]
) -> None:
    """Of a repository without usual weights of a part the variant is fetched; of others one kind alone."""

    def download(model: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        for name in REPOSITORY:
            allowed = any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if allowed and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns):
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(json.dumps({}))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    locate("some/model", unet=True, variant=variant)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*REPOSITORY} - absent - {"unet/diffusion_pytorch_model.non_ema.safetensors"}


def test_locate_offline_error_names_the_remedy(hub: Callable[[str, Path], None]) -> None:
    with pytest.raises(BundleError, match=r"hf download nobody/nothing --local-dir FOLDER.*--model"):
        locate("nobody/nothing")


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("GatedRepoError", "hf auth login"),
        ("RepositoryNotFoundError", "no such model or local folder"),
        ("RevisionNotFoundError", "no such revision"),
    ],
)
def test_locate_hub_errors_name_the_remedy(monkeypatch: pytest.MonkeyPatch, kind: str, remedy: str) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise type(kind, (Exception,), {})("401")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BundleError, match=remedy):
        locate("some/model")
