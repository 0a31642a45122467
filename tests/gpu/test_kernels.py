"""Every kernel on a GPU, bit for bit against its reference; sizes that fill no vector, outputs poisoned before."""

from typing import Any

import numpy as np
import pytest

from sdtrt.kernels import launches, reference

SHAPES = [(1, 1, 1, 1), (1, 4, 64, 64), (2, 3, 7, 5), (3, 16, 33, 17), (8, 40, 64, 96)]
KINDS = pytest.mark.parametrize("kind", [np.float16, np.float32])


def same(found: np.ndarray, expected: np.ndarray) -> None:
    unsigned = np.dtype(f"u{expected.itemsize}")
    np.testing.assert_array_equal(found.view(unsigned), np.ascontiguousarray(expected).view(unsigned))


def vectors(rng: np.random.Generator, channels: int) -> list[np.ndarray]:
    """Return mean, delta and offset of each channel."""
    return [(low + rng.random(channels)).astype(np.float32) for low in (-0.5, 0.1, 0)]


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
def test_quantize(gpu: Any, shape: tuple[int, ...], kind: type) -> None:
    rng = np.random.default_rng(1)
    latents = rng.normal(0, 9, shape).astype(kind)
    mean, delta, _ = vectors(rng, shape[1])
    symbols, flags = gpu.poisoned(shape, np.int16), gpu.array(np.zeros(1, np.uint32))
    arguments = [gpu.array(a).pointer for a in (latents,)] + [symbols.pointer]
    arguments += [gpu.array(a).pointer for a in (mean, delta)] + [flags.pointer]
    gpu.device.launch(launches.quantize(*arguments, shape=shape, dtype=kind, dead_zone=0.12), gpu.stream)
    same(gpu.values(symbols), reference.quantize(latents, mean, delta, 0.12))
    assert gpu.values(flags)[0] == 0


def test_quantize_all_halves(gpu: Any) -> None:
    """Infinities and NaN among them: these raise a flag."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, 1, 256, 256)
    mean, delta = np.float32([0.25]), np.float32([0.013])
    symbols, flags = gpu.poisoned(halves.shape, np.int16), gpu.array(np.zeros(1, np.uint32))
    pointers = [gpu.array(halves).pointer, symbols.pointer, gpu.array(mean).pointer, gpu.array(delta).pointer]
    launch = launches.quantize(*pointers, flags.pointer, shape=halves.shape, dtype=np.float16, dead_zone=0.0)
    gpu.device.launch(launch, gpu.stream)
    expected, raised = reference.quantize_flagged(halves, mean, delta, 0.0)
    same(gpu.values(symbols), expected)
    assert gpu.values(flags)[0] == raised != 0


@KINDS
@pytest.mark.parametrize("with_points", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_dequantize(gpu: Any, shape: tuple[int, ...], with_points: bool, kind: type) -> None:
    rng = np.random.default_rng(2)
    symbols = rng.integers(-32768, 32768, shape).astype(np.int16)
    mean, delta, offset = vectors(rng, shape[1])
    points = rng.integers(-64, 65, shape).astype(np.int8) if with_points else offset
    latents = gpu.poisoned(shape, kind)
    pointers = [gpu.array(symbols).pointer, latents.pointer, gpu.array(mean).pointer, gpu.array(delta).pointer]
    more = {"recon_offsets" if with_points else "channel_offsets": gpu.array(points).pointer}
    gpu.device.launch(launches.dequantize(*pointers, shape=shape, dtype=kind, **more), gpu.stream)
    with np.errstate(over="ignore"):
        same(gpu.values(latents), reference.dequantize(symbols, mean, delta, points).astype(kind))


@KINDS
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 96), (33, 129)])
def test_pixels(gpu: Any, size: tuple[int, int], channels: int, kind: type) -> None:
    height, width = size
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    row = width * channels
    images = launches.ImageBatch(2, height, width, channels, row, row * height, 8)
    planes = gpu.poisoned((2, 3, *images.padded), kind)
    into = launches.pixels_to_planes(
        gpu.array(pixels).pointer, planes.pointer, images=images, dtype=kind, low=-1, high=1
    )
    gpu.device.launch(into, gpu.stream)
    expected = np.stack([reference.pixels_to_planes(one, 8, -1, 1) for one in pixels]).astype(kind)
    same(gpu.values(planes), expected)
    if channels == 3:
        values = rng.normal(0, 1, expected.shape).astype(kind)
        back, flags = gpu.poisoned(pixels.shape, np.uint8), gpu.array(np.zeros(1, np.uint32))
        out = launches.planes_to_pixels(
            gpu.array(values).pointer, back.pointer, flags.pointer, images=images, dtype=kind, low=-1, high=1
        )
        gpu.device.launch(out, gpu.stream)
        same(gpu.values(back), np.stack([reference.planes_to_pixels(one, width, height, -1, 1) for one in values]))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 96), (33, 129)])
def test_residual_and_overlay(gpu: Any, size: tuple[int, int], channels: int) -> None:
    height, width = size
    rng = np.random.default_rng(5)
    row = width * channels + 5
    images = launches.ImageBatch(2, height, width, channels, row, row * height, 8)
    values = rng.laplace(0, 150, (2, 3, -(-height // 8), -(-width // 8), 8, 8)).astype(np.int32)
    values[:, :, -1, -1] = rng.choice(np.int32([2**16, -(2**16), 2**31 - 1, -(2**31)]), (2, 3, 8, 8))
    overlay = rng.integers(0, 256, (2, height, width, 4), dtype=np.uint8)
    overlay[rng.random((2, height, width)) < 0.2, 3] = 255
    content = rng.integers(0, 256, (2, height, row), dtype=np.uint8)
    there = gpu.array(content)
    gpu.device.launch(launches.add_residual(gpu.array(values).pointer, there.pointer, images=images), gpu.stream)
    added = gpu.values(there)
    gpu.device.launch(launches.apply_overlay(gpu.array(overlay).pointer, there.pointer, images=images), gpu.stream)
    whole = content[:, :, : width * channels].reshape(2, height, width, channels)  # a view
    for one, what in zip(whole, values, strict=True):
        reference.add_residual(one, what)
    same(added, content)
    for one, what in zip(whole, overlay, strict=True):
        reference.apply_overlay(one, what)
    same(gpu.values(there), content)


@KINDS
def test_blend_and_step(gpu: Any, kind: type) -> None:
    rng = np.random.default_rng(4)
    planes, tile = rng.normal(size=(3, 50, 61)).astype(np.float32), rng.normal(size=(3, 17, 23)).astype(kind)
    window_y, window_x = rng.random(17).astype(np.float32), rng.random(23).astype(np.float32)
    there = gpu.array(planes)
    pointers = [gpu.array(tile).pointer, there.pointer, gpu.array(window_y).pointer, gpu.array(window_x).pointer]
    shapes = {"tile_shape": tile.shape, "planes_shape": planes.shape}
    gpu.device.launch(launches.blend(*pointers, **shapes, dtype=kind, top=9, left=30), gpu.stream)
    reference.blend(planes, tile, window_y, window_x, 9, 30)
    same(gpu.values(there), planes)
    latents, output = (rng.normal(size=(2, 4, 9, 7)).astype(kind) for _ in range(2))
    a, b = np.float32([0.9, 1.1]), np.float32([-0.3, 0.2])
    stepped = gpu.poisoned(latents.shape, kind)
    pointers = [gpu.array(latents).pointer, gpu.array(output).pointer, stepped.pointer]
    launch = launches.ddim_step(*pointers, gpu.array(a).pointer, gpu.array(b).pointer, shape=latents.shape, dtype=kind)
    gpu.device.launch(launch, gpu.stream)
    same(gpu.values(stepped), reference.ddim_step(latents, output, a, b).astype(kind))
