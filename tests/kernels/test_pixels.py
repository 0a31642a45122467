"""The kernels between pixels and planes, run on the host, against NumPy, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.kernels import launches, reference

DTYPES = (np.float16, np.float32)
RANGES = [(-1, 1), (0, 1), (0, 255), (-0.3, 0.7)]
SIZES = [(1, 1, 8), (1, 17, 8), (33, 7, 1), (16, 16, 8), (5, 40, 8), (3, 31, 16), (2, 15, 4), (70, 130, 8), (4, 500, 4)]
# Bytes that rows and images are longer than they must be, and elements that memory begins off alignment.
LAYOUTS = [(0, 0, 0), (0, 0, 1), (1, 5, 0), (4, 0, 4), (16, 48, 0), (3, 7, 3)]


def image_batch(count, height, width, channels, multiple, row_gap=0, image_gap=0):
    row_stride = width * channels + row_gap
    return launches.ImageBatch(count, height, width, channels, row_stride, height * row_stride + image_gap, multiple)


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


def check_planes(host, place, same_bits, images, dtype, low, high, shift=0):
    content = np.random.default_rng(1).integers(0, 256, nbytes(images), np.uint8)
    pixels = place(content, shift=shift)
    planes = place((images.count, 3, *images.padded), dtype, shift=shift)
    host.run(launches.pixels_to_planes(pixels.address, planes.address, images=images, dtype=dtype, low=low, high=high))
    assert planes.intact()
    same_bits(pixels.array, content)
    each = [reference.pixels_to_planes(one, images.pad_multiple, low, high) for one in strided(content, images)]
    same_bits(planes.array, np.stack(each).astype(dtype))


def check_pixels(host, place, same_bits, images, content, low, high, shift=0):
    planes = place(content, shift=shift)
    pixels, flags = place((nbytes(images),), np.uint8, shift=shift), place(np.zeros(1, np.uint32))
    expected = pixels.array.copy()
    addresses = (each.address for each in (planes, pixels, flags))
    host.run(launches.planes_to_pixels(*addresses, images=images, dtype=content.dtype, low=low, high=high))
    assert pixels.intact()
    for view, one in zip(strided(expected, images), content, strict=True):
        view[...] = reference.planes_to_pixels(one, images.width, images.height, low, high, images.channels)
    same_bits(pixels.array, expected)  # what lies between rows, too
    every = [reference.planes_flags(one, images.width, images.height) for one in content]
    assert flags.array[0] == max(every)


@pytest.mark.parametrize(("row_gap", "image_gap", "shift"), LAYOUTS)
@pytest.mark.parametrize(("height", "width", "multiple"), SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_to_planes(
    host, place, same_bits, dtype, channels, height, width, multiple, row_gap, image_gap, shift
) -> None:
    images = image_batch(2, height, width, channels, multiple, row_gap, image_gap)
    check_planes(host, place, same_bits, images, dtype, -1, 1, shift)


@pytest.mark.parametrize(("row_gap", "image_gap", "shift"), LAYOUTS)
@pytest.mark.parametrize(("height", "width", "multiple"), SIZES)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_to_pixels(
    host, place, same_bits, dtype, channels, height, width, multiple, row_gap, image_gap, shift
) -> None:
    images = image_batch(2, height, width, channels, multiple, row_gap, image_gap)
    planes = np.random.default_rng(2).uniform(-1.2, 1.2, (2, 3, *images.padded)).astype(dtype)
    check_pixels(host, place, same_bits, images, planes, -1, 1, shift)


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_to_planes_of_every_8_bit_value(host, place, same_bits, dtype, low, high) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256).repeat(3, 2).reshape(1, 256, 3)
    images = image_batch(1, 1, 256, 3, 8)
    check_planes(host, place, same_bits, images, dtype, low, high)
    planes = reference.pixels_to_planes(every, 8, low, high)[None].astype(dtype)
    check_pixels(host, place, same_bits, images, planes, low, high)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_planes_to_pixels_of_every_half(host, place, same_bits, low, high) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(1, 1, 256, 256).repeat(3, axis=1)
    check_pixels(host, place, same_bits, image_batch(1, 256, 256, 3, 8), every, low, high)


def test_planes_to_pixels_rounds_half_to_even(host, place, same_bits) -> None:
    halves = np.arange(-3, 259, 0.5, np.float32)
    values = np.concatenate([halves, np.nextafter(halves, np.float32(-9)), np.nextafter(halves, np.float32(999))])
    planes = values.reshape(1, 1, 1, -1).repeat(3, axis=1)
    check_pixels(host, place, same_bits, image_batch(1, 1, values.size, 3, 1), planes, 0, 255)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (4, 18), (4, 19), (5, 3)])
def test_planes_to_pixels_flags_nonfinite_values_inside_the_image_only(
    host, place, same_bits, dtype, bad, row, column
) -> None:
    planes = np.zeros((1, 3, 8, 24), dtype)
    planes[0, 1, row, column] = bad
    check_pixels(host, place, same_bits, image_batch(1, 5, 19, 3, 8), planes, -1, 1)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 80)),
    st.sampled_from([3, 4]),
    st.integers(1, 16),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 15)),
    st.sampled_from(DTYPES),
)
def test_pixels_of_any_size_and_layout(host, place, same_bits, sizes, channels, multiple, layout, dtype) -> None:
    row_gap, image_gap, shift = layout
    images = image_batch(*sizes, channels, multiple, row_gap, image_gap)
    check_planes(host, place, same_bits, images, dtype, -1, 1, shift)
    planes = np.random.default_rng(3).uniform(-1.1, 1.1, (sizes[0], 3, *images.padded)).astype(dtype)
    check_pixels(host, place, same_bits, images, planes, -1, 1, shift)
