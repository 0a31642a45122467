"""The kernels add_residual and apply_overlay, run on the host, against NumPy, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.kernels import launches, reference

LIMIT = reference.RESIDUAL_LIMIT
BEYOND = np.array([LIMIT, -LIMIT, LIMIT + 1, -LIMIT - 1, 2**31 - 1, -(2**31), 0], np.int64).astype(np.int32)
SIZES = [(1, 1), (8, 8), (1, 17), (17, 1), (16, 16), (9, 40), (33, 7), (23, 25), (70, 130), (4, 500)]
# Bytes that rows and images are longer than they must be, and elements that memory begins off alignment.
LAYOUTS = [(0, 0, 0), (0, 0, 1), (1, 5, 0), (4, 0, 4), (16, 48, 0), (3, 7, 3)]


def image_batch(count, height, width, channels, row_gap=0, image_gap=0):
    row_stride = width * channels + row_gap
    return launches.ImageBatch(count, height, width, channels, row_stride, height * row_stride + image_gap, 1)


def strided(memory: np.ndarray, images: launches.ImageBatch) -> np.ndarray:
    """Return a view of the pixels in the bytes of a batch."""
    return np.lib.stride_tricks.as_strided(
        memory,
        (images.count, images.height, images.width, images.channels),
        (images.image_stride, images.row_stride, images.channels, 1),
    )


def nbytes(images: launches.ImageBatch) -> int:
    last = (images.height - 1) * images.row_stride + images.width * images.channels
    return (images.count - 1) * images.image_stride + last


def values_shape(images: launches.ImageBatch) -> tuple[int, ...]:
    return images.count, 3, -(-images.height // 8), -(-images.width // 8), 8, 8


def check(host, place, same_bits, launcher, defined, source, images, shift=0, content=None):
    """Compare the pixels of a launch with those of `defined`, and check that bytes between rows do not change."""
    if content is None:
        content = np.random.default_rng(1).integers(0, 256, nbytes(images), np.uint8)
    there = place(source, shift=0 if source.dtype == np.int32 else shift)  # values are aligned
    pixels = place(content, shift=shift)
    host.run(launcher(there.address, pixels.address, images=images))
    assert pixels.intact()
    same_bits(there.array, source)
    expected = content.copy()
    for view, one in zip(strided(expected, images), source, strict=True):
        defined(view, one)
    same_bits(pixels.array, expected)


def check_residual(host, place, same_bits, values, images, shift=0, content=None):
    add = launches.add_residual, reference.add_residual
    check(host, place, same_bits, *add, values.astype(np.int32), images, shift, content)


def check_overlay(host, place, same_bits, overlay, images, shift=0):
    check(host, place, same_bits, launches.apply_overlay, reference.apply_overlay, overlay, images, shift)


def overlay_of(images: launches.ImageBatch, opaque: float, seed: int = 2) -> np.ndarray:
    """Return an overlay whose pixels have alpha 255 with this probability, and 254 or less otherwise."""
    rng = np.random.default_rng(seed)
    overlay = rng.integers(0, 256, (images.count, images.height, images.width, 4), np.uint8)
    overlay[..., 3] = np.where(rng.random(overlay.shape[:3]) < opaque, 255, rng.integers(0, 255, overlay.shape[:3]))
    return overlay


@pytest.mark.parametrize(("row_gap", "image_gap", "shift"), LAYOUTS)
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [3, 4])
def test_add_residual(host, place, same_bits, channels, height, width, row_gap, image_gap, shift) -> None:
    images = image_batch(2, height, width, channels, row_gap, image_gap)
    values = np.random.default_rng(3).laplace(0, 150, values_shape(images))
    check_residual(host, place, same_bits, values, images, shift)


@pytest.mark.parametrize("spread", [1, 40, 1000, 30_000, 2**20, 2**29])
def test_add_residual_of_coefficients_of_every_size(host, place, same_bits, spread) -> None:
    images = image_batch(1, 64, 64, 3)
    values = np.random.default_rng(4).uniform(-2, 2, values_shape(images)) * spread
    check_residual(host, place, same_bits, values, images)


@pytest.mark.parametrize("seed", range(4))
def test_add_residual_of_extreme_coefficients(host, place, same_bits, seed) -> None:
    images = image_batch(1, 160, 160, 3)
    values = np.random.default_rng(seed).choice(BEYOND, values_shape(images))
    check_residual(host, place, same_bits, values, images)


@pytest.mark.parametrize("limit", [LIMIT, LIMIT - 1, 2**31 - 1])
def test_add_residual_of_the_largest_sums(host, place, same_bits, limit) -> None:
    """Coefficients have the signs of the cosines at a position, so that all terms of a sum add up."""
    waves = np.sign(reference.COSINES)
    blocks = np.einsum("vy,hx->yxvh", waves, waves).reshape(64, 8, 8)
    axes = np.sign(reference.COLOURS).T
    values = np.einsum("ca,bvh->acbvh", np.concatenate([axes, -axes]), blocks) * limit
    check_residual(host, place, same_bits, values[None], image_batch(1, 6 * 8, 64 * 8, 3))


@pytest.mark.parametrize("content", [0, 127, 255])
@pytest.mark.parametrize("value", [LIMIT, -LIMIT, 2**31 - 1, -(2**31), 1, -1])
def test_add_residual_of_equal_coefficients(host, place, same_bits, value, content) -> None:
    for channels in (3, 4):
        images = image_batch(1, 19, 27, channels)
        values, below = np.full(values_shape(images), value), np.full(nbytes(images), content, np.uint8)
        check_residual(host, place, same_bits, values, images, content=below)


def test_add_residual_rounds_half_up(host, place, same_bits) -> None:
    """Single coefficients of all axes and frequencies, near the values at which the rounded residual changes."""
    values = np.zeros((3, 64, 130, 64), np.int32)
    for frequency in range(64):
        values[:, frequency, :, frequency] = np.arange(-65, 65)
    images = image_batch(1, 64 * 8, 130 * 8, 3)
    for axis in range(3):
        alone = np.where(np.arange(3)[:, None, None, None] == axis, values, 0)
        check_residual(host, place, same_bits, alone.reshape(values_shape(images)), images)


def test_add_residual_clamps_coefficients() -> None:
    values = np.random.default_rng(5).choice(BEYOND, (3, 5, 5, 8, 8))
    found, expected = np.full((2, 40, 40, 3), 128, np.uint8)
    reference.add_residual(found, values)
    reference.add_residual(expected, np.clip(values, -LIMIT, LIMIT))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("row_gap", "image_gap", "shift"), LAYOUTS)
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [3, 4])
def test_apply_overlay(host, place, same_bits, channels, height, width, row_gap, image_gap, shift) -> None:
    images = image_batch(2, height, width, channels, row_gap, image_gap)
    for opaque in (0, 0.02, 0.5, 1):
        check_overlay(host, place, same_bits, overlay_of(images, opaque), images, shift)


def test_apply_overlay_replaces_opaque_pixels_only() -> None:
    overlay = np.array([[[1, 2, 3, 255], [4, 5, 6, 254], [7, 8, 9, 0]]], np.uint8)
    for channels in (3, 4):
        pixels = np.full((1, 3, channels), 100, np.uint8)
        reference.apply_overlay(pixels, overlay)
        assert pixels[0, :, :3].tolist() == [[1, 2, 3], [100] * 3, [100] * 3]
        assert (pixels[:, :, 3:] == 100).all()


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 80)),
    st.sampled_from([3, 4]),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 15)),
)
def test_residual_and_overlay_of_any_size_and_layout(host, place, same_bits, sizes, channels, layout) -> None:
    row_gap, image_gap, shift = layout
    images = image_batch(*sizes, channels, row_gap, image_gap)
    values = np.random.default_rng(6).normal(0, 2000, values_shape(images))
    check_residual(host, place, same_bits, values, images, shift)
    check_overlay(host, place, same_bits, overlay_of(images, 0.1), images, shift)
