"""The benchmark's autoencoder is diffusers': weights of one load into the other, and outputs are the same."""

import runpy
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

HERE = Path(__file__).parents[2] / "benchmarks" / "gpu"
WIDTHS = (32, 64, 96, 96)


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return runpy.run_path(str(HERE / "autoencoder_kl.py"))


def theirs(widths: tuple[int, ...], layers: int) -> diffusers.AutoencoderKL:
    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=layers,
        latent_channels=4,
    ).eval()


@pytest.mark.parametrize("widths", [WIDTHS, (32, 32)])
def test_outputs_are_those_of_diffusers(ours: dict[str, Any], widths: tuple[int, ...]) -> None:
    reference, mine = theirs(widths, 2), ours["AutoencoderKL"](widths).eval()
    mine.load_state_dict(reference.state_dict())
    reference.load_state_dict(mine.state_dict())
    pixels = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        latents = reference.encode(pixels).latent_dist.mean
        torch.testing.assert_close(mine.encode(pixels), latents, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine.decode(latents), reference.decode(latents).sample, rtol=1e-4, atol=1e-4)


def test_its_size_is_that_of_stable_diffusion(ours: dict[str, Any]) -> None:
    with torch.device("meta"):
        mine, reference = ours["AutoencoderKL"](), theirs((128, 256, 512, 512), 2)
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in mine.state_dict().items()} == shapes


def test_latents_have_unit_scale(ours: dict[str, Any]) -> None:
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    encode, decode = ours["random_coders"](pixels, (32, 32, 32, 32), 1)
    with torch.inference_mode():
        latents = encode(pixels)
        assert latents.shape == (1, 4, 8, 8)
        assert abs(float(latents.std()) - 1) < 1e-3
        assert decode(latents).shape == pixels.shape
