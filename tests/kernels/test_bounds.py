"""Kernels do not read beyond the end of an array: an unreadable page follows it, whose access ends the tests."""

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sdtrt.kernels import launches

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")

F16, F32 = np.float16, np.float32
Fenced = Callable[[tuple[int, ...], type], int]


@pytest.fixture
def fenced() -> Iterator[Fenced]:
    """Return a function that makes an array of zeros directly before an unreadable page, and returns its address."""
    library, kept = ctypes.CDLL(None, use_errno=True), []

    def protect(address: int, access: int) -> None:
        assert library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), access) == 0

    def make(shape: tuple[int, ...], dtype: type) -> int:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pages = -(-nbytes // mmap.PAGESIZE) + 1
        memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        fence = start + (pages - 1) * mmap.PAGESIZE
        protect(fence, 0)
        kept.append((memory, fence))
        return fence - nbytes

    yield make
    for _, fence in kept:
        protect(fence, mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("dtype", [F16, F32])
@pytest.mark.parametrize("count", [*range(1, 18), 31, 2048, 4095])
def test_kernels_over_elements_stay_in_bounds(host, fenced: Fenced, count: int, dtype: type) -> None:
    shape, plane = (1, count), {"shape": (1, 1, 1, count), "dtype": dtype}
    latents, output, symbols, points = (fenced(shape, kind) for kind in (dtype, dtype, np.int16, np.int8))
    one, other, flags = fenced((1,), F32), fenced((1,), F32), fenced((1,), np.uint32)
    host.run(launches.quantize(latents, symbols, one, other, flags, **plane, dead_zone=0))
    host.run(launches.dequantize(symbols, latents, one, other, **plane, recon_offsets=points))
    host.run(launches.dequantize(symbols, latents, one, other, **plane, channel_offsets=fenced((1,), F32)))
    host.run(launches.ddim_step(latents, output, latents, one, other, shape=shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [F16, F32])
@pytest.mark.parametrize("width", range(1, 34))
def test_kernels_over_rows_stay_in_bounds(host, fenced: Fenced, width: int, dtype: type) -> None:
    shape, flags = (2, 3, width), fenced((1,), np.uint32)
    tile, planes, window_y, window_x = (
        fenced(shape, dtype),
        fenced(shape, F32),
        fenced((3,), F32),
        fenced((width,), F32),
    )
    sizes = {"tile_shape": shape, "planes_shape": shape, "top": 0, "left": 0}
    host.run(launches.blend(tile, planes, window_y, window_x, **sizes, dtype=dtype))
    for channels in (1, 3, 4):
        images = launches.ImageBatch(1, 3, width, channels, width * channels, 0, 1)
        pixels, planes = fenced((3, width, channels), np.uint8), fenced((3, 3, width), dtype)
        host.run(launches.pixels_to_planes(pixels, planes, images=images, dtype=dtype, low=-1, high=1))
        if channels > 1:
            host.run(launches.planes_to_pixels(planes, pixels, flags, images=images, dtype=dtype, low=-1, high=1))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("height", [1, 7, 8, 9])
@pytest.mark.parametrize("width", range(1, 34))
def test_residual_and_overlay_stay_in_bounds(host, fenced: Fenced, width: int, height: int, channels: int) -> None:
    shape = height, width, channels
    images = launches.ImageBatch(1, *shape, width * channels, 0, 1)
    pixels, overlay = fenced(shape, np.uint8), fenced((height, width, 4), np.uint8)
    values = fenced((3, -(-height // 8), -(-width // 8), 8, 8), np.int32)
    host.run(launches.add_residual(values, pixels, images=images))
    host.run(launches.apply_overlay(overlay, pixels, images=images))
    ctypes.memset(overlay, 255, height * width * 4)  # where nothing is opaque, pixels are not touched
    host.run(launches.apply_overlay(overlay, pixels, images=images))
