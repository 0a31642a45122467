"""The RDOQ search: its costs match the encoded size and the distortion, and more trials never cost more."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.passes import gather, non_empty, scatter, undo_channel_order
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.rdoq_search import rd_costs, refine_symbols, search_symbols
from sdtrt.engine.coding.streams import stream_codec

STEP_CODE = 2048


def scaled_latents(channels: int, height: int, width: int) -> np.ndarray:
    c, y, x = np.ogrid[:channels, :height, :width]
    noise = np.random.default_rng(4).laplace(0, 0.4, (channels, height, width))
    return (np.sin(y / 3 + c) * 2 + np.cos(x / 4) + noise).astype(np.float32)


@pytest.mark.parametrize(("name", "channels"), [("sd1-1", 4), ("tiny-1", 40)])
@pytest.mark.parametrize("gain", [1, 3000])  # within the tables, and with escapes and low bits
def test_rd_costs_match_stream_size_and_distortion(name: str, channels: int, gain: int) -> None:
    prior, latents = shipped_prior(name), gain * scaled_latents(channels, 24, 17)
    symbols = np.rint(latents).astype(np.int16)
    costs = rd_costs(symbols, latents, prior, STEP_CODE)
    payload = stream_codec.encode_stream(symbols, prior, STEP_CODE).data
    assert 0 <= 8 * len(payload) - costs.bits.sum() < 80  # the coder flushes its last words
    recon_offsets = stream_codec.decode_stream(payload, symbols.shape, prior, STEP_CODE).recon_offsets
    offsets = np.float32(0) if recon_offsets is None else recon_offsets / np.float32(64)
    spacing = np.empty_like(latents)
    for _, coding_pass in non_empty(prior.passes(channels), 24, 17):
        scatter(
            spacing, coding_pass, np.full_like(gather(latents, coding_pass), getattr(coding_pass, "spacing", 64) / 64)
        )
    errors = (latents - symbols - offsets) / undo_channel_order(spacing, prior.order(channels))
    np.testing.assert_allclose(costs.distortion, np.square(errors), rtol=1e-4, atol=1e-4 * gain)


def rd_cost(symbols: np.ndarray, latents: np.ndarray, lmbda: float) -> float:
    costs = rd_costs(symbols, latents, shipped_prior("sd1-1"), STEP_CODE)
    return float(costs.distortion.sum() + lmbda * costs.bits.sum())


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (24, 24)])
def test_search_symbols_more_trials_lower_the_cost(size: tuple[int, int]) -> None:
    latents = scaled_latents(4, *size)
    candidates = [search_symbols(latents, shipped_prior("sd1-1"), STEP_CODE, 0.1, trials) for trials in (0, 4, 32)]
    costs = [rd_cost(symbols, latents, 0.1) for symbols in candidates]
    assert costs[2] <= costs[1] <= costs[0]
    if size == (24, 24):
        assert costs[2] < 0.995 * costs[0]
    assert all(np.abs(symbols - latents).max() < 1 for symbols in candidates)


def test_refine_symbols_corrects_a_bad_symbol() -> None:
    latents = scaled_latents(4, 16, 16)
    symbols = np.rint(latents).astype(np.int16)
    symbols[0, 3, 4] += 1 if latents[0, 3, 4] < symbols[0, 3, 4] else -1
    refined = refine_symbols(symbols, latents, shipped_prior("sd1-1"), STEP_CODE, 0.01, 8)
    assert refined[0, 3, 4] == np.rint(latents[0, 3, 4])
