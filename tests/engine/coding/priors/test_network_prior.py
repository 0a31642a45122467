"""Priors with networks: exact arithmetic, causality, and refused priors."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtrt.engine.coding.priors.network_prior import (
    ARRAY_NAMES,
    FEATURE_LIMIT,
    KNOTS,
    LIMIT,
    MAGNITUDE,
    LatentPlanes,
    NetworkPrior,
    PassNetwork,
    step_embedding,
    step_fixed_point,
    to_units,
)
from sdtrt.engine.coding.priors.passes import MARGIN, NO_INNER_EDGES, InnerEdges, Phase
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.prior_layout import (
    Architecture,
    ContextWindow,
    LatentPass,
    num_channels,
    parse_architecture,
)
from sdtrt.errors import BundleError, FormatError

PRIORS = pytest.mark.parametrize("name", ["sd1-1", "tiny-1"])
TOY = Architecture(
    (1, 0),
    (
        LatentPass(0, 2, Phase(2, ((0, 0), (1, 1))), (), ()),
        LatentPass(
            0,
            1,
            Phase(2, ((0, 1), (1, 0))),
            (ContextWindow(0, 2, 0, -1), ContextWindow(1, 2, 1, 0)),
            (ContextWindow(0, 1, -1, 0),),
        ),
        LatentPass(1, 2, Phase(2, ((0, 1), (1, 0))), (ContextWindow(0, 1, 0, 0),), (ContextWindow(0, 2, 0, 1),)),
    ),
    (1,),
)


def prior_of(name: str) -> NetworkPrior:
    prior = shipped_prior(name)
    assert isinstance(prior, NetworkPrior)
    return prior


def limits_of(coding_pass: LatentPass) -> np.ndarray:
    """Return the largest magnitude of each input but the step embedding."""
    limits = np.full(coding_pass.inputs, MAGNITUDE[-1], np.int64)
    limits[: num_channels(coding_pass.values)] = LIMIT
    return limits


def any_order(weights: np.ndarray, inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return weights @ inputs in float32, summed in a random order; no partial sum may reach 2**24."""
    total = np.zeros((len(weights), inputs.shape[1]), np.float32)
    for k in rng.permutation(len(inputs)):
        total += weights[:, k : k + 1] * inputs[k].astype(np.float32)
        assert np.abs(total).max(initial=0) < 1 << 24
    return total


@PRIORS
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1 << 32))
def test_network_sums_are_exact_in_any_order(name: str, seed: int) -> None:
    """The network, in float32 through BLAS, is equal to int64 and to float32 sums in a random order."""
    rng = np.random.default_rng(seed)
    prior = prior_of(name)
    assert prior.largest_sum() < 1 << 24
    for coding_pass, network in zip(prior.passes(0), prior.networks, strict=True):
        limits, features = limits_of(coding_pass), step_embedding(int(rng.integers(4096)))
        inputs = rng.integers(-limits[:, None], limits[:, None] + 1, (len(limits), 12))
        inputs[:, 4:8] = np.sign(inputs[:, 4:8]) * limits[:, None]
        inputs[:, 8] = np.sign(network.first[-1, : coding_pass.inputs]) * limits  # the largest sum of one output
        inputs[:, 9] = np.sign(network.first[0, : coding_pass.inputs]) * limits
        inputs[num_channels(coding_pass.values) :] = np.abs(inputs[num_channels(coding_pass.values) :])
        outputs = network(inputs.astype(np.float32), features)
        inputs = np.concatenate([inputs, np.repeat(features[:, None].astype(np.int64), 12, axis=1)])
        for product in (lambda w, x: w.astype(np.int64) @ x, lambda w, x: any_order(w, x, rng).astype(np.int64)):
            exact = {field: getattr(network, field).astype(np.int64) for field in ARRAY_NAMES}
            sums = product(network.first, inputs) + exact["first_bias"][:, None]
            units, shortcut = np.split(sums, [len(sums) - len(network.output)])
            second_sums = product(network.second, (units >> 6).clip(0, LIMIT)) + exact["second_bias"][:, None]
            np.testing.assert_array_equal(
                outputs, shortcut + product(network.output, (second_sums >> 9).clip(0, LIMIT))
            )


@PRIORS
def test_network_weights_are_integers(name: str) -> None:
    for network in prior_of(name).networks:
        for field in ARRAY_NAMES:
            array = getattr(network, field)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, np.rint(array))


@PRIORS
def test_windows_lie_in_earlier_passes(name: str) -> None:
    """Also at the borders of tiles, and each symbol is coded once."""
    prior = prior_of(name)
    side, channels = 24, len(prior.architecture.order)
    known = np.zeros((channels, side, side), bool)
    known[:, : 2 * MARGIN], known[:, -2 * MARGIN :] = True, True  # positions outside of the plane are 0
    known[:, :, : 2 * MARGIN], known[:, :, -2 * MARGIN :] = True, True
    inside = slice(2 * MARGIN, side - 2 * MARGIN)
    times_coded = np.zeros_like(known, dtype=int)
    for coding_pass in prior.passes(channels):
        rows, columns = np.mgrid[inside, inside]
        covered = np.vectorize(coding_pass.phase.covers)(rows, columns)
        for window in coding_pass.values + coding_pass.magnitudes:
            assert max(abs(window.dy), abs(window.dx)) <= MARGIN
            in_window = known[window.first : window.last, rows + window.dy, columns + window.dx]
            assert in_window[:, covered].all(), (coding_pass, window)
        for channel in range(coding_pass.start, coding_pass.stop):
            known[channel, rows[covered], columns[covered]] = True
            times_coded[channel, rows[covered], columns[covered]] += 1
    assert (times_coded[:, inside, inside] == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 9)])
@pytest.mark.parametrize("step_code", [0, 2048, 3000])
@pytest.mark.parametrize(
    "inner", [NO_INNER_EDGES, InnerEdges(True, True, True, True), InnerEdges(top=True, right=True)]
)
def test_latent_planes_agree_with_a_brute_force_model(size: tuple[int, int], step_code: int, inner: InnerEdges) -> None:
    rng = np.random.default_rng(1)
    symbols = rng.integers(-3000, 3000, (2, *size)) // rng.choice([1, 500], (2, *size))
    latents = np.clip(symbols * step_fixed_point(step_code) + 32768 >> 16, -1023, 1023)
    planes = LatentPlanes((2, *size), step_code, inner=inner)
    for number, coding_pass in enumerate(TOY.passes):
        places = [
            (y, x)
            for first_y, first_x in coding_pass.phase.offsets
            for y in range(first_y, size[0], 2)
            for x in range(first_x, size[1], 2)
        ]
        if not places:
            continue

        def value_at(channel: int, y: int, x: int, done: tuple[LatentPass, ...] = TOY.passes[:number]) -> int:
            """Beyond inner edges, this is the value at the nearest row and column of the same parity."""
            beyond = (
                (y < 0 and not inner.top, y >= size[0] and not inner.bottom),
                (x < 0 and not inner.left, x >= size[1] and not inner.right),
            )
            if any(map(any, beyond)):
                return 0
            if not any(p.start <= channel < p.stop and p.phase.covers(y, x) for p in done):
                return 0
            rows, columns = (range(n % 2, side, 2) for n, side in ((y, size[0]), (x, size[1])))
            if not (rows and columns):
                return 0
            return int(latents[channel, np.clip(y, rows[0], rows[-1]), np.clip(x, columns[0], columns[-1])])

        def window_values(windows: tuple[ContextWindow, ...], places: list[tuple[int, int]]) -> list[list[int]]:
            return [
                [value_at(channel, y + window.dy, x + window.dx) for y, x in places]
                for window in windows
                for channel in range(window.first, window.last)
            ]

        magnitudes = [[int(MAGNITUDE[abs(n)]) for n in row] for row in window_values(coding_pass.magnitudes, places)]
        expected = np.array(window_values(coding_pass.values, places) + magnitudes).reshape(-1, len(places))
        np.testing.assert_array_equal(planes.inputs(coding_pass), expected)
        known = [[symbols[channel, y, x] for y, x in places] for channel in range(coding_pass.start, coding_pass.stop)]
        planes.put(coding_pass, np.array(known, np.int32))


@given(st.integers(0, 4096))
def test_step_fixed_point_is_rounded_down(code: int) -> None:
    found = step_fixed_point(code)
    assert found**256 <= 2 ** (3584 + code) < (found + 1) ** 256


@given(st.integers(-32768, 32767), st.integers(0, 4095))
def test_to_units_of_symbols_is_the_nearest_unit(symbol: int, step_code: int) -> None:
    found = to_units(np.array([symbol], np.int32), step_fixed_point(step_code), 16)
    assert found.dtype == np.int32
    assert abs(found[0] - np.clip(symbol * 64 * 2 ** ((step_code - 2048) / 256), -LIMIT, LIMIT)) < 0.52


def test_magnitudes_are_part_of_the_format() -> None:
    assert MAGNITUDE.shape == (1024,)
    for n, magnitude in enumerate(MAGNITUDE.tolist()):  # round(32 log2(1 + n / 8)), without logarithms
        assert 2 ** (2 * magnitude - 1) * 8**64 <= (8 + n) ** 64 < 2 ** (2 * magnitude + 1) * 8**64 or n == 0


@given(st.integers(0, 4095))
def test_step_embedding_sums_to_127(step_code: int) -> None:
    features = step_embedding(step_code)
    assert features.dtype == np.float32
    assert np.count_nonzero(features) in {1, 2}
    assert 127 <= features.sum() <= 128
    np.testing.assert_array_equal(features, np.rint(features))
    if step_code % 160 == 768 % 160 and 768 <= step_code <= 3328:
        assert features[(step_code - 768) // 160] == 127


@PRIORS
def test_architecture_json_round_trip(name: str) -> None:
    for arch in (TOY, prior_of(name).architecture):
        assert parse_architecture(arch.to_json()).to_json() == arch.to_json()
    assert [dataclasses.astuple(p) for p in parse_architecture(TOY.to_json()).passes] == [
        dataclasses.astuple(p) for p in TOY.passes
    ]


def toy_networks(weight: float) -> list[PassNetwork]:
    made = []
    for coding_pass in TOY.passes:
        inputs, outputs = coding_pass.inputs + KNOTS, 2 * (coding_pass.stop - coding_pass.start)
        shapes = {
            "first": (3 + outputs, inputs),
            "first_bias": (3 + outputs,),
            "second": (2, 3),
            "second_bias": (2,),
            "output": (outputs, 2),
        }
        made.append(PassNetwork(**{field: np.full(shape, weight, np.float32) for field, shape in shapes.items()}))
    return made


def test_network_prior_with_inexact_sums_raises() -> None:
    tables = prior_of("sd1-1").tables
    prior = NetworkPrior(TOY, toy_networks(1), tables, None)
    assert prior.order(2).tolist() == [1, 0]
    with pytest.raises(BundleError, match="exact"):
        NetworkPrior(TOY, toy_networks(1 << 12), tables, None)
    with pytest.raises(BundleError, match="2 networks for 3"):
        NetworkPrior(TOY, toy_networks(1)[1:], tables, None)
    with pytest.raises(FormatError, match="2 channels, found 3"):
        prior.order(3)


def test_largest_sum_is_a_tight_bound() -> None:
    """Some inputs reach `largest_sum`, which assumes two neighbouring features of 127 each."""
    coding_pass, network = TOY.passes[1], toy_networks(5)[1]
    assert (
        network.largest_sum(coding_pass) == 5 * (limits_of(coding_pass).sum() + 2 * FEATURE_LIMIT) + 5 + 5 * 2 * LIMIT
    )
