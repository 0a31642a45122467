"""Bandwidth of the kernels on large batches, in GB/s of the bytes they must read and write, beside a plain copy."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gpu.check import Check, CheckError
from sdtrt.kernels import build, launches
from sdtrt.kernels import device as cuda
from sdtrt.kernels.device import DeviceArray

LAUNCHES, RUNS = 20, 9  # launches of each timed run


def bandwidth(check: Check) -> Iterator[tuple[str, Any]]:
    yield "kernels", compiled_kernels()
    device = cuda.CudaDevice()
    copy = copy_bandwidth(device, check.machine.large)
    yield "copy", {"gb_per_second": round(copy, 1)}
    for work in [*latent_works(device, check.machine.large), *pixel_works(device, check.machine.large)]:
        rate = work.nbytes / seconds(device, lambda work=work: device.launch(work.launch, device.stream)) / 1e9
        yield work.name, {"gb_per_second": round(rate, 1), "of_copy": round(rate / copy, 3)}


def compiled_kernels() -> dict[str, Any]:
    """Return the record of the compiled kernels; `CheckError` if they were compiled from other sources."""
    record = json.loads(build.RECORD.read_bytes())
    if record["sources_sha256"] != build.sources_sha256():
        raise CheckError("kernels.fatbin was compiled from other sources; run: make kernels")
    return {name: record[name] for name in ("nvcc", "architectures", "ptx")} | {"count": len(record["kernels"])}


@dataclass(frozen=True, slots=True)
class Work:
    """A launch, the bytes that it must read and write, and its arrays, which must stay allocated until it has run."""

    name: str
    launch: launches.Launch
    nbytes: int
    arrays: list[DeviceArray]


def latent_works(device: Any, shape: tuple[int, ...]) -> list[Work]:
    """Return the launches of the kernels for latents, in FP16."""
    count, channels = math.prod(shape), shape[1]
    half, symbols = filled(device, shape, np.float16, 0), device.empty(shape, np.int16)
    points, flags = device.empty(shape, np.int8), device.empty((1,), np.uint32)
    vectors = [filled(device, (channels,), np.float32, 1) for _ in range(3)]
    mean, delta, offset = (vector.pointer for vector in vectors)
    arrays = [half, symbols, points, flags, *vectors]
    options: dict[str, Any] = {"shape": shape, "dtype": np.float16}
    latents, ints, point = half.pointer, symbols.pointer, points.pointer
    works = {
        "quantize": (launches.quantize(latents, ints, mean, delta, flags.pointer, dead_zone=0, **options), 4),
        "dequantize, offsets": (launches.dequantize(ints, latents, mean, delta, channel_offsets=offset, **options), 4),
        "dequantize, points": (
            launches.dequantize(ints, latents, mean, delta, recon_offsets=point, **options),
            5,
        ),
        "step": (launches.ddim_step(latents, ints, latents, mean, delta, **options), 6),
    }
    return [Work(name, launch, count * nbytes, arrays) for name, (launch, nbytes) in works.items()]


def pixel_works(device: Any, shape: tuple[int, ...]) -> list[Work]:
    """Return the launches of the kernels for pixels; the residual is zero, the overlay opaque everywhere."""
    images, side = shape[0], 2 * shape[2]
    batch = launches.ImageBatch(images, side, side, 3, 3 * side, 3 * side * side, 8)
    small_batch = replace(batch, count=max(images // 4, 1))
    rgb, planes = (
        device.empty((images, side, side, 3), np.uint8),
        filled(device, (images, 3, side, side), np.float16, 0),
    )
    flags = device.empty((1,), np.uint32)
    values = filled(device, (small_batch.count, 3, side // 8, side // 8, 8, 8), np.int32, 0)
    overlay = filled(device, (small_batch.count, side, side, 4), np.uint8, 255)
    options: dict[str, Any] = {"images": batch, "dtype": np.float16, "low": -1.0, "high": 1.0}
    forward = launches.pixels_to_planes(rgb.pointer, planes.pointer, **options)
    inverse = launches.planes_to_pixels(planes.pointer, rgb.pointer, flags.pointer, **options)
    add = launches.add_residual(values.pointer, rgb.pointer, images=small_batch)
    put = launches.apply_overlay(overlay.pointer, rgb.pointer, images=small_batch)
    moved, count = rgb.nbytes + planes.nbytes, small_batch.count * side * side
    arrays = [rgb, planes, flags, values, overlay]
    return [
        Work("pixels to planes", forward, moved, arrays),
        Work("planes to pixels", inverse, moved, arrays),
        Work("add residual", add, count * (12 + 6), arrays),
        Work("put overlay", put, count * (4 + 6), arrays),
    ]


def copy_bandwidth(device: Any, shape: tuple[int, ...]) -> float:
    """Return the GB/s of a copy, counting the bytes read and the bytes written."""
    nbytes = 4 * math.prod(shape)
    source, target = device.empty((nbytes,), np.uint8), device.empty((nbytes,), np.uint8)
    return 2 * nbytes / seconds(device, lambda: device.copy(target, source, device.stream)) / 1e9


def filled(device: Any, shape: tuple[int, ...], dtype: DTypeLike, value: int) -> DeviceArray:
    staging = device.pinned(shape, dtype)
    staging[...] = value
    array: DeviceArray = device.empty(shape, dtype)
    device.upload(array, staging, device.stream)
    device.record_event(device.stream).sync()
    return array


def seconds(device: Any, queue: Callable[[], None]) -> float:
    """Return the median seconds of one queued launch by the device's clock, after a warm-up."""

    def queue_all() -> None:
        for _ in range(LAUNCHES):
            queue()

    return float(np.median([device.seconds(queue_all) / LAUNCHES for _ in range(1 + RUNS)][1:]))
