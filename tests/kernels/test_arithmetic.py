"""Conversions of half precision on the host: every number, every halfway case, and random floats."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


def halved(host, values: np.ndarray) -> np.ndarray:
    found = np.empty(values.shape, np.float16)
    host.call("half_from_float", values.ctypes.data, found.ctypes.data, np.int64(values.size))
    return found


def check_halved(host, same_bits, values: np.ndarray) -> None:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    same_bits(halved(host, values), expected)


def test_half_to_float_of_every_half(host, same_bits) -> None:
    found = np.empty(HALVES.shape, np.float32)
    host.call("float_from_half", HALVES.ctypes.data, found.ctypes.data, np.int64(HALVES.size))
    same_bits(found, HALVES.astype(np.float32))


def test_float_to_half_round_trip_of_every_half(host, same_bits) -> None:
    check_halved(host, same_bits, HALVES.astype(np.float32))


def test_float_to_half_of_halfway_cases_rounds_to_even(host, same_bits) -> None:
    ordered = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float64)
    ordered[-1] = 65536  # what infinity stands for in rounding
    halfway = ((ordered[1:] + ordered[:-1]) / 2).astype(np.float32)
    below, above = np.nextafter(halfway, np.float32(0)), np.nextafter(halfway, np.float32(np.inf))
    values = np.concatenate([below, halfway, above])
    check_halved(host, same_bits, np.concatenate([values, -values]))


def test_float_to_half_of_random_floats(host, same_bits) -> None:
    values = np.random.default_rng(0).integers(2**32, size=2**20, dtype=np.uint32).view(np.float32)
    check_halved(host, same_bits, values)


@given(st.lists(st.floats(width=32), min_size=1))
def test_float_to_half_of_any_float(host, same_bits, values: list[float]) -> None:
    check_halved(host, same_bits, np.array(values, np.float32))


def test_float_to_half_of_nan_is_that_of_the_device(host) -> None:
    assert halved(host, np.array([np.nan, -np.nan], np.float32)).view(np.uint16).tolist() == [0x7FFF, 0x7FFF]
