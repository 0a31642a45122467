"""Latent profiles: shipped profiles, and profiles in files."""

import dataclasses
import math
import struct
from collections.abc import Callable

import numpy as np
import pytest

from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import (
    ADAPTIVE_PRIOR,
    INLINE,
    MAX_STEP,
    PRIOR_NAMES,
    PROFILE_NAMES,
    LatentSpaceInfo,
)
from sdtrt.engine.format.profile import LatentProfile, pack_profile, resolve_profile, shipped_profile
from sdtrt.errors import BundleError, FormatError
from sdtrt.kernels import SYMBOL_LIMIT

Make = Callable[..., LatentProfile]


def carried(data: bytes) -> LatentProfile:
    return resolve_profile(File(Header(8, 8, INLINE, 0, 2048), (b"",), profile=data))


def assert_same(one: LatentProfile, other: LatentProfile) -> None:
    assert (one.preview is None) == (other.preview is None)
    for field in (field for field in dataclasses.fields(LatentProfile) if field.name != "preview"):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


@pytest.mark.parametrize("channels", [1, 4, 255])
@pytest.mark.parametrize("downscale", [1, 8, 255])
def test_pack_profile_round_trip(inline_profile: Make, channels: int, downscale: int) -> None:
    made = inline_profile(channels, downscale)
    assert len(pack_profile(made)) == 10 + 16 * channels
    assert_same(carried(pack_profile(made)), made)


@pytest.mark.parametrize("identifier", PROFILE_NAMES)
def test_shipped_profile_is_valid(identifier: int) -> None:
    shipped = shipped_profile(identifier)
    assert shipped.id == identifier
    assert shipped.prior in {ADAPTIVE_PRIOR, *PRIOR_NAMES}
    for vector in (shipped.mean, shipped.std, shipped.step_weight, shipped.recon_offset):
        assert vector.shape == (shipped.channels,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()
    assert (shipped.std > 0).all()
    assert (shipped.step_weight > 0).all()
    assert all(0 <= code < 4096 for code in shipped.step_codes)
    assert_same(resolve_profile(File(Header(8, 8, identifier, 1, 2048), (b"",))), shipped)


def test_step_code_is_linear_in_quality(inline_profile: Make) -> None:
    made = inline_profile()
    assert [made.step_code(q) for q in (1, 100)] == list(made.step_codes)
    codes = [made.step_code(q) for q in range(1, 101)]
    assert codes == sorted(codes, reverse=True)
    assert all(abs(made.quality(made.step_code(q)) - q) < 0.06 for q in range(1, 101))


@pytest.mark.parametrize("codes", [(4000, 3000), (1500, 2600)])
def test_step_code_outside_of_1_to_100_is_clamped(inline_profile: Make, codes: tuple[int, int]) -> None:
    """Step codes may rise or fall with quality."""
    made = dataclasses.replace(inline_profile(), step_codes=codes)
    assert {made.step_code(-1000), made.step_code(1000)} == {0, 4095}


def test_grid_rounds_up(inline_profile: Make) -> None:
    made = inline_profile(channels=4, downscale=8)
    assert made.grid(1, 1) == (4, 1, 1)
    assert made.grid(8, 9) == (4, 2, 1)
    assert made.grid(517, 389) == (4, 49, 65)


def test_unknown_profile_id_raises() -> None:
    with pytest.raises(FormatError, match="profile 200"):
        resolve_profile(File(Header(8, 8, 200, 1, 2048), (b"",)))
    with pytest.raises(BundleError, match="profile 200"):
        shipped_profile(200)


def fixed(channels: int = 1, downscale: int = 8, first: int = 2300, last: int = 1300) -> bytes:
    return struct.pack("<4sBBHH", b"hash", channels, downscale, first, last)


def vectors(mean: float = 0, spread: float = 1, weight: float = 1, offset: float = 0) -> bytes:
    return struct.pack("<4f", mean, spread, weight, offset)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        fixed()[:-1],
        fixed(),
        fixed() + vectors()[:-1],
        fixed() + vectors() + b"\0",
        fixed(channels=2) + vectors(),
        fixed(channels=0),
        fixed(downscale=0) + vectors(),
        fixed(first=4096) + vectors(),
        fixed(last=65535) + vectors(),
        fixed(first=9, last=9) + vectors(),
        *(
            fixed() + vectors(**{name: bad})
            for name in ("mean", "spread", "weight", "offset")
            for bad in (NAN, INF, -INF)
        ),
        *(fixed() + vectors(**{name: bad}) for name in ("spread", "weight") for bad in (0, -1)),
        fixed() + vectors(spread=1e30, weight=1e30),
        fixed() + vectors(spread=1e20, weight=1e15),
        fixed() + vectors(offset=3e38),
    ],
)
def test_parse_profile_of_malformed_data_raises(data: bytes) -> None:
    with pytest.raises(FormatError, match="profile"):
        carried(data)


def fits_float32(mean: float, spread: float, weight: float, offset: float) -> bool:
    """Return whether the largest latent of a profile is finite, by NumPy's float32."""
    one = [np.array([value], np.float32) for value in (mean, spread, weight, offset)]
    with np.errstate(over="ignore", under="ignore"):
        largest = np.abs(one[0]) + one[1] * one[2] * MAX_STEP * (SYMBOL_LIMIT + 1 + np.abs(one[3]))
    assert largest.dtype == np.float32
    return bool(np.isfinite(largest).all())


def is_accepted(mean: float, spread: float, weight: float, offset: float) -> bool:
    try:
        return carried(fixed() + vectors(mean, spread, weight, offset)).channels == 1
    except FormatError:
        return False


def neighbours(value: float, count: int = 40) -> list[float]:
    """Return the float32 numbers around a value."""
    bits = int(np.float32(value).view(np.uint32))
    return [float(np.uint32(near).view(np.float32)) for near in range(bits - count, bits + count)]


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("mean", "spread", "weight", "offset"),
    [
        (0, LARGEST / 2**23, 1, 0),
        (0, LARGEST / 2**23 * 0.7, 1.1, 9000.3),
        (0, 3.1e19, 3.1e11, 0.3),
        (LARGEST, 1.1e18, 1.1, -0.0625),  # beside half a unit in the last place of the largest number
        (-LARGEST * (1 - 2**-24), 1, 1.25e18, 0.7),
        (LARGEST / 2, LARGEST / 2**24, 1, 3),
        (1, 1, 1, LARGEST / 2**8),
        (0, 1e-30, 1e-20, LARGEST),
    ],
)
def test_profile_overflow_verdict_is_that_of_float32_arithmetic(
    mean: float, spread: float, weight: float, offset: float
) -> None:
    cases = [(mean, near, weight, offset) for near in neighbours(spread)]
    cases += [(mean, spread, near, offset) for near in neighbours(weight)]
    if offset:
        cases += [(mean, spread, weight, near) for near in neighbours(offset) if math.isfinite(near)]
    for case in cases:
        assert is_accepted(*case) == fits_float32(*case), case


def test_profile_overflow_verdict_agrees_near_the_largest_latents() -> None:
    """The spread is chosen so that the largest latent lies within a few roundings of the largest float32 number."""
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(2000):
        weight, offset, share = 2.0 ** rng.uniform(-20, 20), rng.normal() * 2.0 ** rng.uniform(-4, 20), rng.uniform()
        mean = LARGEST * share
        spread = (LARGEST - mean) / (weight * MAX_STEP * (SYMBOL_LIMIT + 1 + abs(offset))) * (1 + rng.normal() * 1e-7)
        case = mean, spread, weight, offset
        verdicts.append(is_accepted(*case))
        assert verdicts[-1] == fits_float32(*case), case
    assert 500 < sum(verdicts) < 1500


def test_space_of_a_file_is_that_of_its_profile(inline_profile: Make) -> None:
    made = inline_profile()
    files = [File(Header(8, 8, identifier, 1, 2048), (b"",)) for identifier in PROFILE_NAMES]
    files.append(File(Header(8, 8, INLINE, 0, 2048), (b"",), profile=pack_profile(made)))
    for file in files:
        resolved = resolve_profile(file)
        for field in dataclasses.fields(LatentSpaceInfo):
            assert getattr(file.space, field.name) == getattr(resolved, field.name)


def test_parse_profile_of_one_channel() -> None:
    assert carried(fixed() + vectors()).latent_space == "x-" + b"hash".hex()


def test_special_ids_are_not_shipped_ids() -> None:
    assert INLINE not in PROFILE_NAMES
    assert ADAPTIVE_PRIOR not in PRIOR_NAMES
