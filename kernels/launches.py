"""What it takes to launch each kernel, from addresses, shapes and types: its name, grid and arguments. No CUDA here.

Addresses are those of memory on the device, as integers; arrays are contiguous, aligned to their elements and, where
nothing else is said, no more. Words of flags are raised, never cleared: they are 0 before the first launch. Wrong
arguments raise `ValueError`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from sdtrt.kernels import reference

# As in groups.cuh and in the kernels: threads of a block, elements and pixels of a group, groups of a thread.
BLOCK = 256
GROUP, PIXEL_GROUP = 8, 16
IN_FLIGHT, PIXELS_IN_FLIGHT = 2, 1
VALUES_ALIGNMENT = 16  # bytes

# So far below 2^31 that a sum of a coordinate and a group's size is not beyond.
MAX_DIMENSION = 2**31 - 1 - PIXEL_GROUP

SUFFIXES = {np.dtype(np.float16): "f16", np.dtype(np.float32): "f32"}
CHANNEL_NAMES = {1: "grey", 3: "rgb", 4: "rgba"}

Argument = int | np.int32 | np.int64 | np.float32
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel of kernels.cu, the number of its blocks and of the threads of each, and its arguments in order.

    An address is an int (null: 0), all else a NumPy scalar of the parameter's type, as cuda-core's `launch` takes them.
    """

    kernel: str
    grid: int
    block: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Pictures of one size, uint8 (images, height, width, channels), and the planes that they become.

    Rows and pictures begin `row_stride` and `image_stride` bytes apart. Planes are (images, 3, H', W'), H' and W' the
    next multiples of `multiple`.
    """

    images: int
    height: int
    width: int
    channels: int
    row_stride: int
    image_stride: int
    multiple: int

    def __post_init__(self) -> None:
        check_shape((self.images, self.height, self.width, self.multiple, *self.padded))
        nbytes = (self.height - 1) * self.row_stride + self.width * self.channels
        if self.row_stride < self.width * self.channels or (self.images > 1 and self.image_stride < nbytes):
            raise ValueError(f"rows or pictures overlap: {self}")

    @property
    def padded(self) -> tuple[int, int]:
        """H' and W'."""
        return -(-self.height // self.multiple) * self.multiple, -(-self.width // self.multiple) * self.multiple

    def sizes(self) -> tuple[Argument, ...]:
        """Return what kernels are told of all this."""
        return *self.pixel_sizes(), *map(np.int32, self.padded)

    def pixel_sizes(self) -> tuple[Argument, ...]:
        """Return what kernels are told that have to do with no planes."""
        strides = np.int64(self.image_stride), np.int64(self.row_stride)
        return *strides, np.int64(self.images), np.int32(self.height), np.int32(self.width)


def quantize(
    latents: int, symbols: int, mean: int, delta: int, flags: int, *, shape: Shape, dtype: DTypeLike, dead_zone: float
) -> Launch:
    """Latents (N, C, h, w) to int16 symbols; see `reference.quantize_flagged`. 0 <= dead_zone <= 0.5."""
    if not 0 <= dead_zone <= 0.5:
        raise ValueError(f"dead_zone is {dead_zone}, not within 0 to 0.5")
    sizes = plane_sizes(shape)
    arguments = (latents, symbols, mean, delta, flags, *sizes, np.float32(0.5 - dead_zone))
    return Launch(f"quantize_{suffix(dtype)}", element_blocks(shape), BLOCK, arguments)


def dequantize(
    symbols: int,
    latents: int,
    mean: int,
    delta: int,
    *,
    shape: Shape,
    dtype: DTypeLike,
    points: int = 0,
    offset: int = 0,
) -> Launch:
    """Symbols (N, C, h, w) to latents; see `reference.dequantize`. Either points or an offset of each channel."""
    if bool(points) == bool(offset):
        raise ValueError("dequantize takes either points or an offset")
    arguments = (symbols, points, latents, mean, delta, offset, *plane_sizes(shape))
    return Launch(f"dequantize_{suffix(dtype)}", element_blocks(shape), BLOCK, arguments)


def pixels_to_planes(
    pixels: int, planes: int, *, pictures: ImageBatch, dtype: DTypeLike, low: float, high: float
) -> Launch:
    """Pixels to planes; see `reference.pixels_to_planes`."""
    height, width = pictures.padded
    grid = blocks(pictures.images * height * groups(width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"{channel_name(pictures, (1, 3, 4))}_to_planes_{suffix(dtype)}"
    return Launch(name, grid, BLOCK, (pixels, planes, *pictures.sizes(), *reference.to_planes(low, high)))


def planes_to_pixels(
    planes: int, pixels: int, flags: int, *, pictures: ImageBatch, dtype: DTypeLike, low: float, high: float
) -> Launch:
    """Planes to pixels, of 3 or 4 channels; see `reference.planes_to_pixels` and `reference.planes_flags`."""
    grid = blocks(pictures.images * pictures.height * groups(pictures.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"planes_to_{channel_name(pictures, (3, 4))}_{suffix(dtype)}"
    arguments = (pixels, planes, *pictures.sizes(), *reference.to_levels(low, high), flags)
    return Launch(name, grid, BLOCK, arguments)


def blend(
    tile: int,
    planes: int,
    window_y: int,
    window_x: int,
    *,
    tile_shape: Shape,
    planes_shape: Shape,
    dtype: DTypeLike,
    top: int,
    left: int,
) -> Launch:
    """A tile (C, h, w), weighted, added to planes (C, H, W); see `reference.blend`. `dtype` is the tile's."""
    check_shape(tile_shape)
    check_shape(planes_shape)
    (channels, tile_height, tile_width), (planes_channels, height, width) = tile_shape, planes_shape
    inside = 0 <= top <= height - tile_height and 0 <= left <= width - tile_width
    if channels != planes_channels or not inside:
        raise ValueError(f"a tile of shape {tile_shape} at row {top}, column {left} is not inside {planes_shape}")
    sizes = map(np.int32, (tile_height, tile_width, height, width, top, left))
    grid = blocks(channels * tile_height * groups(tile_width, GROUP), IN_FLIGHT)
    arguments: tuple[Argument, ...] = (tile, planes, window_y, window_x, np.int64(channels), *sizes)
    return Launch(f"blend_{suffix(dtype)}", grid, BLOCK, arguments)


def ddim_step(latents: int, output: int, stepped: int, a: int, b: int, *, shape: Shape, dtype: DTypeLike) -> Launch:
    """One step of denoising, (N, …), in place if `stepped` is `latents`; see `reference.ddim_step`."""
    grid = element_blocks(shape)
    sizes = np.int64(math.prod(shape)), np.int64(math.prod(shape[1:]))
    return Launch(f"step_{suffix(dtype)}", grid, BLOCK, (latents, output, stepped, a, b, *sizes))


def add_residual(values: int, pixels: int, *, pictures: ImageBatch) -> Launch:
    """Values, int32 (images, 3, rows, columns, 8, 8), added to pixels of 3 or 4 channels; see `reference.add_residual`.

    Rows and columns are those of blocks, ceil(height / 8) and ceil(width / 8), whatever multiple the pictures have.
    Values begin at a multiple of 16 bytes.
    """
    if values % VALUES_ALIGNMENT:
        raise ValueError(f"values at address {values:#x}, which is no multiple of {VALUES_ALIGNMENT}")
    rows = groups(pictures.height, reference.BLOCK) * reference.BLOCK
    grid = blocks(pictures.images * rows * groups(pictures.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"add_residual_{channel_name(pictures, (3, 4))}"
    return Launch(name, grid, BLOCK, (values, pixels, *pictures.pixel_sizes()))


def apply_overlay(overlay: int, pixels: int, *, pictures: ImageBatch) -> Launch:
    """An overlay, uint8 (images, height, width, 4), over pixels of 3 or 4 channels; see `reference.apply_overlay`."""
    grid = blocks(pictures.images * pictures.height * groups(pictures.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"put_overlay_{channel_name(pictures, (3, 4))}"
    return Launch(name, grid, BLOCK, (overlay, pixels, *pictures.pixel_sizes()))


def check_shape(shape: Shape) -> None:
    if not all(1 <= size <= MAX_DIMENSION for size in shape):
        raise ValueError(f"shape {shape} has a dimension that is not within 1 to {MAX_DIMENSION}")


def plane_sizes(shape: Shape) -> tuple[Argument, ...]:
    """Return how many elements there are, how many in a plane, and how many channels, of a shape (N, C, h, w)."""
    _, channels, height, width = shape
    return np.int64(math.prod(shape)), np.int64(height * width), np.int32(channels)


def suffix(dtype: DTypeLike) -> str:
    if np.dtype(dtype) not in SUFFIXES:
        raise ValueError(f"no kernel for {np.dtype(dtype)}; there are float16 and float32")
    return SUFFIXES[np.dtype(dtype)]


def channel_name(pictures: ImageBatch, known: tuple[int, ...]) -> str:
    if pictures.channels not in known:
        raise ValueError(f"no kernel for {pictures.channels} channels; there are those for {known}")
    return CHANNEL_NAMES[pictures.channels]


def element_blocks(shape: Shape) -> int:
    """Return how many blocks it takes for an array of which all elements are alike."""
    check_shape(shape)
    return blocks(groups(math.prod(shape), GROUP), IN_FLIGHT)


def groups(count: int, size: int) -> int:
    return -(-count // size)


def blocks(group_count: int, in_flight: int) -> int:
    return -(-group_count // (BLOCK * in_flight))
