"""The codec on the GPU: differences from the CPU's images, milliseconds from host to host, growth of memory."""

import resource
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sdtrt
from gpu.check import Check, NotMeasuredError, require, require_backend
from gpu.timing import percentiles
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.export.latents.sample_images import synthetic_image

BACKENDS = ("trt", "ort")
QUALITIES = (10, 50, 90)
DECODES_PER_FILE = 3  # the first without a CUDA graph, two with it

Pixels = NDArray[np.uint8]


def parity(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield the differences between images decoded on the GPU and on the CPU, for each backend."""
    require("onnxruntime")
    with sdtrt.Codec.open(device="cpu", precision="fp32") as host:
        images = [sample_image(width, height, n) for n, (width, height) in enumerate(check.machine.compared)]
        files = [host.encode(image, quality=quality) for image in images for quality in QUALITIES]
        expected = [np.asarray(host.decode(data)) for data in files]
        for backend in BACKENDS:
            try:
                require_backend("tiny", backend)
            except NotMeasuredError as reason:
                yield backend, {"not measured": str(reason)}
                continue
            with sdtrt.Codec.open(device="cuda", backend=backend) as codec:
                yield f"{backend}, decoded", differences(codec, files, expected)
                sizes = [len(codec.encode(image, quality=q)) for image in images for q in QUALITIES]
            ratios = np.divide(sizes, [len(data) for data in files])
            yield f"{backend}, encoded", {"least_bytes": round(ratios.min(), 4), "most_bytes": round(ratios.max(), 4)}


def differences(codec: sdtrt.Codec, files: list[bytes], expected: list[Pixels]) -> dict[str, Any]:
    """Decode files and return their differences from the expected pixels; see `pixel_differences`."""
    decoded = [np.asarray(codec.decode(data)) for data in files for _ in range(DECODES_PER_FILE)]
    return pixel_differences(decoded, [pixels for pixels in expected for _ in range(DECODES_PER_FILE)])


def pixel_differences(decoded: list[Pixels], expected: list[Pixels]) -> dict[str, Any]:
    """Return the largest and the mean difference in 8-bit values, and the share of equal samples."""
    pairs = zip(decoded, expected, strict=True)
    differences = np.concatenate([np.abs(pixels.astype(int) - target).ravel() for pixels, target in pairs])
    return {
        "decodes": len(decoded),
        "largest_difference": int(differences.max()),
        "mean_difference": round(float(differences.mean()), 5),
        "equal_share": round(float((differences == 0).mean()), 5),
    }


def built_in(backend: str, check: Check) -> Iterator[tuple[str, Any]]:
    yield from latency(check, "tiny", backend)


def architecture(backend: str, check: Check) -> Iterator[tuple[str, Any]]:
    yield from latency(check, check.bundle, backend)


def latency(check: Check, model: str | Path, backend: str) -> Iterator[tuple[str, Any]]:
    require_backend(model, backend)
    yield from calls(check, EngineCodec(model, device="cuda", backend=backend))


def calls(check: Check, engine_codec: EngineCodec) -> Iterator[tuple[str, Any]]:
    """Yield milliseconds of complete calls, and of calls without the entropy coder.

    Files have no layers, so that the figures compare with those of networks.
    """
    machine, codec, pipeline = check.machine, sdtrt.Codec(engine_codec), engine_codec.pipeline
    each = check.seconds / (4 * len(machine.sides) * len(machine.batches))
    for side in machine.sides:
        all_images = [sample_image(side, side, n) for n in range(max(machine.batches))]
        all_files = codec.encode_batch(all_images, layers=1)
        for batch in machine.batches:
            images, files, key = all_images[:batch], all_files[:batch], f"{side}x{side}, batch {batch}"
            parsed = [parsed_file(data) for data in files]
            timed: dict[str, Callable[[], Any]] = {
                "encode": lambda batch=images: codec.encode_batch(batch, layers=1),
                "decode": lambda batch=files: codec.decode_batch(batch),
                "analyse": lambda batch=images: pipeline.analyse(batch),
                "synthesise": lambda batch=parsed: pipeline.synthesise(batch),
            }
            for name, call in timed.items():
                yield f"{name} {key}", percentiles(call, machine.runs, each)


def memory(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield the growth of memory, in bytes, between a tenth of the decodes and the last one."""
    backend = usable_backend()
    with sdtrt.Codec.open(device="cuda", backend=backend) as codec:
        files = [codec.encode(sample_image(64 + 8 * n, 64, n)) for n in range(4)]
        early, tenth, done, started = None, 0, 0, time.perf_counter()
        while done < check.decodes and time.perf_counter() - started < check.seconds:
            codec.decode(files[done % len(files)])
            done += 1
            late = done >= check.decodes / 10 or time.perf_counter() - started > check.seconds / 10
            if early is None and late:
                early, tenth = used_memory(check), done
        growth = np.subtract(used_memory(check), early or used_memory(check))
    yield (
        backend,
        {
            "decodes": done,
            "since_decode": tenth,
            "host_nbytes": int(growth[0]),
            "device_nbytes": int(growth[1]),
        },
    )


def usable_backend() -> str:
    """Return the first backend that runs the built-in model on the GPU; `NotMeasuredError` if none does."""
    reasons = []
    for backend in BACKENDS:
        try:
            require_backend("tiny", backend)
            return backend
        except NotMeasuredError as reason:
            reasons.append(f"{backend}: {reason}")
    raise NotMeasuredError("; ".join(reasons))


def used_memory(check: Check) -> tuple[int, int]:
    """Return the peak memory of the process and the used memory of the device, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, check.machine.memory_used()


def parsed_file(data: bytes) -> DecodeRequest:
    file = container.read(data)
    return DecodeRequest(LatentReader(file).read(), file.header)


def sample_image(width: int, height: int, seed: int) -> Pixels:
    return np.roll(cached_image(width, height), 37 * seed, axis=1)


cached_image = cache(synthetic_image)
