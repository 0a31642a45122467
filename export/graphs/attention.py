"""Attention for export: chunks of queries that bound the score matrix, and constant keys and values of a prompt."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

CHUNKS = 16
WIDEST_FUSED_HEAD = 256  # wider heads have no fused kernel, so that the score matrix is stored


def bound_attention(network: nn.Module, *, half: bool) -> None:
    """Make the self-attention of `network` process its queries in `CHUNKS` parts.

    The scores of n positions then take n * n / 16 values. In half precision, heads that engines fuse are not split.
    """

    def chunks(head: int) -> int:
        return 1 if half and head <= WIDEST_FUSED_HEAD else CHUNKS

    for module in network.modules():
        if isinstance(module, PlaneAttention):
            module.chunks = chunks(module.proj.in_channels)
        elif isinstance(module, Attention) and not isinstance(module.processor, PromptAttention):
            module.set_processor(SelfAttention(chunks(module.inner_dim // module.heads)))


def bake_prompt(unet: nn.Module, embedding: Tensor) -> None:
    """Replace the keys and values of every cross-attention with constants for `embedding`, (1, tokens, width)."""
    for name, module in list(unet.named_modules()):
        if isinstance(module, Attention) and name.endswith("attn2"):
            module.set_processor(PromptAttention(module, embedding))
            del module.to_k, module.to_v


class Processor(nn.Module, ABC):
    """An attention processor of diffusers; subclasses differ in the keys and values."""

    def forward(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        tokens, shape = _tokens(attn, hidden_states)
        return _finish(attn, self.attended(attn, tokens), hidden_states, shape)

    @abstractmethod
    def attended(self, attn: Attention, tokens: Tensor) -> Tensor:
        """Return the attention's output before its projection, for tokens, (N, positions, width)."""


class SelfAttention(Processor):
    """Self-attention of a plane's positions, with queries in chunks."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks

    def attended(self, attn: Attention, tokens: Tensor) -> Tensor:
        query, key, value = (_heads(attn, project(tokens)) for project in (attn.to_q, attn.to_k, attn.to_v))
        return attend(attn, query, key, value, self.chunks)


class PromptAttention(Processor):
    """Cross-attention to a fixed prompt."""

    def __init__(self, attn: Attention, embedding: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            self.register_buffer("key", _heads(attn, attn.to_k(embedding)))
            self.register_buffer("value", _heads(attn, attn.to_v(embedding)))

    def attended(self, attn: Attention, tokens: Tensor) -> Tensor:
        query = _heads(attn, attn.to_q(tokens))
        key, value = (tensor.expand(query.shape[0], -1, -1, -1) for tensor in (self.key, self.value))
        return attend(attn, query, key, value)


class PlaneAttention(nn.Module):
    """Self-attention with one head over a plane: the attention block of video autoencoders, for one frame."""

    upcast_attention = False

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm, self.to_qkv, self.proj = block.norm, block.to_qkv, block.proj
        self.chunks = 1

    def forward(self, plane: Tensor) -> Tensor:
        tokens = self.to_qkv(self.norm(plane)).flatten(2).transpose(1, 2).unsqueeze(1)
        query, key, value = tokens.chunk(3, -1)
        attended = attend(self, query, key, value, self.chunks).squeeze(1)
        return plane + self.proj(attended.transpose(1, 2).reshape(plane.shape))


def attend(attn: nn.Module, query: Tensor, key: Tensor, value: Tensor, chunks: int = 1) -> Tensor:
    """Return attention, (N, heads, positions, width), computed in `chunks` parts of the queries.

    With the checkpoint's option `upcast_attention` it is computed in single precision; without it SD 2.1 would give
    black images.
    """
    dtype = query.dtype
    if attn.upcast_attention:
        query, key, value = query.float(), key.float(), value.float()
    if chunks == 1:
        return F.scaled_dot_product_attention(query, key, value).to(dtype)
    shape, length, width = query.shape, query.shape[2], query.shape[3]
    part = (length + chunks - 1) // chunks
    # Queries and keys each get the root of the scale, lest half precision overflows. Padding fills the last chunk.
    query = F.pad(query.flatten(0, 1) * width**-0.25, (0, 0, 0, chunks * part - length))
    key, value = key.flatten(0, 1).transpose(1, 2) * width**-0.25, value.flatten(0, 1)
    parts = [
        torch.bmm(torch.softmax(torch.bmm(q, key), -1), value) for q in query.unflatten(1, (chunks, part)).unbind(1)
    ]
    return torch.cat(parts, 1)[:, :length].reshape(shape).to(dtype)


def _tokens(attn: Attention, hidden: Tensor) -> tuple[Tensor, torch.Size | None]:
    """Return normalised hidden states, (N, positions, channels), and their original shape if it was a plane."""
    shape = hidden.shape if hidden.ndim == 4 else None
    tokens = hidden.flatten(2).transpose(1, 2) if shape else hidden
    if attn.group_norm is not None:
        tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
    return tokens, shape


def _heads(attn: Attention, tokens: Tensor) -> Tensor:
    batch, length, width = tokens.shape
    return tokens.view(batch, length, attn.heads, width // attn.heads).transpose(1, 2)


def _finish(attn: Attention, attended: Tensor, hidden: Tensor, shape: torch.Size | None) -> Tensor:
    tokens = attn.to_out[0](attended.transpose(1, 2).flatten(2))
    plane = tokens.transpose(1, 2).reshape(shape) if shape else tokens
    if attn.residual_connection:
        plane = plane + hidden
    return plane / attn.rescale_output_factor
