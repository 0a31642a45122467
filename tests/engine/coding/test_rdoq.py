"""RDOQ of one pass, compared with the cost of both neighbouring symbols."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.tables import NUM_BINS, NUM_SCALES, SUBSYMBOL_STEPS, Context, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import quantize_rdo

PRIOR = shipped_prior("sd1-1")
BITS = bit_costs(PRIOR.tables)


def latents_and_context(shape: tuple[int, int]) -> tuple[np.ndarray, Context]:
    rng = np.random.default_rng(3)
    location = rng.integers(-60, 60, shape).astype(np.int32)
    latents = (location / SUBSYMBOL_STEPS + rng.laplace(0, 2, shape)).astype(np.float32)
    return latents, Context(location, rng.integers(0, NUM_SCALES, shape).astype(np.int32))


@pytest.mark.parametrize("lmbda", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("centroids", [None, PRIOR.centroids], ids=["no centroids", "centroids"])
def test_quantize_rdo_takes_the_neighbour_of_lower_cost(lmbda: float, centroids: np.ndarray | None) -> None:
    latents, context = latents_and_context((3, 400))
    symbols = quantize_rdo(latents, context, BITS, centroids, lmbda)
    assert symbols.dtype == np.int32

    def cost(symbols: np.ndarray) -> np.ndarray:
        bins = bins_of(symbols - context.base(), context.low_bits())
        recon_offsets = 0 if centroids is None else centroids[context.table_rows(), bins] / 64
        return np.square(latents - symbols - recon_offsets) + lmbda * BITS[context.table_rows(), bins]

    below = np.floor(latents).astype(np.int32)
    lowest = np.minimum(cost(below), cost(below + 1))
    np.testing.assert_allclose(cost(symbols), lowest, atol=1e-4)
    assert set(np.unique(symbols - below)) == {0, 1}


def test_quantize_rdo_lambda_0_takes_the_nearest_symbol() -> None:
    latents, context = latents_and_context((2, 300))
    np.testing.assert_array_equal(quantize_rdo(latents, context, BITS, None, 0.0), np.rint(latents))


def test_quantize_rdo_high_rate_pulls_symbols_to_the_location() -> None:
    latents, context = latents_and_context((2, 300))
    equal_bits = np.zeros((NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS), np.float32)
    distance = np.abs(quantize_rdo(latents, context, BITS, None, 0.5) - context.location / SUBSYMBOL_STEPS).mean()
    nearest = quantize_rdo(latents, context, equal_bits, None, 0.5)
    assert distance < np.abs(nearest - context.location / SUBSYMBOL_STEPS).mean()
