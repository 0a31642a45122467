"""Probability tables: positive integers that sum to 2**24."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdtrt.engine.coding.priors.adaptive import adaptive_tables
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.tables import LOW_BITS, MAX_BIN, NUM_BINS, NUM_SCALES, SUBSYMBOL_STEPS
from sdtrt.engine.format.latent_space import PRIOR_NAMES
from sdtrt.export.prior import tables  # NumPy alone

ADAPTIVE = adaptive_tables()


@pytest.mark.parametrize("name", ["logistic", "adaptive", *PRIOR_NAMES.values()])
def test_tables_sum_to_2_24_without_zeros(name: str) -> None:
    made = {"logistic": tables.logistic_tables, "adaptive": lambda: ADAPTIVE}
    weights = made[name]() if name in made else shipped_prior(name).tables
    assert weights.shape == (NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS)
    assert weights.dtype == np.uint32
    assert weights.min() >= 1
    assert set(weights.sum(1, dtype=np.int64)) == {1 << 24}


@given(hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)))
def test_integer_weights_sum_to_2_24_without_zeros(probabilities: np.ndarray) -> None:
    probabilities[0] += 1e-3
    weights = tables.integer_weights(probabilities).astype(np.int64)
    assert weights.sum() == 1 << 24
    assert weights.min() >= 1


def test_tables_spread_with_the_scale_and_lean_with_the_fraction() -> None:
    weights = ADAPTIVE.astype(np.int64).reshape(NUM_SCALES, SUBSYMBOL_STEPS, NUM_BINS)
    narrow = weights[: np.flatnonzero(LOW_BITS)[0], 0]
    assert (np.diff(narrow[:, MAX_BIN]) < 0).all()
    assert weights[9, 7, MAX_BIN + 1] > weights[9, 7, MAX_BIN] > weights[9, 0, MAX_BIN + 1]


def test_low_bits_follow_the_scale() -> None:
    assert LOW_BITS.tolist() == [0] * 17 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert [tables.scale_of_index(k) for k in (0, 3, 9)] == [0.06, 0.12, 0.48]
