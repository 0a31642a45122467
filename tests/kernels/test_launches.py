"""Launches: grids cover all work and no more, and invalid arguments are refused. They need no GPU."""

from dataclasses import replace

import numpy as np
import pytest

from sdtrt.kernels import launches
from sdtrt.kernels.launches import ImageBatch, Launch

F16, F32 = np.float16, np.float32
ELEMENTS_OF_A_BLOCK = launches.BLOCK * launches.GROUP * launches.IN_FLIGHT
PIXELS_OF_A_BLOCK = launches.BLOCK * launches.PIXEL_GROUP * launches.PIXELS_IN_FLIGHT


def rgb(height: int, width: int, multiple: int = 8) -> ImageBatch:
    return ImageBatch(1, height, width, 3, 3 * width, 3 * width * height, multiple)


def grid_of_elements(count: int) -> int:
    return launches.ddim_step(1, 1, 1, 1, 1, shape=(1, count), dtype=F16).grid


def test_every_kernel_has_a_launch(host) -> None:
    names = set()
    for dtype in (F16, F32):
        plane = {"shape": (1, 1, 1, 1), "dtype": dtype}
        tile = {"tile_shape": (1, 1, 1), "planes_shape": (1, 1, 1), "dtype": dtype, "top": 0, "left": 0}
        names.add(launches.quantize(1, 1, 1, 1, 1, **plane, dead_zone=0).kernel)
        names.add(launches.dequantize(1, 1, 1, 1, **plane, recon_offsets=1).kernel)
        names.add(launches.ddim_step(1, 1, 1, 1, 1, **plane).kernel)
        names.add(launches.blend(1, 1, 1, 1, **tile).kernel)
        for channels in (1, 3, 4):
            values = {"images": ImageBatch(1, 1, 1, channels, channels, 0, 1), "dtype": dtype, "low": 0, "high": 1}
            names.add(launches.pixels_to_planes(1, 1, **values).kernel)
            if channels > 1:
                names.add(launches.planes_to_pixels(1, 1, 1, **values).kernel)
                names.add(launches.add_residual(16, 1, images=values["images"]).kernel)
                names.add(launches.apply_overlay(1, 1, images=values["images"]).kernel)
    assert names == set(host.signatures)


@pytest.mark.parametrize(
    ("count", "grid"), [(1, 1), (ELEMENTS_OF_A_BLOCK, 1), (ELEMENTS_OF_A_BLOCK + 1, 2), (2**40, 2**40 // 4096)]
)
def test_grid_of_elements(count: int, grid: int) -> None:
    shape = (count,) if count < 2**31 else (count >> 20, 2**20)
    assert launches.ddim_step(1, 1, 1, 1, 1, shape=shape, dtype=F16).grid == grid


def test_grid_of_images_counts_groups_of_rows() -> None:
    # A row of 17 pixels is two groups. Planes have more rows than the image.
    values = {"images": rgb(100, 17), "dtype": F16, "low": -1, "high": 1}
    assert launches.planes_to_pixels(1, 1, 1, **values).grid == 1
    assert launches.planes_to_pixels(1, 1, 1, **values | {"images": rgb(129, 17)}).grid == 2
    assert launches.pixels_to_planes(1, 1, **values | {"images": rgb(129, 17, 128)}).grid == 8


def test_grid_of_residuals_counts_groups_of_rows_of_blocks() -> None:
    # A row of 17 pixels is two groups. Blocks have more rows than the image; planes do not matter.
    assert launches.add_residual(16, 1, images=rgb(128, 17)).grid == 1
    assert launches.add_residual(16, 1, images=rgb(129, 17, 1)).grid == 2
    assert launches.apply_overlay(1, 1, images=rgb(128, 17)).grid == 1
    assert launches.apply_overlay(1, 1, images=rgb(129, 17, 128)).grid == 2


def run_on_ones(host, place, count: int, blocks: int) -> np.ndarray:
    """Return whether each element is reached by a grid with so many blocks more than a launch has."""
    latents, output = place(np.ones((1, count), F32)), place(np.ones((1, count), F32))
    a, b, stepped = place(np.full(1, 2, F32)), place(np.ones(1, F32)), place((1, count), F32)
    addresses = (each.address for each in (latents, output, stepped, a, b))
    launch = launches.ddim_step(*addresses, shape=(1, count), dtype=F32)
    host.run(replace(launch, grid=launch.grid + blocks))
    assert stepped.intact()
    return stepped.array == 3


@pytest.mark.parametrize("count", [ELEMENTS_OF_A_BLOCK, ELEMENTS_OF_A_BLOCK + 1, 3 * ELEMENTS_OF_A_BLOCK - 9])
def test_grid_covers_all_elements_and_no_more(host, place, count: int) -> None:
    assert run_on_ones(host, place, count, 0).all()
    assert run_on_ones(host, place, count, 1).all()
    reached = (grid_of_elements(count) - 1) * ELEMENTS_OF_A_BLOCK
    np.testing.assert_array_equal(run_on_ones(host, place, count, -1), np.arange(count)[None] < reached)


@pytest.mark.parametrize("rows", [PIXELS_OF_A_BLOCK // 64, PIXELS_OF_A_BLOCK // 64 + 1])
def test_grid_covers_all_pixels_and_no_more(host, place, rows: int) -> None:
    planes, flags = place(np.zeros((1, 3, rows, 64), F16)), place(np.zeros(1, np.uint32))
    pixels = place((rows, 64, 3), np.uint8)
    values = {"images": rgb(rows, 64, 1), "dtype": F16, "low": 0, "high": 1}
    launch = launches.planes_to_pixels(planes.address, pixels.address, flags.address, **values)
    host.run(replace(launch, grid=launch.grid - 1))
    assert (pixels.array != 0).any()
    host.run(launch)
    assert (pixels.array == 0).all()


def test_grid_processes_each_element_once(host, place) -> None:
    shape = (3, 41, 501)
    tile, planes, ones = place(np.ones(shape, F32)), place(np.zeros(shape, F32)), np.ones(501, F32)
    window_y, window_x = place(ones[:41].copy()), place(ones)
    addresses = (each.address for each in (tile, planes, window_y, window_x))
    host.run(launches.blend(*addresses, tile_shape=shape, planes_shape=shape, dtype=F32, top=0, left=0))
    assert (planes.array == 1).all()


def test_arguments_of_launches_are_in_order() -> None:
    launch = launches.quantize(1, 2, 3, 4, 5, shape=(6, 7, 8, 9), dtype="float16", dead_zone=0.25)
    assert launch == Launch("quantize_f16", 1, 256, (1, 2, 3, 4, 5, 3024, 72, 7, 0.25))
    images = ImageBatch(3, 41, 501, 4, 2048, 90000, 1)
    launch = launches.add_residual(16, 2, images=images)
    assert launch == Launch("add_residual_rgba", 3 * 48 * 32 // 256, 256, (16, 2, 90000, 2048, 3, 41, 501))
    launch = launches.apply_overlay(1, 2, images=images)
    assert launch == Launch("apply_overlay_rgba", 16, 256, (1, 2, 90000, 2048, 3, 41, 501))


def test_launches_with_invalid_arguments_raise() -> None:
    plane = {"shape": (1, 1, 2, 2), "dtype": F16}
    values = {"images": rgb(2, 2), "dtype": F16, "low": 0, "high": 1}
    with pytest.raises(ValueError, match="dead_zone"):
        launches.quantize(1, 1, 1, 1, 1, **plane, dead_zone=0.6)
    with pytest.raises(ValueError, match="float64"):
        launches.quantize(1, 1, 1, 1, 1, shape=(1, 1, 1, 1), dtype=np.float64, dead_zone=0)
    with pytest.raises(ValueError, match="dimension"):
        launches.ddim_step(1, 1, 1, 1, 1, shape=(0, 4), dtype=F16)
    with pytest.raises(ValueError, match="either"):
        launches.dequantize(1, 1, 1, 1, **plane)
    with pytest.raises(ValueError, match="either"):
        launches.dequantize(1, 1, 1, 1, **plane, recon_offsets=1, channel_offsets=1)
    with pytest.raises(ValueError, match="channels"):
        launches.planes_to_pixels(1, 1, 1, **values | {"images": ImageBatch(1, 2, 2, 1, 2, 4, 8)})
    with pytest.raises(ValueError, match="channels"):
        launches.pixels_to_planes(1, 1, **values | {"images": ImageBatch(1, 2, 2, 2, 4, 8, 8)})
    for launcher in (launches.add_residual, launches.apply_overlay):
        with pytest.raises(ValueError, match="channels"):
            launcher(16, 1, images=ImageBatch(1, 2, 2, 1, 2, 4, 8))
    with pytest.raises(ValueError, match="multiple of 16"):
        launches.add_residual(8, 1, images=rgb(2, 2))


@pytest.mark.parametrize(
    "sizes", [(1, 2, 5, 3, 14, 0, 8), (2, 2, 5, 3, 15, 29, 8), (1, 0, 5, 3, 15, 0, 8), (1, 2, 2**31, 1, 2**31, 0, 1)]
)
def test_image_batch_with_invalid_sizes_raises(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"overlap|dimension"):
        ImageBatch(*sizes)


@pytest.mark.parametrize(
    ("tile", "top", "left"), [((1, 4, 4), 5, 0), ((1, 4, 4), 0, -1), ((2, 4, 4), 0, 0), ((1, 9, 1), 0, 0)]
)
def test_blend_with_tile_outside_raises(tile: tuple[int, ...], top: int, left: int) -> None:
    with pytest.raises(ValueError, match="not inside"):
        launches.blend(1, 1, 1, 1, tile_shape=tile, planes_shape=(1, 8, 8), dtype=F16, top=top, left=left)
