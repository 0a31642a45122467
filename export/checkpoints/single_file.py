"""A VAE in one file without a config, with the key names of the original Stable Diffusion or of diffusers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file
from torch import Tensor, nn

from sdtrt.errors import BundleError

PARTS = ("encoder", "decoder", "quant_conv", "post_quant_conv")
PREFIXES = ("first_stage_model.", "vae.", "")


def load_files(files: Sequence[Path]) -> nn.Module:
    """Return the `AutoencoderKL` in a file or in shards; its config follows from the shapes of the weights.

    Files that do not end in .safetensors are read as pickled weights. Raises `BundleError` if there is no VAE.
    """
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= _read(file)
    path = files[0]
    for prefix in PREFIXES:
        parts = tuple(f"{prefix}{part}." for part in PARTS)
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(parts)}
        if "encoder.down.0.block.0.conv1.weight" in own:
            return _from_original(path, own)
        if "encoder.down_blocks.0.resnets.0.conv1.weight" in own:
            return _from_diffusers(path, own)
    names = ", ".join(sorted(weights)[:3])
    raise BundleError(
        f"{path} holds no VAE: neither encoder.down.0… (original) nor encoder.down_blocks.0… (diffusers); it holds "
        f"{names or 'nothing'} …; another class of autoencoder needs a config.json in the same folder"
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)  # type: ignore[no-any-return]
        weights = torch.load(path, map_location="cpu", weights_only=True)
        return weights.get("state_dict", weights)  # type: ignore[no-any-return]
    except Exception as error:  # errors of safetensors, pickle and the disk have no common base class
        raise BundleError(f"{path} cannot be read: {error}") from error


def _from_original(path: Path, weights: dict[str, Tensor]) -> nn.Module:
    config = _config(
        path, weights, block="encoder.down.{}.block.{}.conv1.weight", attention="encoder.mid.attn_1.q.weight"
    )
    return _with_weights(path, config, convert_ldm_vae_checkpoint(weights, config))


def _from_diffusers(path: Path, weights: dict[str, Tensor]) -> nn.Module:
    config = _config(
        path,
        weights,
        block="encoder.down_blocks.{}.resnets.{}.conv1.weight",
        attention="encoder.mid_block.attentions.0.to_q.weight",
    )
    return _with_weights(path, config, weights)


def _with_weights(path: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    module = diffusers.AutoencoderKL(**config)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"{path} does not fit the config derived from its shapes: {error}") from error
    return module.float().eval()  # type: ignore[no-any-return]


def _config(path: Path, weights: dict[str, Tensor], *, block: str, attention: str) -> dict[str, Any]:
    """Return an AutoencoderKL's config; all published models have normalisation groups of 32 channels."""
    levels = next(level for level in range(99) if block.format(level, 0) not in weights)
    layers = next(layer for layer in range(99) if block.format(0, layer) not in weights)
    try:
        widths = [weights[block.format(level, 0)].shape[0] for level in range(levels)]
        latent_channels = weights["decoder.conv_in.weight"].shape[1]
    except KeyError as error:
        raise BundleError(f"{path} holds an incomplete VAE: {error} is missing") from error
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "latent_channels": latent_channels,
        "norm_num_groups": 32,
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
        "mid_block_add_attention": attention in weights or attention.replace("to_q", "query") in weights,
    }
