"""The adaptive prior's shipped tables are what their maker makes, but for the last digits of another `tanh`."""

import numpy as np

from sdtrt.engine.coding.priors.adaptive import adaptive_tables
from sdtrt.engine.coding.priors.tables import LOW_BITS, NUM_SCALES
from sdtrt.export.prior.tables import integer_weights, logistic_row, logistic_tables, scale_of_index


def test_logistic_tables_equal_the_shipped_ones() -> None:
    made = logistic_tables().astype(np.int64)
    assert made.shape == adaptive_tables().shape
    assert np.abs(made - adaptive_tables()).max() <= 32


def test_integer_weights_sum_to_the_precision() -> None:
    weights = integer_weights(np.array([0.5, 0.5, 0.0, 1e-12]))
    assert weights.sum() == 1 << 24
    assert weights.min() == 1
    assert abs(int(weights[0]) - int(weights[1])) <= 2


def test_logistic_tables_raw_low_bits_cost_little() -> None:
    """The bits lost because the symbols of a bin count as equally likely: docs/architecture.md, "A small alphabet"."""
    losses = []
    for k in range(17, NUM_SCALES):
        edges = np.arange(-4000, 4001) - 0.5
        exact = np.diff(0.5 * (1 + np.tanh(edges / scale_of_index(k) / 2)))
        bins = exact.reshape(-1, 1 << int(LOW_BITS[k]))
        losses.append(
            float(np.sum(bins * np.log2(np.maximum(bins, 1e-300) / bins.mean(1, keepdims=True).clip(1e-300))))
        )
        assert logistic_row(scale_of_index(k), 0.0, bins.shape[1])[-1] < 0.01
    assert 0 < max(losses) < 0.01
