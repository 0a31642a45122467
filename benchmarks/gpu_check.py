"""Everything that only a GPU can tell: kernels' bits and bandwidth, latency beside PyTorch, memory. Needs a GPU.

    make gpu-check [BUNDLE=folder of an sd1 bundle] [DECODES=10000]

What it needs beside sdtrt: `pip install 'sdtrt[gpu]'` or a TensorRT extra; `pytest`, `hypothesis` for the tests; for
the comparison `torch` with CUDA and `diffusers`. What is missing is named in the results, nothing is left out in
silence.

Figures of latency are wall-clock milliseconds of whole calls, host to host, after warm-up: the median, 95th and 99th
percentile of 200. The true SD 1.x architecture with random weights serves for speed: make such a bundle with
`sdtrt export` of a checkpoint, or leave BUNDLE out to measure the built-in model alone.
"""

import argparse
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from report import write_results

import sdtrt
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.format import container
from sdtrt.engine.networks.backends.gpu import description
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.pipeline import open_pipeline
from sdtrt.engine.networks.tiled import Tiled
from sdtrt.errors import SdtrtError
from sdtrt.export.latents.picture import made_picture
from sdtrt.kernels import launches
from sdtrt.kernels.device import CudaDevice, DeviceArray

ROOT = Path(__file__).parent.parent
RUNS, WARM_UP = 200, 10
SIZES, BATCHES = (512, 1024), (1, 8)
LARGE = (64, 4, 512, 512)  # elements of a launch whose bandwidth is measured: far beyond what caches hold
Figures = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description="What only a GPU can tell.")
    parser.add_argument("--bundle", default="tiny", help="name or folder of the bundle to time")
    parser.add_argument("--decodes", type=int, default=10_000, help="of the memory check")
    arguments = parser.parse_args()
    figures: Figures = {"gpu": description(), "tests": tests(), "bandwidth": bandwidth()}
    figures["codec"] = {backend: attempted(codec_figures, arguments.bundle, backend) for backend in ("trt", "ort")}
    figures["torch"] = attempted(torch_figures)
    figures["memory"] = attempted(memory_growth, arguments.decodes)
    path = write_results("gpu_check", figures)
    print(path.read_text())
    return 1 if figures["tests"]["failed"] else 0


def attempted(measure: Callable[..., Figures], *arguments: Any) -> Figures:
    """Return figures, or what stood in the way of measuring them."""
    try:
        return measure(*arguments)
    except (SdtrtError, ImportError) as error:
        return {"not measured": str(error)}


def tests() -> Figures:
    """Run the tests that are marked `gpu`: kernels against references, backends against the CPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs", str(ROOT / "tests" / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="\n")
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0) + (done.returncode != 0 and "failed" not in counts)
    return {"passed": counts.get("passed", 0), "failed": failed, "skipped": counts.get("skipped", 0)}


def bandwidth() -> Figures:
    """Return what kernels reach on large batches, in GB/s of what they must read and write, beside a plain copy."""
    device = CudaDevice()
    copy = copy_bandwidth(device)
    found: Figures = {"copy": round(copy)}
    for name, launch, nbytes, _kept in large_launches(device):
        rate = nbytes / seconds_on_device(device, lambda launch=launch: device.launch(launch, device.stream)) / 1e9
        found[name] = {"gb_per_second": round(rate), "of_copy": round(rate / copy, 3)}
    return found


def copy_bandwidth(device: CudaDevice) -> float:
    """Return GB/s, counting what is read and what is written."""
    nbytes = int(np.prod(LARGE)) * 4
    source, target = device.empty((nbytes,), np.uint8), device.empty((nbytes,), np.uint8)
    return 2 * nbytes / seconds_on_device(device, lambda: device.copy(target, source, device.stream)) / 1e9


def large_launches(device: CudaDevice) -> list[tuple[str, launches.Launch, int, list[DeviceArray]]]:
    """Return name, launch, bytes read and written, and the arrays to keep, of each kernel on FP16."""
    count, channels = int(np.prod(LARGE)), LARGE[1]
    half, symbols = device.empty(LARGE, np.float16), device.empty(LARGE, np.int16)
    points, flags = device.empty(LARGE, np.int8), device.empty((1,), np.uint32)
    vectors = [filled(device, (channels,), np.float32, 1) for _ in range(3)]
    mean, delta, offset = (vector.pointer for vector in vectors)
    pictures = launches.Pictures(64, 1024, 1024, 3, 3 * 1024, 3 * 1024 * 1024, 8)
    rgb = device.empty((pictures.images * pictures.image_stride,), np.uint8)
    planes = device.empty((64, 3, 1024, 1024), np.float16)
    kept = [half, symbols, points, flags, rgb, planes, *vectors]
    shape: Figures = {"shape": LARGE, "dtype": np.float16}
    levels: Figures = {"pictures": pictures, "dtype": np.float16, "low": -1.0, "high": 1.0}
    work = {
        "quantize": (
            launches.quantize(half.pointer, symbols.pointer, mean, delta, flags.pointer, dead_zone=0, **shape),
            4,
        ),
        "dequantize, offsets": (
            launches.dequantize(symbols.pointer, half.pointer, mean, delta, offset=offset, **shape),
            4,
        ),
        "dequantize, points": (
            launches.dequantize(symbols.pointer, half.pointer, mean, delta, points=points.pointer, **shape),
            5,
        ),
        "step": (launches.step(half.pointer, symbols.pointer, half.pointer, mean, delta, **shape), 6),
    }
    found = [(name, launch, count * nbytes, kept) for name, (launch, nbytes) in work.items()]
    moved = rgb.nbytes + planes.nbytes
    found.append(("pixels to planes", launches.pixels_to_planes(rgb.pointer, planes.pointer, **levels), moved, kept))
    back = launches.planes_to_pixels(planes.pointer, rgb.pointer, flags.pointer, **levels)
    found.append(("planes to pixels", back, moved, kept))
    return found + residual_launches(device, rgb, replace(pictures, images=16))


def residual_launches(
    device: CudaDevice, rgb: DeviceArray, pictures: launches.Pictures
) -> list[tuple[str, launches.Launch, int, list[DeviceArray]]]:
    """Return what `large_launches` does, of a residual of zeros and of an overlay that is opaque everywhere."""
    sizes = pictures.images, pictures.height, pictures.width
    count = math.prod(sizes)
    values = filled(device, (sizes[0], 3, sizes[1] // 8, sizes[2] // 8, 8, 8), np.int32, 0)
    overlay = filled(device, (*sizes, 4), np.uint8, 255)
    add = launches.add_residual(values.pointer, rgb.pointer, pictures=pictures)
    put = launches.put_overlay(overlay.pointer, rgb.pointer, pictures=pictures)
    return [
        ("add residual", add, count * (12 + 6), [values, rgb]),
        ("put overlay", put, count * (4 + 6), [overlay, rgb]),
    ]


def filled(device: CudaDevice, shape: tuple[int, ...], dtype: DTypeLike, value: int) -> DeviceArray:
    staging = device.staging(shape, dtype)
    staging[...] = value
    array = device.empty(shape, dtype)
    device.upload(array, staging, device.stream)
    device.mark(device.stream).sync()
    return array


def seconds_on_device(device: CudaDevice, queue: Callable[[], None]) -> float:
    """Return the median seconds of what is queued, by the device's clock: 20 in a row, 9 times."""

    def twenty() -> None:
        for _ in range(20):
            queue()

    return float(np.median([device.seconds(twenty) / 20 for _ in range(10)][1:]))


def codec_figures(model: str, backend: str) -> Figures:
    """Return milliseconds of encoding and decoding, whole, and of what of decoding comes after the entropy coder."""
    found: Figures = {}
    with sdtrt.Codec.open(model, device="cuda", backend=backend) as codec:
        for side in SIZES:
            images = [picture(side, n) for n in range(max(BATCHES))]
            files = codec.encode_batch(images)
            for batch in BATCHES:
                key = f"{side}x{side}, batch {batch}"
                found[f"encode {key}"] = percentiles(lambda some=images[:batch]: codec.encode_batch(some))
                found[f"decode {key}"] = percentiles(lambda some=files[:batch]: codec.decode_batch(some))
    bundle = find_bundle(model)
    pipeline = open_pipeline(Tiled.of(bundle), backend, "cuda")
    for side in SIZES:
        file = container.read(sdtrt.encode(picture(side, 0), model=model))
        parsed = [Parsed(StoredLatents(file).part(), file.header)]
        found[f"synthesise {side}x{side}"] = percentiles(lambda p=parsed: pipeline.synthesise(p))
    return found


def torch_figures() -> Figures:
    """Return milliseconds of diffusers' SD 1.x VAE, random weights, FP16, channels last: eager and compiled."""
    import torch
    from diffusers import AutoencoderKL

    widths = (128, 256, 512, 512)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, sample_size=512, **blocks)
    vae = vae.half().cuda().eval().to(memory_format=torch.channels_last)
    ways = {"eager": vae.decode, "compiled": torch.compile(vae.decode)}
    found: Figures = {"torch": torch.__version__}
    for name, decode in ways.items():
        for side in SIZES:
            for batch in BATCHES:
                latents = torch.randn(batch, 4, side // 8, side // 8, dtype=torch.half, device="cuda")

                def call(decode: Any = decode, latents: Any = latents) -> None:
                    with torch.inference_mode():
                        decode(latents)
                    torch.cuda.synchronize()

                found[f"{name} decode {side}x{side}, batch {batch}"] = percentiles(call)
    return found


def memory_growth(decodes: int) -> Figures:
    """Return by how many bytes of host and device memory a process has grown between an early and a late decode."""
    import resource

    def used() -> tuple[int, int]:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, device_memory_used()

    with sdtrt.Codec.open(device="cuda") as codec:
        files = [codec.encode(picture(64 + 8 * n, n)) for n in range(4)]
        for n in range(decodes):
            codec.decode(files[n % 4])
            if n == decodes // 10:
                early = used()
    growth = np.subtract(used(), early)
    return {"decodes": decodes, "host_nbytes": int(growth[0]), "device_nbytes": int(growth[1])}


def device_memory_used() -> int:
    from cuda.bindings import runtime

    _, free, total = runtime.cudaMemGetInfo()
    return int(total - free)


def percentiles(call: Callable[[], Any]) -> Figures:
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return {f"p{p}": round(float(np.percentile(times, p)), 3) for p in (50, 95, 99)}


def picture(side: int, seed: int) -> NDArray[np.uint8]:
    return np.roll(made_picture(side, side), 37 * seed, axis=1)


if __name__ == "__main__":
    try:
        description()
    except SdtrtError as error:
        sys.exit(f"gpu_check: {error}")
    sys.exit(main())
