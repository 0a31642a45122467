"""Linear attention of DC-AE for export: sums over positions come first, so that memory is linear in the image's size.

For images of few positions diffusers uses quadratic attention. Tracing would fix the variant for the traced size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_processor import SanaMultiscaleLinearAttention
from torch import Tensor, nn


def always_linear(network: nn.Module, _: Mapping[str, Any]) -> None:
    """Make all attention of an `AutoencoderDC`'s network linear, for every image size."""
    for module in network.modules():
        if isinstance(module, SanaMultiscaleLinearAttention):
            module.processor = LinearAttention()


class LinearAttention:
    """An attention processor of diffusers; sums are in single precision because half precision would overflow."""

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
    """Return means of `value`, weighted by the products of `key` and `query`, all (N, heads, width, positions).

    Keys and queries are not negative. The sum of weights may be 0, so the divisor is at least `least`. diffusers adds
    `least` instead, which is nearly equal; but the export to ONNX removes the addition of such a small number.
    """
    weight = key.sum(-1, keepdim=True).mT @ query
    return (value @ key.mT) @ query / weight.clamp_min(least)
