"""The kernels quantize and dequantize, run on the host, against NumPy, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdtrt.kernels import launches, reference

DTYPES = (np.float16, np.float32)
# Planes of whole groups, of parts of groups, several in a group; more than one block.
SHAPES = [(1, 1, 1, 1), (1, 1, 1, 17), (2, 3, 33, 7), (3, 5, 1, 1), (2, 4, 8, 8), (1, 3, 2, 3), (2, 1, 64, 65)]
STEPS = np.array([1e-3, 0.07, 1 / 3, 0.5, 1, 1.7, 300, 2.0**-130, 1e30], np.float32)


def quantized(host, place, latents, mean, delta, dead_zone, shift=0):
    d_latents, d_mean, d_delta = place(latents, shift=shift), place(mean), place(delta)
    symbols, flags = place(latents.shape, np.int16, shift=shift), place(np.zeros(1, np.uint32))
    addresses = (each.address for each in (d_latents, symbols, d_mean, d_delta, flags))
    host.run(launches.quantize(*addresses, shape=latents.shape, dtype=latents.dtype, dead_zone=dead_zone))
    assert all(each.intact() for each in (d_latents, symbols, flags))
    return symbols.array, int(flags.array[0])


def check_quantize(host, place, same_bits, latents, mean, delta, dead_zone, shift=0):
    found, flags = quantized(host, place, latents, mean, delta, dead_zone, shift)
    expected, expected_flags = reference.quantize_flagged(latents, mean, delta, dead_zone)
    same_bits(found, expected)
    assert flags == expected_flags


def dequantized(host, place, symbols, mean, delta, points, dtype, shift=0):
    d_symbols, d_mean, d_delta = place(symbols, shift=shift), place(mean), place(delta)
    d_points, latents = place(points, shift=shift), place(symbols.shape, dtype, shift=shift)
    named = {"recon_offsets" if points.dtype == np.int8 else "channel_offsets": d_points.address}
    addresses = (each.address for each in (d_symbols, latents, d_mean, d_delta))
    host.run(launches.dequantize(*addresses, shape=symbols.shape, dtype=dtype, **named))
    assert latents.intact()
    return latents.array


def check_dequantize(host, place, same_bits, symbols, mean, delta, points, dtype, shift=0):
    found = dequantized(host, place, symbols, mean, delta, points, dtype, shift)
    with np.errstate(over="ignore"):
        expected = reference.dequantize(symbols, mean, delta, points).astype(dtype)
    same_bits(found, expected)


def parameters(channels: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, channels).astype(np.float32), rng.uniform(0.01, 2, channels).astype(np.float32)


@pytest.mark.parametrize("dead_zone", [0, 0.1, 0.25, 1 / 3, 0.5])
@pytest.mark.parametrize("mean", [0, -0.37, 2.5])
def test_quantize_of_every_half_at_many_steps(host, place, same_bits, mean, dead_zone) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(1, 1, 256, 256)
    latents = every.repeat(len(STEPS), axis=1)
    means = np.full(len(STEPS), mean, np.float32)
    check_quantize(host, place, same_bits, latents, means, STEPS, dead_zone)
    finite = np.where(np.isfinite(latents), latents, 0).astype(np.float32)
    check_quantize(host, place, same_bits, finite, means, STEPS, dead_zone)


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantize_and_dequantize_of_many_shapes_and_alignments(host, place, same_bits, dtype, shape, shift) -> None:
    rng = np.random.default_rng(2)
    latents = rng.normal(0, 3, shape).astype(dtype)
    mean, delta = parameters(shape[1])
    check_quantize(host, place, same_bits, latents, mean, delta, 0.1, shift)
    symbols = rng.integers(-300, 300, shape, np.int16)
    check_dequantize(host, place, same_bits, symbols, mean, delta, mean / 8, dtype, shift)
    points = rng.integers(-128, 128, shape, np.int8)
    check_dequantize(host, place, same_bits, symbols, mean, delta, points, dtype, shift)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("position", [0, 3, 40, 46])
@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (np.nan, reference.NOT_FINITE),
        (np.inf, reference.NOT_FINITE),
        (-np.inf, reference.NOT_FINITE),
        (33000, reference.SATURATED),
        (-33000, reference.SATURATED),
        (32766, 0),
        (-32766, 0),
    ],
)
def test_quantize_of_one_bad_value_raises_its_flag(host, place, same_bits, dtype, position, value, flags) -> None:
    latents = np.zeros((1, 1, 1, 47), dtype)
    latents.flat[position] = np.float32(value) / 2  # 32766 is no half, 16383 steps of 0.5 are
    mean, delta = np.zeros(1, np.float32), np.full(1, 0.5, np.float32)
    check_quantize(host, place, same_bits, latents, mean, delta, 0.25)
    assert bool(quantized(host, place, latents, mean, delta, 0.25)[1] & flags) == bool(flags)


def test_quantize_never_clears_flags(host, place) -> None:
    mean, delta = np.zeros(2, np.float32), np.ones(2, np.float32)
    latents = np.array([np.nan, 1e9], np.float32).reshape(1, 2, 1, 1)
    assert quantized(host, place, latents, mean, delta, 0)[1] == reference.NOT_FINITE | reference.SATURATED


def test_quantize_of_overflowing_quotient_flags_not_finite(host, place, same_bits) -> None:
    latents = np.full((1, 1, 1, 9), 3e38, np.float32)
    check_quantize(host, place, same_bits, latents, np.zeros(1, np.float32), np.full(1, 0.5, np.float32), 0)


@given(
    hnp.arrays(np.float32, (1, 2, 3, 7), elements=st.floats(width=32)),
    hnp.arrays(np.float32, 2, elements=st.floats(-4, 4, width=32)),
    hnp.arrays(np.float32, 2, elements=st.floats(2**-20, 2**20, width=32)),
    st.floats(0, 0.5),
)
def test_quantize_of_any_latents(host, place, same_bits, latents, mean, delta, dead_zone) -> None:
    check_quantize(host, place, same_bits, latents, mean, delta, dead_zone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dequantize_of_every_symbol_at_many_steps(host, place, same_bits, dtype) -> None:
    every = np.arange(-(2**15), 2**15, dtype=np.int16).reshape(1, 1, 256, 256).repeat(len(STEPS), axis=1)
    mean, offset = (np.random.default_rng(seed).normal(0, 0.3, len(STEPS)).astype(np.float32) for seed in (3, 4))
    check_dequantize(host, place, same_bits, every, mean, STEPS, offset, dtype)
    points = np.random.default_rng(5).integers(-128, 128, every.shape, np.int8)
    check_dequantize(host, place, same_bits, every, mean, STEPS, points, dtype)


def test_dequantize_with_every_recon_offset(host, place, same_bits) -> None:
    symbols = np.arange(-8, 8, dtype=np.int16).reshape(1, 1, 16, 1).repeat(256, axis=3)
    points = np.broadcast_to(np.arange(-128, 128, dtype=np.int8), symbols.shape).copy()
    check_dequantize(host, place, same_bits, symbols, *parameters(1), points, np.float32)
