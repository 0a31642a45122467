"""The adaptive prior's shipped tables are what their maker makes, but for the last digits of another `tanh`."""

import numpy as np

from sdtrt.engine.prior import adaptive_tables
from sdtrt.export.prior.tables import integer_weights, logistic_tables


def test_shipped_tables() -> None:
    made = logistic_tables().astype(np.int64)
    assert made.shape == adaptive_tables().shape
    assert np.abs(made - adaptive_tables()).max() <= 32


def test_integer_weights() -> None:
    weights = integer_weights(np.array([0.5, 0.5, 0.0, 1e-12]))
    assert weights.sum() == 1 << 24
    assert weights.min() == 1
    assert abs(int(weights[0]) - int(weights[1])) <= 2
