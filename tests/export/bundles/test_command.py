"""`sdtrt export` as a command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from environment import HANG
from exported import read_manifest

Make = Callable[..., Path]
ONE_LEVEL = {"block_out_channels": (16,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}


def test_export_command_prints_stages_and_no_messages_of_libraries(
    tmp_path: Path, pipeline: Make, models: SimpleNamespace
) -> None:
    """Standard error holds this project's lines alone: each stage, and which weights were taken."""
    # Without attention: a process of its own traces it in as many chunks as users' exports have.
    vae = models.autoencoder_tiny(num_encoder_blocks=(0, 0, 0, 1), num_decoder_blocks=(1, 0, 0, 0))
    folder = pipeline(vae=vae, unet=models.unet_2d(**ONE_LEVEL, add_attention=False))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    command = [sys.executable, "-m", "sdtrt", "export", "--model", str(folder), "--unet", "--no-fp16"]
    command += ["--latent-space", "sd1", "--out", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" so far")]
    stages = [line for line in lines if not line.startswith("sdtrt: ")]
    assert stages == [
        f"{folder}: reading the weights",
        *(f"{name}: {stage}" for name in ("encoder", "decoder") for stage in ("to ONNX", "comparing it with torch")),
        "unet: reading the weights, embedding the empty prompt",
        *("unet: to ONNX", "unet: comparing it with torch"),
        *("measuring the latents", "measuring how far the networks look"),
    ]
    assert any("unet: the weights are those of variant fp16" in line for line in lines)
    assert set(read_manifest(tmp_path / "bundle")["files"]) == {"encoder.onnx", "decoder.onnx", "unet.onnx"}
