"""Small checkpoints with random weights, of every class that can be exported, in the layout that users have."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
import transformers

from sdtrt.export import build
from sdtrt.export.graphs import attention

Make = Callable[..., Path]
SD1 = {"latent_channels": 4, "scaling_factor": 0.18215}
LEVELS = 4


def autoencoder_kl(**changes: Any) -> diffusers.AutoencoderKL:
    torch.manual_seed(0)
    config = {
        "block_out_channels": (32,) * LEVELS,
        "down_block_types": ("DownEncoderBlock2D",) * LEVELS,
        "up_block_types": ("UpDecoderBlock2D",) * LEVELS,
        "layers_per_block": 1,
    }
    return diffusers.AutoencoderKL(**(config | SD1 | changes)).eval()


def autoencoder_tiny(**changes: Any) -> diffusers.AutoencoderTiny:
    torch.manual_seed(0)
    widths, blocks = (8,) * LEVELS, (1,) * LEVELS
    config = {
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "num_encoder_blocks": blocks,
        "num_decoder_blocks": blocks,
    }
    return diffusers.AutoencoderTiny(**(config | changes)).eval()


UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 16),
    "norm_num_groups": 8,
    "layers_per_block": 1,
}


def unet_2d(**changes: Any) -> diffusers.UNet2DModel:
    torch.manual_seed(0)
    config = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    }
    return diffusers.UNet2DModel(**(UNET | config | changes)).eval()


def unet_2d_condition(**changes: Any) -> diffusers.UNet2DConditionModel:
    torch.manual_seed(0)
    config = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "mid_block_type": None,
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": 12,
    }
    return diffusers.UNet2DConditionModel(**(UNET | config | changes)).eval()


def write_text_encoder(folder: Path, suffix: str, width: int, *, projection: bool) -> None:
    torch.manual_seed(0)
    words = {"!": 0, "a": 1, "a</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}
    tokens = folder / f"tokenizer{suffix}"
    tokens.mkdir(parents=True)
    (tokens / "vocab.json").write_text(json.dumps(words))
    (tokens / "merges.txt").write_text("#version: 0.2\n")
    (tokens / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 7, "pad_token": "!"})
    )
    config = transformers.CLIPTextConfig(
        vocab_size=5,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=7,
        projection_dim=6,
        bos_token_id=3,
        eos_token_id=4,
        pad_token_id=0,
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    kind(config).save_pretrained(folder / f"text_encoder{suffix}")


@pytest.fixture(scope="session", autouse=True)
def cheap_exports() -> Iterator[None]:
    """Trace attention in two chunks, each of which takes time, and check exports on small images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "CHUNKS", 2)
        patch.setattr(build, "PROBE_SIDE", 64)
        yield


@pytest.fixture(scope="session")
def models() -> SimpleNamespace:
    """Functions that make models; keywords change their configs."""
    return SimpleNamespace(
        autoencoder_kl=autoencoder_kl,
        autoencoder_tiny=autoencoder_tiny,
        unet_2d=unet_2d,
        unet_2d_condition=unet_2d_condition,
    )


@pytest.fixture
def pipeline(tmp_path: Path) -> Make:
    """Return a function that writes a pipeline's folder as diffusers does: a VAE, and on demand a UNet and encoders."""

    def make(
        vae: Any = None, unet: Any = None, *, sdxl: bool = False, prediction: str = "epsilon", **index: Any
    ) -> Path:
        folder = tmp_path / "pipeline"
        (vae or autoencoder_kl()).save_pretrained(folder / "vae")
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
        diffusers.DDIMScheduler(prediction_type=prediction).save_pretrained(folder / "scheduler")
        if unet is not None:
            unet.save_pretrained(folder / "unet")
            write_text_encoder(folder, "", 12, projection=False)
        if sdxl:
            write_text_encoder(folder, "_2", 8, projection=True)
        return folder

    return make
