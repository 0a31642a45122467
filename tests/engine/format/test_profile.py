"""Latent profiles: shipped profiles, and profiles in files."""

import dataclasses
import struct
from collections.abc import Callable

import numpy as np
import pytest

from sdtrt.engine.format import profile
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.profile import (
    ADAPTIVE_PRIOR,
    INLINE,
    PRIOR_NAMES,
    PROFILE_NAMES,
    LatentProfile,
    pack_profile,
    resolve_profile,
    shipped_profile,
)
from sdtrt.errors import BundleError, FormatError

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


def test_parse_profile_of_one_channel() -> None:
    assert carried(fixed() + vectors()).latent_space == "x-" + b"hash".hex()


def test_special_ids_are_not_shipped_ids() -> None:
    assert INLINE not in PROFILE_NAMES
    assert profile.ADAPTIVE_PRIOR not in PRIOR_NAMES
