"""Rate control: never above the bytes asked for, and near them where the picture allows."""

from collections.abc import Callable

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.profile import shipped_profile
from sdtrt.engine.rate import BEYOND, finest_within

PROFILE = shipped_profile(1)
COARSEST = PROFILE.step_code(1) + BEYOND


def sizes(code: int) -> bytes:
    """Files that shrink as steps grow, unevenly."""
    return bytes(20 + (COARSEST - code) * 3 + code % 2)


@pytest.mark.parametrize("nbytes", [21, 22, 25, 1000, 3000])
def test_bisection(nbytes: int) -> None:
    found = len(finest_within(nbytes, PROFILE, sizes))
    assert nbytes - 5 < found <= nbytes


def test_too_few_bytes_tell_the_smallest() -> None:
    with pytest.raises(ValueError, match=r"19 bytes are too few.*has 2[01]"):
        finest_within(19, PROFILE, sizes)


def test_more_bytes_than_quality_100_takes() -> None:
    assert finest_within(1 << 20, PROFILE, sizes) == sizes(PROFILE.step_code(100))


@pytest.mark.parametrize("nbytes", [150, 300, 700, 1400])
def test_pictures(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], nbytes: int) -> None:
    data = codec.encode(photo(160, 120), nbytes=nbytes)
    assert 0.97 * nbytes <= len(data) <= nbytes
    assert codec.decode(data).size == (160, 120)


def test_bits_per_pixel(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]) -> None:
    data = codec.encode(photo(160, 120), bits_per_pixel=0.5)
    assert 0.97 * 0.5 <= 8 * len(data) / (160 * 120) <= 0.5


def test_one_wish_only(codec: sdtrt.Codec) -> None:
    with pytest.raises(ValueError, match="one of them only"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), quality=50, nbytes=100)
