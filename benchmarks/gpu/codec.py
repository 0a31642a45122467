"""The whole codec on the GPU: its pictures beside the CPU's, milliseconds from host to host, memory in the long run."""

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
DECODES_OF_ONE = 3  # as it is, then twice as a graph

Pixels = NDArray[np.uint8]


def parity(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield by how many levels pictures that are decoded on the GPU differ from the CPU's, for each backend."""
    require("onnxruntime")
    with sdtrt.Codec.open(device="cpu", precision="fp32") as host:
        pictures = [picture(width, height, n) for n, (width, height) in enumerate(check.machine.compared)]
        files = [host.encode(one, quality=quality) for one in pictures for quality in QUALITIES]
        expected = [np.asarray(host.decode(data)) for data in files]
        for backend in BACKENDS:
            try:
                require_backend("tiny", backend)
            except NotMeasuredError as reason:
                yield backend, {"not measured": str(reason)}
                continue
            with sdtrt.Codec.open(device="cuda", backend=backend) as codec:
                yield f"{backend}, decoded", differences(codec, files, expected)
                sizes = [len(codec.encode(one, quality=q)) for one in pictures for q in QUALITIES]
            ratios = np.divide(sizes, [len(data) for data in files])
            yield f"{backend}, encoded", {"least_bytes": round(ratios.min(), 4), "most_bytes": round(ratios.max(), 4)}


def differences(codec: sdtrt.Codec, files: list[bytes], expected: list[Pixels]) -> dict[str, Any]:
    """Return the largest and the mean difference in levels of 255, and the share of samples that are equal."""
    found = [np.asarray(codec.decode(data)) for data in files for _ in range(DECODES_OF_ONE)]
    return levels_apart(found, [pixels for pixels in expected for _ in range(DECODES_OF_ONE)])


def levels_apart(found: list[Pixels], expected: list[Pixels]) -> dict[str, Any]:
    pairs = zip(found, expected, strict=True)
    levels = np.concatenate([np.abs(one.astype(int) - other).ravel() for one, other in pairs])
    return {
        "decodes": len(found),
        "largest_difference": int(levels.max()),
        "mean_difference": round(float(levels.mean()), 5),
        "equal_share": round(float((levels == 0).mean()), 5),
    }


def built_in(backend: str, check: Check) -> Iterator[tuple[str, Any]]:
    yield from latency(check, "tiny", backend)


def architecture(backend: str, check: Check) -> Iterator[tuple[str, Any]]:
    yield from latency(check, check.bundle, backend)


def latency(check: Check, model: str | Path, backend: str) -> Iterator[tuple[str, Any]]:
    require_backend(model, backend)
    yield from calls(check, EngineCodec(model, device="cuda", backend=backend))


def calls(check: Check, pictures: EngineCodec) -> Iterator[tuple[str, Any]]:
    """Yield milliseconds of whole calls, and of networks with kernels and copies: all but the entropy coder.

    There are no layers: what is compared with networks should be networks.
    """
    machine, codec, pipeline = check.machine, sdtrt.Codec(pictures), pictures.pipeline
    each = check.seconds / (4 * len(machine.sides) * len(machine.batches))
    for side in machine.sides:
        all_images = [picture(side, side, n) for n in range(max(machine.batches))]
        all_files = codec.encode_batch(all_images, layers=1)
        for batch in machine.batches:
            images, files, key = all_images[:batch], all_files[:batch], f"{side}x{side}, batch {batch}"
            parsed = [parsed_file(data) for data in files]
            timed: dict[str, Callable[[], Any]] = {
                "encode": lambda some=images: codec.encode_batch(some, layers=1),
                "decode": lambda some=files: codec.decode_batch(some),
                "analyse": lambda some=images: pipeline.analyse(some),
                "synthesise": lambda some=parsed: pipeline.synthesise(some),
            }
            for name, call in timed.items():
                yield f"{name} {key}", percentiles(call, machine.runs, each)


def memory(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield by how many bytes the process has grown between a tenth of the decodes and the last."""
    backend = usable_backend()
    with sdtrt.Codec.open(device="cuda", backend=backend) as codec:
        files = [codec.encode(picture(64 + 8 * n, 64, n)) for n in range(4)]
        early, tenth, done, started = None, 0, 0, time.perf_counter()
        while done < check.decodes and time.perf_counter() - started < check.seconds:
            codec.decode(files[done % len(files)])
            done += 1
            late = done >= check.decodes / 10 or time.perf_counter() - started > check.seconds / 10
            if early is None and late:
                early, tenth = used(check), done
        growth = np.subtract(used(check), early or used(check))
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
    """Return the first backend that runs the built-in model on the GPU; `NotMeasuredError` says why none does."""
    reasons = []
    for backend in BACKENDS:
        try:
            require_backend("tiny", backend)
            return backend
        except NotMeasuredError as reason:
            reasons.append(f"{backend}: {reason}")
    raise NotMeasuredError("; ".join(reasons))


def used(check: Check) -> tuple[int, int]:
    """Return the bytes in use on the host, at the peak, and on the device."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, check.machine.memory_used()


def parsed_file(data: bytes) -> DecodeRequest:
    file = container.read(data)
    return DecodeRequest(LatentReader(file).read(), file.header)


def picture(width: int, height: int, seed: int) -> Pixels:
    return np.roll(made_once(width, height), 37 * seed, axis=1)


made_once = cache(synthetic_image)
