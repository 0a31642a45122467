"""The kernels blend and ddim_step, run on the host, against NumPy, bit for bit; and properties of the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.kernels import launches, reference

DTYPES = (np.float16, np.float32)


def check_blend(host, place, same_bits, tile, planes, top, left, shift=0):
    rng = np.random.default_rng(4)
    window_y, window_x = (rng.uniform(0, 1, size).astype(np.float32) for size in tile.shape[1:])
    d_tile, d_planes = place(tile, shift=shift), place(planes, shift=shift)
    d_y, d_x = place(window_y, shift=shift), place(window_x, shift=shift)
    addresses = (each.address for each in (d_tile, d_planes, d_y, d_x))
    where = {"tile_shape": tile.shape, "planes_shape": planes.shape, "top": top, "left": left}
    host.run(launches.blend(*addresses, **where, dtype=tile.dtype))
    assert d_planes.intact()
    expected = planes.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        reference.blend(expected, tile, window_y, window_x, top, left)
    same_bits(d_planes.array, expected)


def check_step(host, place, same_bits, latents, output, shift=0, in_place=False):
    rng = np.random.default_rng(5)
    a, b = (rng.normal(0, 1, len(latents)).astype(np.float32) for _ in range(2))
    d_latents, d_output = place(latents, shift=shift), place(output, shift=shift)
    d_a, d_b = place(a), place(b)
    stepped = d_latents if in_place else place(latents.shape, latents.dtype, shift=shift)
    addresses = (each.address for each in (d_latents, d_output, stepped, d_a, d_b))
    host.run(launches.ddim_step(*addresses, shape=latents.shape, dtype=latents.dtype))
    assert stepped.intact()
    with np.errstate(invalid="ignore", over="ignore"):
        expected = reference.ddim_step(latents, output, a, b).astype(latents.dtype)
    same_bits(stepped.array, expected)


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("tile", "planes", "top", "left"),
    [
        ((1, 1, 1), (1, 1, 1), 0, 0),
        ((3, 1, 17), (3, 2, 19), 1, 2),
        ((3, 33, 7), (3, 40, 16), 7, 9),
        ((3, 64, 64), (3, 96, 128), 32, 64),
        ((4, 5, 24), (4, 5, 25), 0, 1),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blend(host, place, same_bits, dtype, tile, planes, top, left, shift) -> None:
    rng = np.random.default_rng(6)
    content, sums = rng.normal(0, 1, tile).astype(dtype), rng.normal(0, 1, planes).astype(np.float32)
    check_blend(host, place, same_bits, content, sums, top, left, shift)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9), st.sampled_from(DTYPES))
def test_blend_of_any_tile(host, place, same_bits, height, width, top, left, dtype) -> None:
    rng = np.random.default_rng(7)
    tile = rng.integers(0, 2**16, (2, height, width), np.uint16).view(np.float16).astype(dtype)
    planes = rng.normal(0, 1, (2, height + 9, width + 9)).astype(np.float32)
    check_blend(host, place, same_bits, tile, planes, top, left)


def test_blend_of_overlapping_windows_leaves_no_seam() -> None:
    planes, ramp = np.zeros((1, 8, 24), np.float32), np.linspace(0, 1, 10, dtype=np.float32)[1:-1]
    ones, level = np.ones(8, np.float32), np.full((1, 8, 16), 0.75, np.float32)
    reference.blend(planes, level, ones, np.concatenate([ones, ramp[::-1]]), 0, 0)
    reference.blend(planes, level, ones, np.concatenate([ramp, ones]), 0, 8)
    np.testing.assert_allclose(planes, 0.75, rtol=1e-6)


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (5, 0), (0, 5)])
def test_blend_with_tile_outside_raises(top: int, left: int) -> None:
    planes, tile, window = np.zeros((1, 8, 8), np.float32), np.zeros((1, 4, 4), np.float32), np.ones(4, np.float32)
    with pytest.raises(ValueError, match="not inside"):
        reference.blend(planes, tile, window, window, top, left)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (5, 1), (3, 4, 5, 7), (2, 4, 32, 33), (2, 4, 8, 8)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ddim_step(host, place, same_bits, dtype, shape, shift, in_place) -> None:
    rng = np.random.default_rng(8)
    latents, output = (rng.normal(0, 3, shape).astype(dtype) for _ in range(2))
    check_step(host, place, same_bits, latents, output, shift, in_place)


def test_ddim_step_on_every_half(host, place, same_bits) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(4, -1)
    check_step(host, place, same_bits, every, np.random.default_rng(9).permutation(every.ravel()).reshape(4, -1))


def test_ddim_step_to_no_noise_recovers_the_latents() -> None:
    clean, noise = np.random.default_rng(10).normal(0, 1, (2, 1, 64)).astype(np.float32)
    kept = 0.8  # cumulative product
    noisy = np.sqrt(np.float32(kept)) * clean + np.sqrt(np.float32(1 - kept)) * noise
    a, b = np.array([1 / np.sqrt(kept)], np.float32), np.array([-np.sqrt((1 - kept) / kept)], np.float32)
    np.testing.assert_allclose(reference.ddim_step(noisy, noise, a, b), clean, atol=1e-6)
