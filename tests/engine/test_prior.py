"""Priors: exact arithmetic, ranges, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.passes import SIGNED_LIMIT, Planes
from sdtrt.engine.prior import (
    ACTIVATION_LIMIT,
    AdaptivePrior,
    Layer,
    NetworkPrior,
    network_inputs,
    network_passes,
    network_prior,
    step_features,
)
from sdtrt.engine.profile import PRIOR_NAMES
from sdtrt.engine.tables import LOCATION_LIMIT, SCALES
from sdtrt.errors import BundleError, FormatError

NAMES = list(PRIOR_NAMES.values())
TABLES = AdaptivePrior(np.zeros((1, 3), np.uint8)).tables


def exact(layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """Return what a layer gives, in int64 throughout."""
    whole = {field: getattr(layer, field).astype(np.int64) for field in Layer.__slots__}
    units = np.clip((whole["hidden"] @ inputs + whole["hidden_bias"][:, None]) >> 6, 0, 127)
    sums = whole["direct"] @ inputs + whole["output"] @ units + whole["output_bias"][:, None]
    return sums >> 6


@pytest.mark.parametrize("name", NAMES)
def test_arithmetic_is_exact(name: str) -> None:
    prior = network_prior(name)
    rng = np.random.default_rng(5)
    for step, layer in zip(prior.passes(len(prior.order(0))), prior.layers, strict=True):
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


@pytest.mark.parametrize("name", NAMES)
def test_order_and_shapes(name: str) -> None:
    prior = network_prior(name)
    order = prior.order(0)
    assert sorted(order) == list(range(len(order)))
    passes = prior.passes(len(order))
    assert len(passes) == len(prior.layers)
    for step, layer in zip(passes, prior.layers, strict=True):
        planes = Planes(len(order), 5, 6)
        inputs = network_inputs(step, planes, 2000)
        assert inputs.shape == (layer.hidden.shape[1], planes.positions(step))
        assert len(layer.output_bias) == 2 * (step.stop - step.start)
    with pytest.raises(FormatError, match="channels"):
        prior.passes(len(order) + 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step_code", [0, 2048, 4095])
def test_contexts_stay_in_range(name: str, step_code: int) -> None:
    prior = network_prior(name)
    channels = len(prior.order(0))
    rng = np.random.default_rng(6)
    planes = Planes(channels, 6, 7)
    for number, step in enumerate(prior.passes(channels)):
        context = prior.context(step, planes, number, step_code)
        assert abs(context.location + 0.5).max() < LOCATION_LIMIT
        assert context.scale.min() >= 0
        assert context.scale.max() < SCALES
        extremes = rng.choice([-32768, -1, 0, 32767], (step.stop - step.start, planes.positions(step)))
        planes.put(step, extremes.astype(np.int32))


def layers_for(groups: list[list[int]], weight: int) -> list[Layer]:
    made = []
    for step in network_passes(groups):
        group = step.stop - step.start
        inputs = len(network_inputs(step, Planes(step.stop, 1, 1), 0))
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
    assert NetworkPrior(groups, layers_for(groups, 1), TABLES).passes(3)
    with pytest.raises(BundleError, match="exact"):
        NetworkPrior(groups, layers_for(groups, 1 << 15), TABLES)
    with pytest.raises(BundleError, match="layers"):
        NetworkPrior(groups, layers_for(groups, 1)[1:], TABLES)


def test_a_prior_that_is_not_shipped_is_named() -> None:
    with pytest.raises(BundleError, match="nonesuch-9"):
        network_prior("nonesuch-9")


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


@pytest.mark.parametrize("parameters", [(9, 0, 0), (0, 32, 0), (0, 0, 32), (255, 255, 255)])
def test_adaptive_parameters_out_of_range(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(FormatError, match="range"):
        AdaptivePrior(np.array([(0, 0, 0), parameters], np.uint8))


def test_adaptive_context_by_hand() -> None:
    prior = AdaptivePrior(np.array([(8, 3, 20), (4, 0, 7)], np.uint8))
    planes = Planes(2, 4, 4)
    passes = prior.passes(2)
    first = prior.context(passes[0], planes, 0, 2048)
    assert first.location.tolist() == [[0], [0]]
    assert first.scale.tolist() == [[20], [7]]
    planes.put(passes[0], np.array([[5], [-6]], np.int32))
    second = prior.context(passes[1], planes, 1, 2048)
    # Of the four diagonal neighbours one is known and inside: means (40 + 2) // 4 = 10 and (-48 + 2) // 4 = -12.
    assert second.location.tolist() == [[10], [-6]]
    # Magnitudes 41 and 45, mean 41 * 8 // 4 = 82 and 90, widening by 82 * 3 >> 7 = 1 and 90 * 3 >> 7 = 2.
    assert second.scale.tolist() == [[4], [2]]
