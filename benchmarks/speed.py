"""Time and memory on this machine's CPU, with the model `tiny` and a 768x512 photo at quality 50.

    python benchmarks/speed.py
    python benchmarks/speed.py --percentiles [--calls 2000] [--plot docs/latency.svg]
    python benchmarks/speed.py --backends [--runs 7]
    python benchmarks/speed.py --against CHECKOUT [--runs 25]

Without an option: medians of encoding and decoding beside JPEG and WebP, the entropy stage, start-up, peak memory.
`--percentiles`: percentiles of encode and decode, by one thread and by several, beside other codecs.
`--backends`: the backends side by side, as a command, as an open codec, and as a service.
`--against`: this checkout and another one, in which `make importroot` was run, side by side.

Calls that are compared take turns, so that slow phases of the machine affect all of them. A median follows a warm-up.
NumPy's products run in one thread, as in the command `sdtrt`. GPUs are measured by `gpu_check.py`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from baselines import ALL_CODECS, PILLOW_CODECS, decode_rgb
from harness import (
    PHOTO_SIZE,
    ROOT,
    interleaved_medians,
    interleaved_ms,
    median_ms,
    median_of,
    milliseconds,
    new_plot,
    peak_nbytes,
    run_python,
    sample_photo,
    save_plot,
    write_results,
)
from PIL import Image

import sdtrt
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT
from sdtrt.engine.coding.latent_file import decode_symbols
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.format import container
from sdtrt.engine.format.latent_space import PRIOR_NAMES
from sdtrt.engine.networks.backends.openvino import best_precision, version
from sdtrt.process.threads import limit_blas_to_one_thread

QUALITY = 50
ENTROPY_RUNS = 31  # more than elsewhere, since these calls are short
START_UP = "import time; t = time.perf_counter(); import sdtrt; print(time.perf_counter() - t)"
CODEC_PROCESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import sdtrt
path, backend, precision, threads = sys.argv[1:]
with sdtrt.Codec.open(device="cpu", backend=backend, precision=precision) as codec:
    data = codec.encode(path)
    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(codec.decode, [data] * int(threads)))
"""

Backend = tuple[str, str]  # backend, precision
Call = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure time and memory on a CPU.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--percentiles", action="store_true", help="percentiles of calls, by one thread and by several")
    mode.add_argument("--backends", action="store_true", help="the backends side by side")
    mode.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout of sdtrt")
    parser.add_argument("--runs", type=int, help="runs of each median (default 5, --backends 7, --against 25)")
    parser.add_argument("--calls", type=int, default=2000, help="with --percentiles: calls of each kind (default 2000)")
    parser.add_argument("--plot", type=Path, help="with --percentiles: write a histogram of decodes by one thread")
    arguments = parser.parse_args()
    limit_blas_to_one_thread()
    if arguments.percentiles:
        name, figures = "latency", call_percentiles(arguments.calls, arguments.plot)
    elif arguments.backends:
        name, figures = "backends", compare_backends(arguments.runs or 7)
    elif arguments.against:
        name, figures = "paired", compare_checkouts(arguments.against, arguments.runs or 25)
    else:
        name, figures = "speed", medians(arguments.runs or 5)
    print(json.dumps(figures, indent=1))
    print(write_results(name, figures))


# Medians


def medians(runs: int) -> dict[str, Any]:
    photo = Image.fromarray(sample_photo())
    return {
        "size": PHOTO_SIZE,
        "codecs": codec_seconds(photo, runs),
        "peak_memory_nbytes": memory_of_codec(photo, ("ort", "auto"), threads=1),
        "entropy_ms": entropy_ms(photo),
        "import_seconds": round(median_of(lambda: float(run_python("-c", START_UP)), runs), 5),
        "info_command_seconds": info_command_seconds(photo, runs),
    }


def codec_seconds(photo: Image.Image, runs: int) -> dict[str, dict[str, float]]:
    """Return the seconds to encode and to decode, by codec."""
    calls = {"sdtrt": sdtrt_calls("ort", photo)}
    if find_spec("openvino") and best_precision() == "bf16":
        calls["sdtrt, OpenVINO in bfloat16"] = sdtrt_calls("openvino", photo)
    calls |= {name: baseline_calls(name, photo) for name in PILLOW_CODECS}
    return {
        codec: {verb: round(median_ms(call, runs) / 1000, 5) for verb, call in verbs.items()}
        for codec, verbs in calls.items()
    }


def entropy_ms(photo: Image.Image) -> dict[str, dict[str, float]]:
    """Return the milliseconds of the entropy stage: latents of `tiny`, and 4x64x64 latents with two priors.

    `encode` includes RDOQ, at the default effort; `encode_effort_1` is plain rounding.
    """
    file = container.read(sdtrt.encode(photo))
    symbols = decode_symbols(file)
    smooth = np.cumsum(np.random.default_rng(1).normal(size=(4, 64, 64)), axis=2).astype(np.float32) / 2
    rounded = np.rint(smooth).astype(np.int16)
    tiny_prior = shipped_prior(PRIOR_NAMES[file.header.prior])
    cases = {
        f"tiny {symbols.shape}": (symbols.astype(np.float32), tiny_prior, file.header.step_code),
        f"sd1 {smooth.shape}": (smooth, shipped_prior("sd1-1"), 2048),
        f"adaptive {smooth.shape}": (smooth, fit_adaptive(rounded), 2048),
    }
    figures = {name: stream_ms(*case) for name, case in cases.items()}
    figures[f"adaptive {smooth.shape}"]["fit"] = round(median_ms(lambda: fit_adaptive(rounded)), 2)
    return figures


def stream_ms(latents: np.ndarray, prior: Any, step_code: int) -> dict[str, float]:
    """Return the milliseconds to code one stream of scaled latents, and to decode it."""

    def encode(effort: int) -> bytes:
        return stream_codec.quantize_and_encode(latents, prior, step_code, effort).data

    payload = encode(DEFAULT_EFFORT)
    calls: dict[str, Call] = {
        "encode_effort_1": lambda: encode(1),
        "encode": lambda: encode(DEFAULT_EFFORT),
        "decode": lambda: stream_codec.decode_stream(payload, latents.shape, prior, step_code),
    }
    return {name: round(median_ms(call, ENTROPY_RUNS), 2) for name, call in calls.items()}


def info_command_seconds(photo: Image.Image, runs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.sdt"
        path.write_bytes(sdtrt.encode(photo))
        return round(median_ms(lambda: run_python("-m", "sdtrt", "info", path), runs) / 1000, 5)


def memory_of_codec(photo: Image.Image, backend: Backend, threads: int) -> int:
    """Return the peak memory, in bytes, of a process that encodes the photo and decodes it in `threads` threads."""
    with tempfile.TemporaryDirectory() as folder:
        photo.save(f"{folder}/photo.png")
        return peak_nbytes("-c", CODEC_PROCESS, f"{folder}/photo.png", *backend, str(threads))


def sdtrt_calls(backend: str, photo: Any) -> dict[str, Call]:
    codec = sdtrt.Codec.open(device="cpu", backend=backend)
    data = codec.encode(photo, quality=QUALITY)
    return {
        "encode": lambda: codec.encode(photo, quality=QUALITY),
        "decode": lambda: np.asarray(codec.decode(data)),
    }


def baseline_calls(name: str, photo: Image.Image) -> dict[str, Call]:
    encode = ALL_CODECS[name]
    data = encode(photo, QUALITY)
    return {"encode": lambda: encode(photo, QUALITY), "decode": lambda: decode_rgb(data)}


# Percentiles

PERCENTILES = (50, 95, 99, 99.9)
THREADS = (1, 2, 4, 8)
PER_TURN, WARM_UP = 25, 5  # calls
OTHER_SHARE = 8  # calls by several threads, and calls of other codecs, are an eighth as many
MODULES = {"ort": "onnxruntime", "openvino": "openvino"}
MEMORY_GROWTH = """
import json, os, sys
import numpy as np
import sdtrt
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
with sdtrt.Codec.open(device="cpu", backend=sys.argv[1]) as codec:
    data = codec.encode(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), quality=20)
    for n in range(int(sys.argv[2])):
        codec.decode(data)
        if n == 99:
            early = resident()
print(json.dumps({"early_nbytes": early, "growth_nbytes": resident() - early}))
"""

Kind = tuple[str, str, int]  # codec, verb, number of threads


def call_percentiles(calls: int, plot: Path | None) -> dict[str, Any]:
    """Return percentiles of each kind of call, and the growth of memory over five times as many small decodes."""
    photo = sample_photo()
    backends = [name for name, module in MODULES.items() if find_spec(module)]
    own = {f"sdtrt, {name} in {precision_of(name)}": sdtrt_calls(name, photo) for name in backends}
    others = {name: baseline_calls(name, Image.fromarray(photo)) for name in ALL_CODECS}
    times, seconds = time_calls(own, others, calls)
    if plot:
        decodes = {codec: ms for (codec, verb, threads), ms in times.items() if (verb, threads) == ("decode", 1)}
        plot_histogram(decodes, plot)
    return {
        "calls": [
            {"codec": codec, "verb": verb, "threads": threads, "calls": len(ms)}
            | {f"p{p}_ms": round(float(np.percentile(ms, p)), 2) for p in PERCENTILES}
            | {"calls_per_second": round(len(ms) / seconds[codec, verb, threads], 2)}
            for (codec, verb, threads), ms in times.items()
        ],
        "memory": {
            name: json.loads(run_python("-c", MEMORY_GROWTH, name, str(max(5 * calls, 200)))) for name in backends
        },
    }


def precision_of(backend: str) -> str:
    return best_precision() if backend == "openvino" else "fp32"


def time_calls(
    own: dict[str, dict[str, Call]], others: dict[str, dict[str, Call]], calls: int
) -> tuple[dict[Kind, list[float]], dict[Kind, float]]:
    """Return the milliseconds of each call, and the seconds of all calls of a kind together."""
    kinds = {
        (codec, verb, threads): (call, calls if threads == 1 and codec in own else calls // OTHER_SHARE)
        for threads in THREADS
        for codec, verbs in (own | others if threads == 1 else own).items()
        for verb, call in verbs.items()
    }
    times: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    seconds = dict.fromkeys(kinds, 0.0)
    for (_, _, threads), (call, _) in kinds.items():
        for _ in range(WARM_UP if threads == 1 else 0):
            call()
    while kinds:
        for kind, (call, _) in kinds.items():
            started = time.perf_counter()
            times[kind] += call_in_threads(call, kind[2])
            seconds[kind] += time.perf_counter() - started
        kinds = {kind: (call, count) for kind, (call, count) in kinds.items() if len(times[kind]) < count}
    return times, seconds


def call_in_threads(call: Call, threads: int) -> list[float]:
    """Return the milliseconds of `PER_TURN` calls, rounded down to a multiple of the number of threads."""
    if threads == 1:
        return [milliseconds(call) for _ in range(PER_TURN)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(milliseconds, [call] * (PER_TURN // threads * threads)))


def plot_histogram(times: dict[str, list[float]], path: Path) -> None:
    """Draw the distribution of decoding times, over a logarithmic axis of milliseconds."""
    figure, axes = new_plot(8, 4)
    edges = np.geomspace(1, 2000, 120)
    for codec, ms in times.items():
        axes.hist(ms, edges, label=codec, histtype="step")
    axes.set(xscale="log", xlabel="ms", ylabel="calls", title="768x512, decoding, one thread")
    axes.legend()
    save_plot(figure, path)


# Backends

SERVICE_THREADS, SERVICE_IMAGES = 4, 4
PILLOW_FORMATS = ("JPEG", "WebP", "AVIF")
PILLOW_COMMAND = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2])"


def compare_backends(runs: int) -> dict[str, Any]:
    """Return the figures of each backend and precision that run here.

    A service is four threads that decode with one codec. `varied_ms` is the mean over six images, each of a new size.
    Pillow commands, which open a file of another codec and save its pixels, stand beside `sdtrt decode`.
    """
    backends = [("ort", "fp32"), ("openvino", "fp32"), *([("openvino", "bf16")] if best_precision() == "bf16" else [])]
    photo = Image.fromarray(sample_photo())
    figures: list[dict[str, Any]] = [{"backend": backend, "precision": precision} for backend, precision in backends]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # an empty cache of compiled networks
        for row, backend in zip(figures, backends, strict=True):
            row["peak_nbytes"] = memory_of_codec(photo, backend, threads=1)
            row["service_peak_nbytes"] = memory_of_codec(photo, backend, threads=SERVICE_THREADS)
        for measured in (command_ms(Path(folder), photo, backends, runs), open_codec_ms(photo, backends, runs)):
            for name, values in measured.items():
                for row, value in zip(figures, values, strict=True):
                    row[name] = round(value, 4)
        pillow_ms = pillow_command_ms(Path(folder), photo, runs)
    return {"size": PHOTO_SIZE, "openvino": version(), "choices": figures, "pillow_ms": pillow_ms}


def command_ms(folder: Path, photo: Image.Image, backends: list[Backend], runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of the command `sdtrt decode`, with an empty cache of compiled networks and later."""
    (folder / "photo.sdt").write_bytes(sdtrt.encode(photo))
    shutil.rmtree(folder / "sdtrt", ignore_errors=True)  # the cache

    def decode(backend: Backend) -> str:
        options = ["-f", "--quiet", "--backend", backend[0], "--precision", backend[1]]
        return run_python("-m", "sdtrt", "decode", folder / "photo.sdt", "-o", folder / "decoded.ppm", *options)

    calls = [lambda backend=backend: decode(backend) for backend in backends]
    return {
        "first_command_ms": [milliseconds(call) for call in calls],
        "command_ms": [round(ms, 1) for ms in interleaved_ms(calls, runs)],
    }


def open_codec_ms(photo: Image.Image, backends: list[Backend], runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of calls of an open codec, and the difference of its pixels from the first backend's."""
    codecs = [sdtrt.Codec.open(backend=backend, precision=precision) for backend, precision in backends]
    data = codecs[0].encode(photo)
    sides = np.random.default_rng(1).integers(320, 720, (6, 2))
    files = [codecs[0].encode(photo.resize((int(width), int(height)))) for width, height in sides]
    pixels = [np.asarray(codec.decode(data), np.float32) for codec in codecs]

    def medians_of(call: Callable[[sdtrt.Codec], Any], runs: int) -> list[float]:
        return [round(ms, 1) for ms in interleaved_ms([lambda c=codec: call(c) for codec in codecs], runs)]

    def serve(codec: sdtrt.Codec) -> None:
        with ThreadPoolExecutor(SERVICE_THREADS) as pool:
            list(pool.map(codec.decode, [data] * SERVICE_IMAGES))

    return {
        "encode_ms": medians_of(lambda codec: codec.encode(photo), runs),
        "decode_ms": medians_of(lambda codec: codec.decode(data), runs),
        "service_ms": [ms / SERVICE_IMAGES for ms in medians_of(serve, 1)],
        "varied_ms": [milliseconds(lambda c=c: [c.decode(file) for file in files]) / len(files) for c in codecs],
        "mean_difference": [float(np.abs(other - pixels[0]).mean()) for other in pixels],
        "largest_difference": [float(np.abs(other - pixels[0]).max()) for other in pixels],
    }


def pillow_command_ms(folder: Path, photo: Image.Image, runs: int) -> dict[str, float]:
    """Return the milliseconds of a Python process that opens a file with Pillow and saves its pixels, by format."""
    for name in PILLOW_FORMATS:
        (folder / f"photo.{name}").write_bytes(ALL_CODECS[name](photo, QUALITY))
    command = ("-c", PILLOW_COMMAND)
    calls = [lambda n=name: run_python(*command, folder / f"photo.{n}", folder / "b.ppm") for name in PILLOW_FORMATS]
    return {name: round(ms, 1) for name, ms in zip(PILLOW_FORMATS, interleaved_ms(calls, runs), strict=True)}


# Another checkout

WORKER = """
import inspect, sys, time
import numpy as np
from PIL import Image
from skimage.data import astronaut
import sdtrt
photo = np.asarray(Image.fromarray(astronaut()).resize((768, 512), Image.Resampling.LANCZOS))
codec = sdtrt.Codec.open(device="cpu", backend=sys.argv[1])
renamed = "max_bytes" in inspect.signature(codec.encode).parameters
size, psnr = ("max_bytes", "target_psnr") if renamed else ("nbytes", "psnr")
data = codec.encode(photo, quality=50)
small = codec.encode(photo, quality=20)
latents = codec.decode_latents(data)
calls = {
    "encode": lambda: codec.encode(photo, quality=50),
    "decode": lambda: np.asarray(codec.decode(data)),
    "encode to 9,000 bytes": lambda: codec.encode(photo, **{size: 9000}),
    "encode to 33 dB": lambda: codec.encode(photo, **{psnr: 33}),
    "quality 20 to latents": lambda: codec.decode_latents(small),
    "latents to file": lambda: codec.encode_latents(latents, quality=50),
    "file to latents": lambda: codec.decode_latents(data),
    "8 calls": lambda: [np.asarray(codec.decode(data)) for _ in range(8)],
    "batch of 8": lambda: [np.asarray(image) for image in codec.decode_batch([data] * 8)],
}
for line in sys.stdin:
    call = calls[line.strip()]
    started = time.perf_counter()
    call()
    print(1000 * (time.perf_counter() - started), flush=True)
"""
IMAGE_CALLS = ("encode", "decode", "encode to 9,000 bytes", "encode to 33 dB", "8 calls", "batch of 8")
ENTROPY_CALLS = ("latents to file", "file to latents", "quality 20 to latents")
WORKER_TURN = 5  # calls


class Worker:
    """A process that runs the sdtrt of one checkout and keeps a codec open."""

    def __init__(self, root: Path, backend: str, *, one_thread: bool) -> None:
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if one_thread else {}
        importroot = root / "build" / "importroot"
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | {"PYTHONPATH": os.pathsep.join([str(importroot), *python_path()])},
            cwd=importroot,
        )

    def ms(self, call: str) -> float:
        """Run one of the calls and return its milliseconds."""
        assert self._process.stdin
        assert self._process.stdout
        print(call, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def python_path() -> list[str]:
    return os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []


def compare_checkouts(checkout: Path, runs: int) -> dict[str, Any]:
    """Return the milliseconds of each call in both checkouts; in this one, with each backend.

    Matrix products use one thread in this checkout, as in its command, and NumPy's default in the other. For the calls
    of the entropy stage both use one thread.
    """
    checkouts = {"before, ort": (checkout.resolve(), "ort"), "ort": (ROOT, "ort")}
    if find_spec("openvino"):
        checkouts["openvino"] = (ROOT, "openvino")
    figures: dict[str, dict[str, float]] = {name: {} for name in checkouts}
    for one_thread, calls in ((False, IMAGE_CALLS), (True, ENTROPY_CALLS)):
        workers = [Worker(root, backend, one_thread=one_thread or root == ROOT) for root, backend in checkouts.values()]
        for call in calls:
            measures = [lambda worker=worker, call=call: worker.ms(call) for worker in workers]
            for name, ms in zip(checkouts, interleaved_medians(measures, runs, WORKER_TURN), strict=True):
                figures[name][call] = round(ms, 1)
        for worker in workers:
            worker.close()
    return {"before": last_commit(checkout), "median_ms": figures}


def last_commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%h %s"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
