"""UNets to ONNX, compared with diffusers; `write_part` itself compares both precisions with torch."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from exported import TOLERANCES, assert_close, run_onnx
from transformers import CLIPTextModel

from sdtrt.export.build import unet_part
from sdtrt.export.checkpoints.prompt import empty_prompt
from sdtrt.export.export_options import ExportOptions
from sdtrt.export.graphs.bundle_part import ExportRecord, write_part
from sdtrt.export.graphs.networks import Denoiser

Make = Callable[..., Path]
SDXL = {
    "cross_attention_dim": 20,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 6,
}
MIDDLE_ATTENTION = {"mid_block_type": "UNetMidBlock2DCrossAttn"}


def export_unet(folder: Path, out: Path, *, half: bool = True) -> None:
    """Export the UNet in `folder` alone."""
    out.mkdir()
    part = unet_part(folder, torch.randn(2, 4, 16, 16), ExportOptions(str(folder), out), [])
    write_part(part, out, ExportRecord(), half=half, quiet=True)


@pytest.mark.parametrize("upcast", [False, True], ids=["sd1", "sd2"])
def test_unet_of_sd1_and_sd2_matches_diffusers_in_both_precisions(
    tmp_path: Path, pipeline: Make, models: SimpleNamespace, upcast: bool
) -> None:
    unet = models.unet_2d_condition(upcast_attention=upcast)
    folder = pipeline(unet=unet)
    export_unet(folder, tmp_path / "bundle")
    latents, timestep = torch.randn(2, 4, 8, 24), torch.tensor([3.0, 700.0])
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    with torch.inference_mode():
        # The empty prompt: start, end, and padding up to the tokenizer's length.
        embedding = encoder(torch.tensor([[3, 4, 0, 0, 0, 0, 0]])).last_hidden_state
        expected = unet(latents, timestep, embedding.expand(2, -1, -1)).sample
    for suffix, tolerance in TOLERANCES.items():
        path = tmp_path / "bundle" / f"unet{suffix}.onnx"
        assert_close(run_onnx(path, latents=latents.numpy(), timestep=timestep.numpy()), expected, tolerance)


def test_unet_of_sdxl_with_middle_block_matches_diffusers(
    tmp_path: Path, pipeline: Make, models: SimpleNamespace
) -> None:
    unet = models.unet_2d_condition(**SDXL, **MIDDLE_ATTENTION)
    folder = pipeline(unet=unet, sdxl=True, force_zeros_for_empty_prompt=False)
    export_unet(folder, tmp_path / "bundle", half=False)  # in half precision SDXL's UNet differs little from SD 1's
    prompt = empty_prompt(folder)
    assert prompt.embedding.shape == (1, 7, 20)
    assert prompt.embedding.any()
    added = {"text_embeds": prompt.pooled.expand(2, -1), "time_ids": prompt.time_ids.expand(2, -1)}
    latents, timestep = torch.randn(2, 4, 16, 8), torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        expected = unet(latents, timestep, prompt.embedding.expand(2, -1, -1), added_cond_kwargs=added).sample
    prediction = run_onnx(tmp_path / "bundle" / "unet.onnx", latents=latents.numpy(), timestep=timestep.numpy())
    assert_close(prediction, expected, 1e-4)


def test_unet_of_sdxl_with_zeros_for_the_empty_prompt_matches_diffusers_in_torch(
    pipeline: Make, models: SimpleNamespace
) -> None:
    """Only constants of the graph differ from the test above, so nothing is exported."""
    unet = models.unet_2d_condition(**SDXL)
    folder = pipeline(unet=unet, sdxl=True, force_zeros_for_empty_prompt=True)
    prompt = empty_prompt(folder)
    assert prompt.embedding.shape == (1, 7, 20)
    assert not prompt.embedding.any()
    added = {"text_embeds": prompt.pooled.expand(2, -1), "time_ids": prompt.time_ids.expand(2, -1)}
    latents, timestep = torch.randn(2, 4, 16, 8), torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        expected = unet(latents, timestep, prompt.embedding.expand(2, -1, -1), added_cond_kwargs=added).sample
        prediction = Denoiser(unet, prompt).eval()(latents, timestep)
    assert_close(prediction.numpy(), expected, 1e-4)


def test_unconditional_unet_matches_diffusers(tmp_path: Path, pipeline: Make, models: SimpleNamespace) -> None:
    unet = models.unet_2d(add_attention=False)  # that of the middle block; one block downwards has it
    folder = pipeline(vae=models.autoencoder_tiny())
    unet.save_pretrained(folder / "unet")
    export_unet(folder, tmp_path / "bundle")
    latents, timestep = torch.randn(3, 4, 16, 24), torch.tensor([3.0, 40.0, 900.0])
    with torch.inference_mode():
        expected = unet(latents, timestep).sample
    prediction = run_onnx(tmp_path / "bundle" / "unet.onnx", latents=latents.numpy(), timestep=timestep.numpy())
    assert_close(prediction, expected, 1e-4)
