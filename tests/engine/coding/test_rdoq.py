"""The best bargain between error and bits, against all symbols tried one by one."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.tables import NUM_BINS, NUM_SCALES, SUBSYMBOL_STEPS, Context, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import quantize_rdo

PRIOR = shipped_prior("sd1-1")
BITS = bit_costs(PRIOR.tables)


def contexts(shape: tuple[int, int]) -> tuple[np.ndarray, Context]:
    rng = np.random.default_rng(3)
    location = rng.integers(-60, 60, shape).astype(np.int32)
    wanted = (location / SUBSYMBOL_STEPS + rng.laplace(0, 2, shape)).astype(np.float32)
    return wanted, Context(location, rng.integers(0, NUM_SCALES, shape).astype(np.int32))


@pytest.mark.parametrize("lmbda", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("centroids", [None, PRIOR.centroids], ids=["no centroids", "centroids"])
def test_the_cheaper_neighbour_is_chosen(lmbda: float, centroids: np.ndarray | None) -> None:
    wanted, context = contexts((3, 400))
    chosen = quantize_rdo(wanted, context, BITS, centroids, lmbda)
    assert chosen.dtype == np.int32

    def cost(symbols: np.ndarray) -> np.ndarray:
        bins = bins_of(symbols - context.base(), context.low_bits())
        points = 0 if centroids is None else centroids[context.table_rows(), bins] / 64
        return np.square(wanted - symbols - points) + lmbda * BITS[context.table_rows(), bins]

    below = np.floor(wanted).astype(np.int32)
    least = np.minimum(cost(below), cost(below + 1))
    np.testing.assert_allclose(cost(chosen), least, atol=1e-4)
    assert set(np.unique(chosen - below)) == {0, 1}


def test_without_a_price_the_nearest_is_chosen() -> None:
    wanted, context = contexts((2, 300))
    np.testing.assert_array_equal(quantize_rdo(wanted, context, BITS, None, 0.0), np.rint(wanted))


def test_dear_bits_draw_symbols_to_where_they_are_expected() -> None:
    wanted, context = contexts((2, 300))
    flat = np.zeros((NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS), np.float32)
    expected = np.abs(quantize_rdo(wanted, context, BITS, None, 0.5) - context.location / SUBSYMBOL_STEPS).mean()
    assert expected < np.abs(quantize_rdo(wanted, context, flat, None, 0.5) - context.location / SUBSYMBOL_STEPS).mean()
