"""Priors of the first kind: exact arithmetic, ranges, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.coding.prior import network_prior
from sdtrt.engine.coding.prior_adaptive import adaptive_tables
from sdtrt.engine.coding.prior_symbols import (
    ACTIVATION_LIMIT,
    Layer,
    SymbolPrior,
    network_inputs,
    network_passes,
    step_features,
)
from sdtrt.engine.coding.symbol_planes import SIGNED_LIMIT, SymbolPlanes
from sdtrt.errors import BundleError, FormatError

PRIOR = network_prior("tiny-1")


def exact(layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """Return what a layer gives, in int64 throughout."""
    whole = {field: getattr(layer, field).astype(np.int64) for field in Layer.__slots__}
    units = np.clip((whole["hidden"] @ inputs + whole["hidden_bias"][:, None]) >> 6, 0, 127)
    sums = whole["direct"] @ inputs + whole["output"] @ units + whole["output_bias"][:, None]
    return sums >> 6


def test_arithmetic_is_exact() -> None:
    prior = PRIOR
    assert isinstance(prior, SymbolPrior)
    rng = np.random.default_rng(5)
    for step, layer in zip(prior.passes(len(prior.order(40))), prior.layers, strict=True):
        signed = len(step.own_taps) * (step.stop - step.start)
        assert layer.largest_sum(signed) < 1 << 24
        for array in (layer.hidden, layer.hidden_bias, layer.direct, layer.output, layer.output_bias):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, np.rint(array))
        inputs = rng.integers(0, ACTIVATION_LIMIT + 1, (layer.hidden.shape[1], 96))
        inputs[:, 32:64] = np.where(inputs[:, 32:64] > 63, ACTIVATION_LIMIT, 0)
        inputs[:signed] = rng.integers(-SIGNED_LIMIT, SIGNED_LIMIT + 1, (signed, 96))
        inputs[:signed, 64:] = np.sign(inputs[:signed, 64:]) * SIGNED_LIMIT
        inputs[:, 95] = np.where(layer.direct[0] > 0, ACTIVATION_LIMIT, 0)  # all that pushes one way
        inputs[:signed, 95] = np.sign(layer.direct[0, :signed]) * SIGNED_LIMIT
        np.testing.assert_array_equal(layer(inputs.astype(np.float32)), exact(layer, inputs))


def test_order_and_shapes() -> None:
    assert isinstance(PRIOR, SymbolPrior)
    assert sorted(PRIOR.order(40)) == list(range(40))
    for step, layer in zip(PRIOR.passes(40), PRIOR.layers, strict=True):
        planes = SymbolPlanes((40, 5, 6), 2000)
        assert network_inputs(step, planes).shape == (layer.hidden.shape[1], planes.positions(step))
        assert len(layer.output_bias) == 2 * (step.stop - step.start)
    with pytest.raises(FormatError, match="channels"):
        PRIOR.order(41)


def layers_for(groups: list[list[int]], weight: int) -> list[Layer]:
    made = []
    for step in network_passes(groups):
        group = step.stop - step.start
        inputs = len(network_inputs(step, SymbolPlanes((step.stop, 1, 1), 0)))
        made.append(
            Layer(
                np.full((4, inputs), weight, np.float32),
                np.zeros(4, np.float32),
                np.zeros((2 * group, inputs), np.float32),
                np.ones((2 * group, 4), np.float32),
                np.zeros(2 * group, np.float32),
            )
        )
    return made


def test_a_prior_whose_sums_could_round_is_refused() -> None:
    groups = [[0, 1], [2]]
    assert SymbolPrior(groups, layers_for(groups, 1), adaptive_tables()).passes(3)
    with pytest.raises(BundleError, match="exact"):
        SymbolPrior(groups, layers_for(groups, 1 << 15), adaptive_tables())
    with pytest.raises(BundleError, match="layers"):
        SymbolPrior(groups, layers_for(groups, 1)[1:], adaptive_tables())


def test_step_features() -> None:
    for knot in range(16):
        assert step_features(256 * knot).tolist() == [127.0 if n == knot else 0.0 for n in range(17)]
    assert step_features(4095).tolist() == [0] * 15 + [1, 127]
    assert step_features(128).tolist() == [64, 64] + [0] * 15
    assert step_features(1).tolist() == [127, 1] + [0] * 15 or step_features(1).tolist() == [127, 0] + [0] * 15


@given(st.integers(0, 4095))
def test_step_features_share_out_one_hat(step_code: int) -> None:
    features = step_features(step_code)
    assert features.dtype == np.float32
    assert np.count_nonzero(features) in {1, 2}
    assert 127 <= features.sum() <= 128
    np.testing.assert_array_equal(features, np.rint(features))
