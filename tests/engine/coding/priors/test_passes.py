"""The passes of the adaptive prior, against a brute-force model of the known symbols."""

import itertools

import numpy as np
import pytest

from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.engine.coding.priors.passes import MARGIN, PYRAMID, InnerEdges, gather, scatter, undo_channel_order
from sdtrt.engine.coding.priors.symbol_planes import MAGNITUDE, AdaptivePass, SymbolPlanes, adaptive_passes

PASSES = {n: AdaptivePrior(np.zeros((n, 3), np.uint8)).passes(n) for n in (1, 6)}
INNER = InnerEdges(True, True, True, True)
SIZES = [*itertools.product((1, 2, 3, 4, 5), repeat=2), (7, 13), (16, 9), (1, 17)]


def positions(coding_pass: AdaptivePass, height: int, width: int) -> list[tuple[int, int]]:
    """Return the positions of a pass in coding order, from the definition of its phase."""
    return [
        (y, x)
        for origin in coding_pass.phase.offsets
        for y in range(origin[0], height, coding_pass.phase.stride)
        for x in range(origin[1], width, coding_pass.phase.stride)
    ]


@pytest.mark.parametrize("channels", PASSES)
@pytest.mark.parametrize("size", SIZES)
def test_passes_code_every_symbol_once(channels: int, size: tuple[int, int]) -> None:
    passes = PASSES[channels]
    coded = np.zeros((channels, *size), int)
    for coding_pass in passes:
        for y, x in positions(coding_pass, *size):
            coded[coding_pass.start : coding_pass.stop, y, x] += 1
    assert (coded == 1).all()


@pytest.mark.parametrize("channels", PASSES)
def test_taps_lie_in_earlier_passes(channels: int) -> None:
    passes = PASSES[channels]
    height = width = 16
    known = np.zeros((channels, height, width), bool)
    for coding_pass in passes:
        for y, x in positions(coding_pass, height, width):
            for dy, dx in coding_pass.taps:
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    assert known[:, y + dy, x + dx].all(), (coding_pass, dy, dx)
        for y, x in positions(coding_pass, height, width):
            known[coding_pass.start : coding_pass.stop, y, x] = True


@pytest.mark.parametrize("channels", PASSES)
def test_taps_lie_within_the_margin(channels: int) -> None:
    for coding_pass in PASSES[channels]:
        nearest = {max(abs(dy), abs(dx)) for dy, dx in coding_pass.taps}
        assert bool(nearest) != (coding_pass.phase == PYRAMID[0])
        assert max(nearest, default=0) <= MARGIN


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 9)])
def test_known_symbols_agree_with_a_brute_force_model(size: tuple[int, int]) -> None:
    channels, passes = 6, PASSES[6]
    height, width = size
    rng = np.random.default_rng(1)
    symbols = rng.integers(-3000, 3000, (channels, height, width))
    symbols[rng.random(symbols.shape) < 0.7] //= 500
    planes = SymbolPlanes((channels, height, width), INNER)
    for number, coding_pass in enumerate(passes):
        places = positions(coding_pass, height, width)
        assert planes.positions(coding_pass) == len(places)

        def value_at(channel: int, y: int, x: int, done: list[AdaptivePass] = passes[:number]) -> int:
            phase = next(p.phase for p in done if p.phase.covers(y, x))
            within = [nearest_of(n, side, phase.stride) for n, side in ((y, height), (x, width))]
            return 0 if None in within else int(symbols[channel, within[0], within[1]])

        expected = [
            [value_at(c, y + dy, x + dx) for y, x in places]
            for dy, dx in coding_pass.taps
            for c in range(coding_pass.start, coding_pass.stop)
        ]
        expected_array = np.array(expected, int).reshape(len(expected), len(places))
        np.testing.assert_array_equal(planes.signed(coding_pass), np.clip(expected_array, -1023, 1023))
        np.testing.assert_array_equal(planes.magnitudes(coding_pass), MAGNITUDE[np.minimum(abs(expected_array), 255)])
        values = [[symbols[c, y, x] for y, x in places] for c in range(coding_pass.start, coding_pass.stop)]
        planes.put(coding_pass, np.array(values, np.int32).reshape(coding_pass.stop - coding_pass.start, len(places)))


def nearest_of(n: int, side: int, stride: int) -> int | None:
    """Return the index along a side, equal to `n` modulo `stride`, that is nearest to `n`; None if there is none."""
    candidates = [place for place in range(side) if (place - n) % stride == 0]
    return min(candidates, key=lambda place: abs(place - n), default=None)


def test_taps_of_first_and_last_pass() -> None:
    passes = adaptive_passes(2, PYRAMID, reach=2)
    assert passes[0].taps == ()
    assert {(-1, 0), (1, 0), (0, -1), (0, 1)} <= set(passes[-1].taps)
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} <= set(passes[-2].taps)


def test_magnitudes_are_part_of_the_format() -> None:
    assert MAGNITUDE[:17].tolist() == [0, 16, 25, 32, 37, 41, 45, 48, 51, 53, 55, 57, 59, 61, 63, 64, 65]
    assert MAGNITUDE[[31, 63, 64, 127, 200, 243, 254, 255]].tolist() == [80, 96, 96, 112, 122, 127, 127, 127]
    assert MAGNITUDE.shape == (256,)
    for n, magnitude in enumerate(MAGNITUDE.tolist()):  # round(16 log2(1 + n)), without logarithms
        assert 2 ** (2 * magnitude - 1) <= (1 + n) ** 32
        assert magnitude == 127 or (1 + n) ** 32 < 2 ** (2 * magnitude + 1)


@pytest.mark.parametrize("size", SIZES)
def test_scatter_is_the_inverse_of_gather(size: tuple[int, int]) -> None:
    channels, passes = 6, PASSES[6]
    order = np.random.default_rng(2).permutation(channels)
    planes = np.arange(channels * size[0] * size[1]).reshape(channels, *size)
    again = np.full_like(planes, -1)
    for coding_pass in passes:
        if places := positions(coding_pass, *size):
            values = gather(planes[order], coding_pass)
            expected = [[planes[c, y, x] for y, x in places] for c in order[coding_pass.start : coding_pass.stop]]
            np.testing.assert_array_equal(values, expected)
            scatter(again, coding_pass, values)
    np.testing.assert_array_equal(undo_channel_order(again, order), planes)
