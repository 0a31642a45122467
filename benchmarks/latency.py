"""How long calls take, and how evenly: percentiles of encode and decode, by one thread and by several, and memory.

    python benchmarks/latency.py [--calls 2000] [--plot docs/latency.svg]

The picture is 768x512, at quality 50; arrays go in and come out. `tiny`, by each backend for the CPU that is installed,
and other codecs are called in turn, 25 calls each at a time, so that all meet the same hours of the machine. One
thread makes `--calls` calls of each after a warm-up, 2, 4 and 8 threads an eighth of that together; other codecs are
called by one thread, an eighth as often. Memory is that of a process of its own for each backend, which decodes 10,000
files of 64x64. NumPy's products run in one thread, as in the command `sdtrt`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from report import write_results
from rivals import ALL_RIVALS, decoded
from skimage.data import astronaut

import sdtrt
from sdtrt.engine.networks.backends.openvino import best_precision
from sdtrt.process.threads import limit_blas_to_one_thread

SIZE, QUALITY = (768, 512), 50
CALLS, TURN, WARM_UP = 2000, 25, 5
THREADS = (1, 2, 4, 8)
PERCENTILES = (50, 95, 99, 99.9)
BACKENDS = {"ort": "onnxruntime", "openvino": "openvino"}
MEMORY = """
import json, os, sys
import numpy as np
import sdtrt
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
with sdtrt.Codec.open(device="cpu", backend=sys.argv[1]) as codec:
    data = codec.encode(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), quality=20)
    for n in range(10_000):
        codec.decode(data)
        if n == 99:
            early = resident()
print(json.dumps({"early_nbytes": early, "growth_nbytes": resident() - early}))
"""

Call = Callable[[], Any]
Times = dict[tuple[str, str, int], list[float]]  # of codec, verb and count of threads: seconds of each call


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure percentiles of calls.")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--plot", type=Path, help="write a histogram of one thread's decodes as a picture, too")
    arguments = parser.parse_args()
    limit_blas_to_one_thread()
    photo = np.asarray(Image.fromarray(astronaut()).resize(SIZE, Image.Resampling.LANCZOS))
    backends = [name for name, module in BACKENDS.items() if find_spec(module)]
    calls = {f"sdtrt, {name} in {precision_of(name)}": sdtrt_calls(name, photo) for name in backends}
    times, seconds = measured(calls, rival_calls(photo), arguments.calls)
    figures = {
        "calls": [
            {"codec": codec, "verb": verb, "threads": threads, "calls": len(found)}
            | {f"p{p}_ms": round(1000 * float(np.percentile(found, p)), 2) for p in PERCENTILES}
            | {"calls_per_second": round(len(found) / seconds[codec, verb, threads], 2)}
            for (codec, verb, threads), found in times.items()
        ],
        "memory": {name: json.loads(python("-c", MEMORY, name)) for name in backends},
    }
    if arguments.plot:
        plot(
            {codec: found for (codec, verb, threads), found in times.items() if (verb, threads) == ("decode", 1)},
            arguments.plot,
        )
    print(json.dumps(figures, indent=1))
    print(write_results("latency", figures))


def precision_of(backend: str) -> str:
    return best_precision() if backend == "openvino" else "fp32"


def sdtrt_calls(backend: str, photo: NDArray[np.uint8]) -> dict[str, Call]:
    codec = sdtrt.Codec.open(device="cpu", backend=backend)
    data = codec.encode(photo, quality=QUALITY)
    return {
        "encode": lambda: codec.encode(photo, quality=QUALITY),
        "decode": lambda: np.asarray(codec.decode(data)),
    }


def rival_calls(photo: NDArray[np.uint8]) -> dict[str, dict[str, Call]]:
    found: dict[str, dict[str, Call]] = {}
    for name, encode in ALL_RIVALS.items():
        data = encode(Image.fromarray(photo), QUALITY)
        found[name] = {
            "encode": lambda encode=encode: encode(Image.fromarray(photo), QUALITY),
            "decode": lambda data=data: decoded(data),
        }
    return found


def measured(
    own: dict[str, dict[str, Call]], rivals: dict[str, dict[str, Call]], calls: int
) -> tuple[Times, dict[tuple[str, str, int], float]]:
    """Return the seconds of each call, and of all calls of a kind together."""
    kinds = [
        (codec, verb, threads, call, calls if threads == 1 and codec in own else calls // 8)
        for threads in THREADS
        for codec, verbs in (own | rivals if threads == 1 else own).items()
        for verb, call in verbs.items()
    ]
    times: Times = {(codec, verb, threads): [] for codec, verb, threads, _, _ in kinds}
    seconds = dict.fromkeys(times, 0.0)
    for _, _, threads, call, _ in kinds:
        for _ in range(WARM_UP if threads == 1 else 0):
            call()
    while kinds:
        for codec, verb, threads, call, _ in kinds:
            started = time.perf_counter()
            times[codec, verb, threads] += in_threads(call, threads)
            seconds[codec, verb, threads] += time.perf_counter() - started
        kinds = [kind for kind in kinds if len(times[kind[:3]]) < kind[4]]
    return times, seconds


def in_threads(call: Call, threads: int) -> list[float]:
    """Return the seconds of each of `TURN` calls, or as many as are the same for all threads."""

    def timed(_: int) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    if threads == 1:
        return [timed(n) for n in range(TURN)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(timed, range(TURN // threads * threads)))


def python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def plot(times: dict[str, list[float]], path: Path) -> None:
    """Draw how many decodes took how long, on a logarithmic scale of milliseconds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    edges = np.geomspace(1, 2000, 120)
    for codec, found in times.items():
        axes.hist(1000 * np.array(found), edges, label=codec, histtype="step")
    axes.set(xscale="log", xlabel="ms", ylabel="calls", title="768x512, decoding, one thread")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
