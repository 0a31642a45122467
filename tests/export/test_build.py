"""Checkpoints of every class to bundles; `build` itself compares each export with torch, in both precisions."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import CLIPTextModel

import sdtrt
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError
from sdtrt.export.build import build, unet_part
from sdtrt.export.checkpoints.prompt import empty_prompt
from sdtrt.export.export_options import ExportOptions
from sdtrt.export.graphs.bundle_part import ExportRecord, write_part

Make = Callable[..., Path]
SIXTEEN = {"latent_channels": 16, "scaling_factor": 1.5, "shift_factor": 0.06}
NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
TOLERANCES = {"": 1e-4, ".fp16": 3e-2}


def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    half = {value.name: "16" in value.type for value in session.get_inputs()}
    return session.run(None, {n: v.astype(np.float16 if half[n] else np.float32) for n, v in inputs.items()})[0]


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "bundle.json").read_text())


def assert_close(found: np.ndarray, expected: torch.Tensor, tolerance: float) -> None:
    scale = float(expected.square().mean().sqrt())
    np.testing.assert_allclose(found, expected.numpy(), atol=tolerance * scale, rtol=0)


def assert_clean(path: Path) -> None:
    """No folders of the build machine, no casts, no random numbers, group norms in one node."""
    assert b"site-packages" not in path.read_bytes()
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "GroupNormalization" in kinds
    assert kinds.isdisjoint({"Cast", "RandomNormalLike", "InstanceNormalization"})


@pytest.mark.parametrize(
    ("changes", "half"), [({}, True), (SIXTEEN | NO_QUANT, True), ({"mid_block_add_attention": False}, False)]
)
def test_autoencoder_kl(
    tmp_path: Path, photos: Path, models: SimpleNamespace, changes: dict[str, Any], half: bool
) -> None:
    vae = models.autoencoder_kl(**changes)
    vae.save_pretrained(tmp_path / "vae")
    needed = photos if "latent_channels" in changes else None
    told = build(ExportOptions(str(tmp_path / "vae"), tmp_path / "bundle", photos=needed, half=half))
    assert "perhaps at the whole image" in told[1]
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.receptive_radius is None
    suffixes = [suffix for suffix in TOLERANCES if half or not suffix]
    assert set(bundle.files) == {f"{coder}{suffix}.onnx" for coder in ("encoder", "decoder") for suffix in suffixes}
    pixels = torch.rand(1, 3, 40, 72) * 2 - 1
    with torch.inference_mode():
        mean = vae.encode(pixels).latent_dist.mean
        back = vae.decode(mean).sample
    latents = (mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    for suffix in suffixes:
        encoder, decoder = (bundle.file(f"{coder}{suffix}.onnx") for coder in ("encoder", "decoder"))
        assert_close(run(encoder, pixels=pixels.numpy()), latents, TOLERANCES[suffix])
        assert_close(run(decoder, latents=latents.numpy()), back, TOLERANCES[suffix])
    for name in bundle.files:
        assert_clean(bundle.file(name))


def test_autoencoder_tiny(tmp_path: Path, models: SimpleNamespace) -> None:
    vae = models.autoencoder_tiny()
    vae.save_pretrained(tmp_path / "taesd")
    told = build(ExportOptions(str(tmp_path / "taesd"), tmp_path / "bundle"))
    assert "sd1" in told[0]
    assert "taesd" in told[0]
    # 5 pixels at the full size, then 4 more of each level: 8 latents, all but half of the last one's.
    assert told[1] == "reach 8 latents: tiles of large images are exact"
    assert manifest(tmp_path / "bundle")["reach"] == 8
    pixels = torch.rand(2, 3, 24, 40) * 2 - 1
    with torch.inference_mode():
        latents = vae.encode(pixels).latents
    assert_close(run(tmp_path / "bundle" / "encoder.onnx", pixels=pixels.numpy()), latents, 1e-4)


def test_a_bundle_is_usable(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "taesd")
    build(ExportOptions(str(tmp_path / "taesd"), tmp_path / "bundle", half=False))
    with sdtrt.Codec.open(tmp_path / "bundle") as codec:
        data = codec.encode(np.full((17, 33, 3), 99, np.uint8))
        assert codec.decode(data).size == (33, 17)
    assert sdtrt.info(data).latent_space == "sd1"
    assert set(manifest(tmp_path / "bundle")["files"]) == {"encoder.onnx", "decoder.onnx"}


def unet_bundle(folder: Path, out: Path, *, half: bool = True) -> None:
    """Export the UNet in `folder` alone."""
    out.mkdir()
    part = unet_part(folder, torch.randn(2, 4, 32, 32)(str(folder), out), [])
    write_part(part, out, ExportRecord(), half=half, quiet=True)


@pytest.mark.parametrize("upcast", [False, True])
def test_unet_of_sd1_and_sd2(tmp_path: Path, pipeline: Make, models: SimpleNamespace, upcast: bool) -> None:
    unet = models.unet_2d_condition(upcast_attention=upcast)
    folder = pipeline(unet=unet)
    unet_bundle(folder, tmp_path / "bundle")
    latents, timestep = torch.randn(2, 4, 8, 24), torch.tensor([3.0, 700.0])
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    with torch.inference_mode():
        # The empty prompt: start, end, and padding up to the tokenizer's length.
        embedding = encoder(torch.tensor([[3, 4, 0, 0, 0, 0, 0]])).last_hidden_state
        expected = unet(latents, timestep, embedding.expand(2, -1, -1)).sample
    for suffix, tolerance in TOLERANCES.items():
        path = tmp_path / "bundle" / f"unet{suffix}.onnx"
        assert_close(run(path, latents=latents.numpy(), timestep=timestep.numpy()), expected, tolerance)


@pytest.mark.parametrize("zeros", [False, True])
def test_unet_of_sdxl(tmp_path: Path, pipeline: Make, models: SimpleNamespace, zeros: bool) -> None:
    unet = models.unet_2d_condition(
        cross_attention_dim=20,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 6,
    )
    folder = pipeline(unet=unet, sdxl=True, force_zeros_for_empty_prompt=zeros)
    unet_bundle(folder, tmp_path / "bundle", half=False)  # where it is no other network than that of SD 1
    prompt = empty_prompt(folder)
    assert prompt.embedding.shape == (1, 7, 20)
    assert (not prompt.embedding.any()) == zeros
    added = {"text_embeds": prompt.pooled.expand(2, -1), "time_ids": prompt.time_ids.expand(2, -1)}
    latents, timestep = torch.randn(2, 4, 16, 8), torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        expected = unet(latents, timestep, prompt.embedding.expand(2, -1, -1), added_cond_kwargs=added).sample
    found = run(tmp_path / "bundle" / "unet.onnx", latents=latents.numpy(), timestep=timestep.numpy())
    assert_close(found, expected, 1e-4)


def test_unconditional_unet(tmp_path: Path, pipeline: Make, models: SimpleNamespace) -> None:
    unet = models.unet_2d()
    folder = pipeline()
    unet.save_pretrained(folder / "unet")
    unet_bundle(folder, tmp_path / "bundle")
    latents, timestep = torch.randn(3, 4, 16, 24), torch.tensor([3.0, 40.0, 900.0])
    with torch.inference_mode():
        expected = unet(latents, timestep).sample
    found = run(tmp_path / "bundle" / "unet.onnx", latents=latents.numpy(), timestep=timestep.numpy())
    assert_close(found, expected, 1e-4)


def test_an_existing_bundle_is_kept(tmp_path: Path, models: SimpleNamespace) -> None:
    models.autoencoder_tiny().save_pretrained(tmp_path / "taesd")
    request = ExportOptions(str(tmp_path / "taesd"), tmp_path / "bundle", half=False)
    build(request)
    before = manifest(tmp_path / "bundle")
    with pytest.raises(BundleError, match="--force"):
        build(request)
    assert manifest(tmp_path / "bundle") == before


def test_export_command_says_stages_and_no_noise(tmp_path: Path, pipeline: Make, models: SimpleNamespace) -> None:
    """Standard error holds this project's lines alone, each stage among them; where the weights came from, too."""
    folder = pipeline(vae=models.autoencoder_tiny(), unet=models.unet_2d())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    command = [sys.executable, "-m", "sdtrt", "export", "--model", str(folder), "--unet", "--no-fp16"]
    command += ["--latent-space", "sd1", "--out", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" so far")]
    said = [line for line in lines if not line.startswith("sdtrt: ")]
    assert said == [
        f"{folder}: reading the weights",
        *(f"{name}: {what}" for name in ("encoder", "decoder") for what in ("to ONNX", "comparing it with torch")),
        "unet: reading the weights, embedding the empty prompt",
        *("unet: to ONNX", "unet: comparing it with torch"),
        *("measuring the latents", "measuring how far the networks look"),
    ]
    assert any("unet: the weights are those of variant fp16" in line for line in lines)
