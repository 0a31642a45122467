"""The alpha plane: lossless, and nothing accepted that is not exactly one plane."""

import contextlib
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdtrt.engine.format import alpha
from sdtrt.errors import FormatError

PLANE = np.arange(35, dtype=np.uint8).reshape(5, 7)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip(plane: np.ndarray) -> None:
    height, width = plane.shape
    np.testing.assert_array_equal(alpha.decode(alpha.encode(plane), width, height), plane)


def test_flat_planes_are_small() -> None:
    assert len(alpha.encode(np.full((512, 512), 128, np.uint8))) < 400


DATA = alpha.encode(PLANE)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", DATA[:-1], DATA[:-4], DATA + b"\0", DATA + DATA, DATA[:-1] + b"\xff", zlib.compress(b"")],
)
def test_damaged(data: bytes) -> None:
    with pytest.raises(FormatError):
        alpha.decode(data, 7, 5)


def test_every_flipped_bit() -> None:
    """Some show only beyond the values that were asked for, where zlib had stopped."""
    plane = (4 * np.hypot(*np.mgrid[:64, :64])).clip(0, 255).astype(np.uint8)
    data = alpha.encode(plane)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(FormatError):
            alpha.decode(bytes(damaged), 64, 64)


@pytest.mark.parametrize(("width", "height"), [(7, 4), (7, 6), (6, 5), (1, 1)])
def test_another_size(width: int, height: int) -> None:
    with pytest.raises(FormatError):
        alpha.decode(DATA, width, height)


def test_what_inflates_too_far_is_stopped() -> None:
    bomb = zlib.compress(bytes(1 << 26), 9)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="more"):
            alpha.decode(bomb, 7, 5)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=60))
def test_random_data(data: bytes) -> None:
    with pytest.raises(FormatError):
        alpha.decode(data, 7, 5)
