"""Attention for export: chunks change nothing, and the prompt may be forgotten once it is baked in."""

import pytest
import torch
from diffusers.models.attention_processor import Attention

from sdtrt.export.graphs import attention
from sdtrt.export.graphs.attention import attend, bake_prompt, bound_attention


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("upcast", [False, True])
def test_attend_chunks_equal_whole_attention(length: int, upcast: bool) -> None:
    torch.manual_seed(0)
    attn = Attention(query_dim=32, heads=2, dim_head=16, upcast_attention=upcast)
    query, key, value = torch.randn(3, 2, 2, length, 16).unbind(0)
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attend(attn, query, key, value, 16), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_bound_attention_matches_diffusers(plane: bool, half: bool) -> None:
    torch.manual_seed(0)
    attn = Attention(
        query_dim=32,
        heads=1,
        dim_head=32,
        norm_num_groups=8,
        residual_connection=True,
        rescale_output_factor=1.5,
        bias=True,
    ).eval()
    hidden = torch.randn(2, 32, 3, 5) if plane else torch.randn(2, 15, 32)
    with torch.inference_mode():
        expected = attn(hidden)
        holder = torch.nn.ModuleList([attn])
        bound_attention(holder, half=half)
        assert attn.processor.chunks == (1 if half else attention.CHUNKS)
        torch.testing.assert_close(attn(hidden), expected, atol=1e-5, rtol=1e-5)


def test_bound_attention_wide_heads_are_chunked_in_half_precision() -> None:
    attn = Attention(query_dim=512, heads=1, dim_head=512)
    bound_attention(torch.nn.ModuleList([attn]), half=True)
    assert attn.processor.chunks > 1


def test_bake_prompt_matches_diffusers() -> None:
    torch.manual_seed(0)
    block = torch.nn.ModuleDict({"attn2": Attention(query_dim=32, cross_attention_dim=12, heads=2, dim_head=16)})
    hidden, prompt = torch.randn(3, 10, 32), torch.randn(1, 7, 12)
    with torch.inference_mode():
        expected = block["attn2"](hidden, prompt.expand(3, -1, -1))
        bake_prompt(block, prompt)
        torch.testing.assert_close(block["attn2"](hidden, None), expected, atol=1e-5, rtol=1e-5)
    assert not hasattr(block["attn2"], "to_k")
