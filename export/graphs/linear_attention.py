"""Attention of DC-AE for export: sums over positions come first, so that memory grows with the image, not its square.

diffusers has the other order too, for images of few positions, and would fix the one that the traced size takes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_processor import SanaMultiscaleLinearAttention
from torch import Tensor, nn


def always_linear(network: nn.Module, _: Mapping[str, Any]) -> None:
    """Make all attention of an `AutoencoderDC`'s network linear, whatever the size."""
    for module in network.modules():
        if isinstance(module, SanaMultiscaleLinearAttention):
            module.processor = LinearAttention()


class LinearAttention:
    """What diffusers calls for attention; sums are in single precision, which half would overflow."""

    def __call__(self, attn: SanaMultiscaleLinearAttention, plane: Tensor) -> Tensor:
        tokens = plane.movedim(1, -1)
        own = torch.cat([project(tokens) for project in (attn.to_q, attn.to_k, attn.to_v)], -1).movedim(-1, 1)
        scales = torch.cat([own, *(project(own) for project in attn.to_qkv_multiscale)], 1)
        heads = scales.float().flatten(2).unflatten(1, (-1, 3 * attn.attention_head_dim))
        query, key, value = heads.chunk(3, 2)
        attended = attend(attn.nonlinearity(query), attn.nonlinearity(key), value, attn.eps).to(plane.dtype)
        mixed = attn.to_out(attended.flatten(1, 2).unflatten(2, plane.shape[2:]).movedim(1, -1))
        return plane + attn.norm_out(mixed).movedim(-1, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, least: float) -> Tensor:
    """Return means of `value` weighted by `key` times `query`, all (N, heads, width, positions), none negative.

    Weights may add up to 0, so that they are divided by `least` if that is more. diffusers adds it instead, which
    comes to the same; but so small a number, added, is optimised away on the way to ONNX.
    """
    weight = key.sum(-1, keepdim=True).mT @ query
    return (value @ key.mT) @ query / weight.clamp_min(least)
