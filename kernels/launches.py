"""The launch of each kernel: its name, grid and arguments, from addresses, shapes and types. It needs no CUDA.

Addresses are integers, of device memory. Arrays are contiguous and aligned to their elements; a kernel that needs more
says so. Kernels set bits of a word of flags and never clear them: it must be 0 before the first launch. Wrong arguments
raise `ValueError`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from sdtrt.kernels import reference

# As in groups.cuh and the kernels: threads of a block, elements and pixels of a group, groups of a thread.
BLOCK = 256
GROUP, PIXEL_GROUP = 8, 16
IN_FLIGHT, PIXELS_IN_FLIGHT = 2, 1
COEFFICIENTS_ALIGNMENT = 16  # bytes

# So far below 2^31 that a coordinate plus the size of a group does not overflow.
MAX_DIMENSION = 2**31 - 1 - PIXEL_GROUP

SUFFIXES = {np.dtype(np.float16): "f16", np.dtype(np.float32): "f32"}
CHANNEL_NAMES = {1: "grey", 3: "rgb", 4: "rgba"}

Argument = int | np.int32 | np.int64 | np.float32
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel.

    Arguments:
        kernel: its name in kernels.cu.
        grid: number of blocks.
        block: number of threads of a block.
        arguments: of the kernel, in order. An address is an int (null: 0), anything else a NumPy scalar of the
            parameter's type, as cuda-core's `launch` takes them.
    """

    kernel: str
    grid: int
    block: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """The memory layout of a batch of images of one size, and the size of their planes.

    The pixels are uint8 (count, height, width, channels), the planes (count, 3, H', W').

    Arguments:
        count, height, width, channels: of the images.
        row_stride, image_stride: bytes from one row or image to the next.
        pad_multiple: H' and W' are the height and width rounded up to a multiple of it.
    """

    count: int
    height: int
    width: int
    channels: int
    row_stride: int
    image_stride: int
    pad_multiple: int

    def __post_init__(self) -> None:
        check_shape((self.count, self.height, self.width, self.pad_multiple, *self.padded))
        nbytes = (self.height - 1) * self.row_stride + self.width * self.channels
        if self.row_stride < self.width * self.channels or (self.count > 1 and self.image_stride < nbytes):
            raise ValueError(f"rows or images overlap in memory: {self}")

    @property
    def padded(self) -> tuple[int, int]:
        """H' and W'."""
        multiple = self.pad_multiple
        return -(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple

    def sizes(self) -> tuple[Argument, ...]:
        """Return the arguments of kernels that use pixels and planes."""
        return *self.pixel_sizes(), *map(np.int32, self.padded)

    def pixel_sizes(self) -> tuple[Argument, ...]:
        """Return the arguments of kernels that use pixels only."""
        strides = np.int64(self.image_stride), np.int64(self.row_stride)
        return *strides, np.int64(self.count), np.int32(self.height), np.int32(self.width)


def quantize(
    latents: int, symbols: int, mean: int, delta: int, flags: int, *, shape: Shape, dtype: DTypeLike, dead_zone: float
) -> Launch:
    """Latents (N, C, h, w) to int16 symbols; see `reference.quantize_flagged`. 0 <= dead_zone <= 0.5."""
    if not 0 <= dead_zone <= 0.5:
        raise ValueError(f"dead_zone is {dead_zone}, expected 0 to 0.5")
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
    recon_offsets: int = 0,
    channel_offsets: int = 0,
) -> Launch:
    """Symbols (N, C, h, w) to latents; see `reference.dequantize`.

    Exactly one of `recon_offsets`, int8 (N, C, h, w), and `channel_offsets`, float32 (C,), must be given.
    """
    if bool(recon_offsets) == bool(channel_offsets):
        raise ValueError("dequantize takes either recon_offsets or channel_offsets")
    arguments = (symbols, recon_offsets, latents, mean, delta, channel_offsets, *plane_sizes(shape))
    return Launch(f"dequantize_{suffix(dtype)}", element_blocks(shape), BLOCK, arguments)


def pixels_to_planes(
    pixels: int, planes: int, *, images: ImageBatch, dtype: DTypeLike, low: float, high: float
) -> Launch:
    """Pixels to planes; see `reference.pixels_to_planes`."""
    height, width = images.padded
    grid = blocks(images.count * height * groups(width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"{channel_name(images, (1, 3, 4))}_to_planes_{suffix(dtype)}"
    return Launch(name, grid, BLOCK, (pixels, planes, *images.sizes(), *reference.plane_scale_and_shift(low, high)))


def planes_to_pixels(
    planes: int, pixels: int, flags: int, *, images: ImageBatch, dtype: DTypeLike, low: float, high: float
) -> Launch:
    """Planes to pixels of 3 or 4 channels; see `reference.planes_to_pixels` and `reference.planes_flags`."""
    grid = blocks(images.count * images.height * groups(images.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"planes_to_{channel_name(images, (3, 4))}_{suffix(dtype)}"
    arguments = (pixels, planes, *images.sizes(), *reference.pixel_shift_and_scale(low, high), flags)
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
    """Add a weighted tile (C, h, w) of type `dtype` to float32 planes (C, H, W); see `reference.blend`."""
    check_shape(tile_shape)
    check_shape(planes_shape)
    (channels, tile_height, tile_width), (planes_channels, height, width) = tile_shape, planes_shape
    is_inside = 0 <= top <= height - tile_height and 0 <= left <= width - tile_width
    if channels != planes_channels or not is_inside:
        raise ValueError(f"a tile of shape {tile_shape} at row {top}, column {left} is not inside {planes_shape}")
    sizes = map(np.int32, (tile_height, tile_width, height, width, top, left))
    grid = blocks(channels * tile_height * groups(tile_width, GROUP), IN_FLIGHT)
    arguments: tuple[Argument, ...] = (tile, planes, window_y, window_x, np.int64(channels), *sizes)
    return Launch(f"blend_{suffix(dtype)}", grid, BLOCK, arguments)


def ddim_step(latents: int, output: int, stepped: int, a: int, b: int, *, shape: Shape, dtype: DTypeLike) -> Launch:
    """One step of DDIM over (N, …); see `reference.ddim_step`. `stepped`, the result, may be `latents`: in place."""
    grid = element_blocks(shape)
    sizes = np.int64(math.prod(shape)), np.int64(math.prod(shape[1:]))
    return Launch(f"ddim_step_{suffix(dtype)}", grid, BLOCK, (latents, output, stepped, a, b, *sizes))


def add_residual(coefficients: int, pixels: int, *, images: ImageBatch) -> Launch:
    """Add residuals to pixels of 3 or 4 channels; see `reference.add_residual`.

    `coefficients` are int32 (count, 3, ceil(height / 8), ceil(width / 8), 8, 8), at an address that is a multiple of 16
    bytes.
    """
    if coefficients % COEFFICIENTS_ALIGNMENT:
        raise ValueError(
            f"coefficients at address {coefficients:#x}, expected a multiple of {COEFFICIENTS_ALIGNMENT} bytes"
        )
    rows = groups(images.height, reference.BLOCK) * reference.BLOCK
    grid = blocks(images.count * rows * groups(images.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"add_residual_{channel_name(images, (3, 4))}"
    return Launch(name, grid, BLOCK, (coefficients, pixels, *images.pixel_sizes()))


def apply_overlay(overlay: int, pixels: int, *, images: ImageBatch) -> Launch:
    """Put overlays, uint8 (count, height, width, 4), over pixels of 3 or 4 channels; see `reference.apply_overlay`."""
    grid = blocks(images.count * images.height * groups(images.width, PIXEL_GROUP), PIXELS_IN_FLIGHT)
    name = f"apply_overlay_{channel_name(images, (3, 4))}"
    return Launch(name, grid, BLOCK, (overlay, pixels, *images.pixel_sizes()))


def check_shape(shape: Shape) -> None:
    if not all(1 <= size <= MAX_DIMENSION for size in shape):
        raise ValueError(f"shape {shape}, expected dimensions from 1 to {MAX_DIMENSION}")


def plane_sizes(shape: Shape) -> tuple[Argument, ...]:
    """Return the number of elements of a shape (N, C, h, w), the elements of a plane, and the channels."""
    _, channels, height, width = shape
    return np.int64(math.prod(shape)), np.int64(height * width), np.int32(channels)


def suffix(dtype: DTypeLike) -> str:
    if np.dtype(dtype) not in SUFFIXES:
        raise ValueError(f"no kernel for {np.dtype(dtype)}, expected float16 or float32")
    return SUFFIXES[np.dtype(dtype)]


def channel_name(images: ImageBatch, channels: tuple[int, ...]) -> str:
    if images.channels not in channels:
        raise ValueError(f"no kernel for {images.channels} channels, expected one of {channels}")
    return CHANNEL_NAMES[images.channels]


def element_blocks(shape: Shape) -> int:
    """Return the number of blocks of a kernel over all elements of an array."""
    check_shape(shape)
    return blocks(groups(math.prod(shape), GROUP), IN_FLIGHT)


def groups(count: int, size: int) -> int:
    return -(-count // size)


def blocks(group_count: int, in_flight: int) -> int:
    return -(-group_count // (BLOCK * in_flight))
