"""`AutoencoderKL` checkpoints to bundles; `build` itself compares each export with torch, in both precisions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from exported import TOLERANCES, assert_clean, assert_close, read_manifest, run_onnx

from sdtrt.engine.networks.bundle import Bundle
from sdtrt.export.build import build
from sdtrt.export.export_options import ExportOptions

# Latents of a space of its own, so that the network may have fewer levels than Stable Diffusion's.
SIXTEEN_CHANNELS = {"latent_channels": 16, "scaling_factor": 1.5, "shift_factor": 0.06}
NO_QUANT_CONV = {"use_quant_conv": False, "use_post_quant_conv": False}
NO_ATTENTION = {"mid_block_add_attention": False}


def blocks(levels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (8,) * levels,
        "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def export_and_compare(
    folder: Path, models: SimpleNamespace, changes: dict[str, Any], *, half: bool, photos: Path | None = None
) -> list[str]:
    """Export a VAE, compare both networks with torch, and return the messages of `build`."""
    vae = models.autoencoder_kl(**changes)
    vae.save_pretrained(folder / "vae")
    messages = build(ExportOptions(str(folder / "vae"), folder / "bundle", photos=photos, half=half))
    bundle = Bundle.open(folder / "bundle")
    assert bundle.receptive_radius is None
    suffixes = [suffix for suffix in TOLERANCES if half or not suffix]
    assert set(bundle.files) == {f"{coder}{suffix}.onnx" for coder in ("encoder", "decoder") for suffix in suffixes}
    pixels = torch.rand(1, 3, 40, 72) * 2 - 1
    with torch.inference_mode():
        mean = vae.encode(pixels).latent_dist.mean
        decoded = vae.decode(mean).sample
    latents = (mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    for suffix in suffixes:
        encoder, decoder = (bundle.file(f"{coder}{suffix}.onnx") for coder in ("encoder", "decoder"))
        assert_close(run_onnx(encoder, pixels=pixels.numpy()), latents, TOLERANCES[suffix])
        assert_close(run_onnx(decoder, latents=latents.numpy()), decoded, TOLERANCES[suffix])
    for name in bundle.files:
        assert_clean(bundle.file(name))
    edits = read_manifest(folder / "bundle")["export"]["graph_edits"]
    upsamplings = len(vae.config.block_out_channels) - 1
    assert all(edits[f"decoder{suffix}.onnx"]["folded_upsamplings"] == upsamplings for suffix in suffixes)
    assert "folded_upsamplings" not in edits["encoder.onnx"]
    return messages


def test_autoencoder_kl_of_sd1_matches_diffusers_in_both_precisions(tmp_path: Path, models: SimpleNamespace) -> None:
    messages = export_and_compare(tmp_path, models, {}, half=True)
    assert "perhaps the whole image" in messages[1]


@pytest.mark.parametrize(
    ("changes", "half"),
    [(SIXTEEN_CHANNELS | NO_QUANT_CONV, True), (SIXTEEN_CHANNELS | NO_ATTENTION, False)],
    ids=["no quant_conv", "no attention"],
)
def test_autoencoder_kl_of_unknown_space_matches_diffusers(
    tmp_path: Path, photos: Path, models: SimpleNamespace, changes: dict[str, Any], half: bool
) -> None:
    messages = export_and_compare(tmp_path, models, changes | blocks(2), half=half, photos=photos)
    assert "perhaps the whole image" in messages[1]
