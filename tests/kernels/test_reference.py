"""The NumPy kernels: rounding, edges and round trips, with odd sizes and extreme values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdtrt.kernels import reference

ONE, ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


def quantized(values: list[float], delta: float = 1.0, mean: float = 0.0, dead_zone: float = 0.0) -> list[int]:
    latents = np.array(values, np.float32)[None, None]
    return reference.quantize(latents, ONE * mean, ONE * delta, dead_zone)[0, 0].tolist()


def test_quantize_rounds_half_away_from_zero() -> None:
    assert quantized([0, 0.25, 0.5, 0.75, 1.5, -0.25, -0.5, -1.5, -2.5]) == [0, 0, 1, 1, 2, 0, -1, -2, -3]


def test_quantize_with_dead_zone_widens_each_bin_towards_zero() -> None:
    assert quantized([0.5, 0.74, 0.75, 1.74, 1.75, -0.74, -0.75], dead_zone=0.25) == [0, 0, 1, 1, 2, 0, -1]


def test_quantize_subtracts_mean_and_divides_by_delta() -> None:
    assert quantized([10, 12, 14, 7], delta=2, mean=10) == [0, 1, 2, -2]


def test_quantize_has_mean_and_delta_of_each_channel() -> None:
    latents = np.full((2, 1, 1), 6, np.float32)
    symbols = reference.quantize(latents, np.array([0, 2], np.float32), np.array([2, 4], np.float32), 0)
    assert symbols.ravel().tolist() == [3, 1]
    assert symbols.dtype == np.int16


def test_quantize_saturates() -> None:
    assert quantized([32766, 32768, 1e30, -32766, -32768, -1e30]) == [32766] * 3 + [-32766] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantize_of_nonfinite_latents_raises(bad: float) -> None:
    latents = np.zeros((1, 3, 5), np.float32)
    latents[0, 2, 4] = bad
    with pytest.raises(ValueError, match="finite"):
        reference.quantize(latents, ZERO, ONE, 0.1)


@given(hnp.arrays(np.int16, (2, 3, 5), elements=st.integers(-32766, 32766)))
def test_dequantize_is_the_inverse(symbols: np.ndarray) -> None:
    # Powers of two, so that float32 holds every latent exactly.
    mean, delta = np.array([0, 4], np.float32), np.array([0.25, 2], np.float32)
    offset = np.array([0, 0.125], np.float32)
    latents = reference.dequantize(symbols, mean, delta, offset)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(reference.quantize(latents, mean, delta, 0.25), symbols)


def test_dequantize_with_recon_offsets() -> None:
    symbols, points = np.array([[[-2, 0, 2]]], np.int16), np.array([[[16, -32, 64]]], np.int8)
    latents = reference.dequantize(symbols, ONE * 10, ONE * 2, points)
    assert latents.dtype == np.float32
    assert latents.ravel().tolist() == [10 - 3.5, 10 - 1, 10 + 6]


def test_scale_to_steps_saturates() -> None:
    scaled = reference.scale_to_steps(np.array([[[1e30, -1e30, 3]]], np.float32), ONE, ONE * 2)
    assert scaled.ravel().tolist() == [32766, -32766, 1]


def test_dequantize_with_channel_offsets_moves_towards_zero_except_zero() -> None:
    symbols = np.array([[[-2, 0, 2]]], np.int16)
    latents = reference.dequantize(symbols, ONE * 10, ONE * 2, ONE * 0.25)
    assert latents.ravel().tolist() == [10 - 3.5, 10, 10 + 3.5]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 1), (0, 255), (-0.5, 0.5)])
@pytest.mark.parametrize(("height", "width", "multiple"), [(16, 16, 8), (17, 31, 8), (1, 257, 16), (33, 1, 4)])
def test_pixels_round_trip_of_every_8_bit_value(
    low: float, high: float, height: int, width: int, multiple: int
) -> None:
    levels = np.arange(height * width * 3, dtype=np.int64) % 256
    pixels = levels.astype(np.uint8).reshape(height, width, 3)
    planes = reference.pixels_to_planes(pixels, multiple, low, high)
    assert planes.dtype == np.float32
    assert planes.shape == (3, -(-height // multiple) * multiple, -(-width // multiple) * multiple)
    np.testing.assert_array_equal(reference.planes_to_pixels(planes, width, height, low, high), pixels)


def test_pixels_round_trip_of_each_8_bit_value_in_one_row() -> None:
    pixels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    planes = reference.pixels_to_planes(pixels, 1, -1, 1)
    np.testing.assert_array_equal(reference.planes_to_pixels(planes, 256, 1, -1, 1), pixels)


def test_pixels_to_planes_of_0_and_255_are_low_and_high() -> None:
    planes = reference.pixels_to_planes(np.array([[[0, 255, 0]]], np.uint8), 1, -1, 1)
    assert planes.ravel().tolist() == [-1, 1, -1]


def test_pixels_to_planes_repeats_edges() -> None:
    pixels = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    planes = reference.pixels_to_planes(pixels, 8, 0, 255)
    np.testing.assert_array_equal(planes[:, 3:, :5], np.broadcast_to(planes[:, 2:3, :5], (3, 5, 5)))
    np.testing.assert_array_equal(planes[:, :, 5:], np.broadcast_to(planes[:, :, 4:5], (3, 8, 3)))


def test_planes_to_pixels_rounds_half_to_even_and_clamps() -> None:
    planes = np.array([0.5, 1.5, 2.5, 253.5, 254.5, -7, 300, 254.51], np.float32).reshape(1, 1, 8).repeat(3, 0)
    pixels = reference.planes_to_pixels(planes, 8, 1, 0, 255)
    assert pixels[0, :, 0].tolist() == [0, 2, 2, 254, 254, 0, 255, 255]
    assert pixels.flags.c_contiguous


def test_planes_to_pixels_crops_to_the_top_left() -> None:
    planes = np.arange(64, dtype=np.float32).reshape(1, 8, 8).repeat(3, 0)
    pixels = reference.planes_to_pixels(planes, 3, 2, 0, 255)
    assert pixels[:, :, 0].tolist() == [[0, 1, 2], [8, 9, 10]]


def test_quantize_flagged_returns_flags_instead_of_errors() -> None:
    latents = np.array([np.nan, -np.inf, 1e30, -1e30, 2.5], np.float32).reshape(1, 1, 5)
    symbols, flags = reference.quantize_flagged(latents, ZERO, ONE, 0)
    assert symbols.ravel().tolist() == [0, 0, 32766, -32766, 3]
    assert flags == reference.NOT_FINITE | reference.SATURATED
    assert reference.quantize_flagged(latents[:, :, 4:], ZERO, ONE, 0)[1] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_batch_equals_images_one_by_one(dtype: type) -> None:
    latents = np.random.default_rng(0).normal(0, 4, (3, 2, 5, 7)).astype(dtype)
    mean, delta, offset = (np.array(pair, np.float32) for pair in ([0, 1], [0.3, 0.7], [0.1, 0]))
    symbols = reference.quantize(latents, mean, delta, 0.1)
    np.testing.assert_array_equal(symbols, [reference.quantize(one, mean, delta, 0.1) for one in latents])
    restored = reference.dequantize(symbols, mean, delta, offset)
    np.testing.assert_array_equal(restored, [reference.dequantize(one, mean, delta, offset) for one in symbols])


def test_pixels_to_planes_copies_grey_and_ignores_alpha() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    rgb = reference.pixels_to_planes(pixels[:, :, :3], 4, -1, 1)
    np.testing.assert_array_equal(reference.pixels_to_planes(pixels, 4, -1, 1), rgb)
    grey = reference.pixels_to_planes(pixels[:, :, :1], 4, -1, 1)
    np.testing.assert_array_equal(grey, np.stack([rgb[0]] * 3))


def test_planes_to_pixels_with_alpha_is_opaque() -> None:
    planes = np.zeros((3, 2, 3), np.float16)
    pixels = reference.planes_to_pixels(planes, 3, 2, -1, 1, channels=4)
    assert pixels.reshape(-1, 4).tolist() == [[128, 128, 128, 255]] * 6


def test_planes_to_pixels_of_nonfinite_values() -> None:
    planes = np.array([np.nan, np.inf, -np.inf], np.float32).reshape(3, 1, 1)
    assert reference.planes_to_pixels(planes, 1, 1, -1, 1).ravel().tolist() == [0, 255, 0]
    assert reference.planes_flags(planes, 1, 1) == reference.NOT_FINITE
    assert reference.planes_flags(np.zeros((3, 1, 1), np.float32), 1, 1) == 0
