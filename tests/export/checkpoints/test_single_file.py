"""VAEs in one file: original key names are mapped, shapes give the config."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdtrt.errors import BundleError
from sdtrt.export.build import build
from sdtrt.export.checkpoints.checkpoint import load_autoencoder
from sdtrt.export.export_options import ExportOptions

# diffusers' names to those of the first Stable Diffusion release (CompVis/latent-diffusion, ldm/modules).
RENAMED = [
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_(q|k|v)", r"attn_1.\1"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
]


def original(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a VAE's weights as the original release names them: attention as 1x1 convolutions."""
    renamed = {}
    for diffusers_name, tensor in weights.items():
        name = diffusers_name
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        linear = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name)
        renamed[name] = (tensor[:, :, None, None] if linear else tensor).clone().contiguous()
    return renamed


CONFIGS: list[dict[str, Any]] = [
    {"block_out_channels": (32, 64, 64, 32)},
    {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "layers_per_block": 2},
]


@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("names", [original, dict])
def test_load_autoencoder_single_file_matches_the_original_weights(
    tmp_path: Path, models: SimpleNamespace, changes: dict[str, Any], prefix: str, names: Any
) -> None:
    vae = models.autoencoder_kl(**changes)
    weights = {f"{prefix}{name}": tensor for name, tensor in names(vae.state_dict()).items()}
    save_file(weights | {"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "vae.safetensors")
    loaded = load_autoencoder(tmp_path / "vae.safetensors")
    assert (loaded.channels, loaded.factors) == (vae.config.latent_channels, None)
    pixels = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(pixels).sample, vae(pixels).sample, atol=1e-5, rtol=1e-5)


def test_build_single_file_needs_a_latent_space(tmp_path: Path, models: SimpleNamespace) -> None:
    save_file(original(models.autoencoder_kl().state_dict()), tmp_path / "vae.safetensors")
    with pytest.raises(BundleError, match=r"sd1 or sdxl.*--latent-space"):
        build(ExportOptions(str(tmp_path / "vae.safetensors"), tmp_path / "bundle"))
    told = build(ExportOptions(str(tmp_path / "vae.safetensors"), tmp_path / "bundle", latent_space="sd1", half=False))
    assert "as given" in told[0]


def test_load_autoencoder_pickle_needs_allow_pickle(tmp_path: Path, models: SimpleNamespace) -> None:
    torch.save({"state_dict": original(models.autoencoder_kl().state_dict())}, tmp_path / "vae.ckpt")
    with pytest.raises(BundleError, match="--allow-pickle"):
        load_autoencoder(tmp_path / "vae.ckpt")
    assert load_autoencoder(tmp_path / "vae.ckpt", allow_pickle=True).channels == 4


def test_load_autoencoder_other_weights_raise(tmp_path: Path, models: SimpleNamespace) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(BundleError, match="holds no VAE"):
        load_autoencoder(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:-3])
    with pytest.raises(BundleError, match="cannot be read"):
        load_autoencoder(tmp_path / "cut.safetensors")
    half = {name: t for name, t in original(models.autoencoder_kl().state_dict()).items() if "decoder" not in name}
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(BundleError, match="incomplete VAE"):
        load_autoencoder(tmp_path / "half.safetensors")
    lacking = original(models.autoencoder_kl().state_dict())
    del lacking["decoder.norm_out.bias"]
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(BundleError, match="norm_out"):
        load_autoencoder(tmp_path / "lacking.safetensors")
