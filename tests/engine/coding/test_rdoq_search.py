"""The search for cheaper symbols: what it counts is what is spent, and it never makes things worse."""

import numpy as np
import pytest

from sdtrt.engine.coding import stream_codec
from sdtrt.engine.coding.priors.passes import gather, non_empty, scatter, undo_channel_order
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.rdoq_search import rd_costs, refine_symbols, search_symbols

CODE = 2048


def scaled(channels: int, height: int, width: int) -> np.ndarray:
    c, y, x = np.ogrid[:channels, :height, :width]
    noise = np.random.default_rng(4).laplace(0, 0.4, (channels, height, width))
    return (np.sin(y / 3 + c) * 2 + np.cos(x / 4) + noise).astype(np.float32)


@pytest.mark.parametrize(("name", "channels"), [("sd1-1", 4), ("tiny-1", 40)])
@pytest.mark.parametrize("gain", [1, 3000])  # within the tables, and with escapes and low bits
def test_costs_are_what_is_spent(name: str, channels: int, gain: int) -> None:
    prior, latents = shipped_prior(name), gain * scaled(channels, 24, 17)
    symbols = np.rint(latents).astype(np.int16)
    costs = rd_costs(symbols, latents, prior, CODE)
    payload = stream_codec.encode_stream(symbols, prior, CODE).data
    assert 0 <= 8 * len(payload) - costs.bits.sum() < 80  # the coder's last words
    points = stream_codec.decode_stream(payload, symbols.shape, prior, CODE).recon_offsets
    within = np.float32(0) if points is None else points / np.float32(64)
    spacing = np.empty_like(latents)
    for _, step in non_empty(prior.passes(channels), 24, 17):
        scatter(spacing, step, np.full_like(gather(latents, step), getattr(step, "spacing", 64) / 64))
    errors = (latents - symbols - within) / undo_channel_order(spacing, prior.order(channels))
    np.testing.assert_allclose(costs.distortion, np.square(errors), rtol=1e-4, atol=1e-4 * gain)


def lagrangian(symbols: np.ndarray, latents: np.ndarray, lmbda: float) -> float:
    costs = rd_costs(symbols, latents, shipped_prior("sd1-1"), CODE)
    return float(costs.distortion.sum() + lmbda * costs.bits.sum())


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (24, 24)])
def test_more_trials_cost_less(size: tuple[int, int]) -> None:
    latents = scaled(4, *size)
    found = [search_symbols(latents, shipped_prior("sd1-1"), CODE, 0.1, trials) for trials in (0, 4, 32)]
    costs = [lagrangian(symbols, latents, 0.1) for symbols in found]
    assert costs[2] <= costs[1] <= costs[0]
    if size == (24, 24):
        assert costs[2] < 0.995 * costs[0]
    assert all(np.abs(symbols - latents).max() < 1 for symbols in found)


def test_a_bad_start_is_mended() -> None:
    latents = scaled(4, 16, 16)
    bad = np.rint(latents).astype(np.int16)
    bad[0, 3, 4] += 1 if latents[0, 3, 4] < bad[0, 3, 4] else -1
    better = refine_symbols(bad, latents, shipped_prior("sd1-1"), CODE, 0.01, 8)
    assert better[0, 3, 4] == np.rint(latents[0, 3, 4])
