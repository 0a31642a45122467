"""Milliseconds to decode a photo in headless Chromium and in Python, with the same number of threads, in each look.

    make web && python benchmarks/browser.py [--chromium PROGRAM]

The photo has 768x512 pixels, at quality 50. ONNX Runtime runs the networks of both. Chromium and Python take turns for
`ROUNDS` rounds of `RUNS` decodes each, after a warm-up in each process and round; figures are medians of all decodes.
In Chromium the decoder runs in a worker of the page that `sdtrt view` serves. `entropy` is the time from bytes to
symbols, `network` from latents to pixel values, `rest` the remainder. Loading and display are not measured.
"""

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import PHOTO_SIZE, ROOT, run_python, sample_photo, write_results
from pages.chromium import PROGRAMS, Chromium

import sdtrt
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.networks.backends.ort import OrtNetwork
from sdtrt.viewer import SITE, ViewerServer

QUALITY = 50
THREADS = (1, 2)
LOOKS = ("faithful", "fast")
ROUNDS, RUNS = 3, 5
WEB = ROOT / "web"
REQUEST = """
new Promise((resolve, reject) => {{
  globalThis.bench ??= new Worker("/bench/worker.js", {{ type: "module" }});
  bench.onmessage = ({{ data }}) => resolve(data);
  bench.onerror = ({{ message }}) => reject(new Error(`the worker failed: ${{message}}`));
  bench.postMessage({request});
}})
"""

Times = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure decoding in a browser and in Python.")
    parser.add_argument("--chromium", metavar="PROGRAM", help="a Chromium by its name or path")
    parser.add_argument("--in-python", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--look", default="faithful", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_python:
        print(json.dumps(times_in_process(options.in_python.read_bytes(), options.threads, options.look)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.sdt"
        path.write_bytes(sdtrt.encode(sample_photo(), quality=QUALITY))
        with serve_viewer(path, Path(folder)) as server:
            figures = measure(chromium_path(options.chromium), server, path)
    print(json.dumps(figures, indent=1))
    print(write_results("browser", {"size": PHOTO_SIZE, "quality": QUALITY, **figures}))


def chromium_path(name: str | None = None) -> str:
    """Return the path of Chromium, or of the browser `name`; `FileNotFoundError` if it is not installed."""
    names = (name,) if name else PROGRAMS
    path = next((path for path in map(shutil.which, names) if path), None)
    if path is None:
        raise FileNotFoundError(f"no {', '.join(names)}; name a Chromium by --chromium")
    return path


@contextmanager
def serve_viewer(path: Path, folder: Path) -> Iterator[ViewerServer]:
    """Serve the built site with a file and the worker, which imports ONNX Runtime under the name of the site."""
    worker = folder / "worker.js"
    source = (WEB / "bench" / "worker.js").read_text()
    worker.write_text(source.replace('"onnxruntime-web"', '"../lib/ort.wasm.bundle.min.mjs"'))
    with ViewerServer(SITE, []) as server:
        server.paths |= {"/bench/worker.js": worker, "/photo.sdt": path}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def measure(program: str, server: ViewerServer, path: Path) -> dict[str, Any]:
    """Return versions and, for each number of threads and each look, a row of medians in Chromium and in Python."""
    cases = list(itertools.product(THREADS, LOOKS))
    times: dict[tuple[int, str, str], list[Times]] = {
        (*case, where): [] for case in cases for where in ("chromium", "python")
    }
    for _ in range(ROUNDS):
        for threads, look in cases:
            with Chromium([program]) as chromium:
                chromium.go(server.address)
                browser = chromium.call("Browser.getVersion")["product"]
                times[threads, look, "chromium"] += times_of_page(chromium, threads, look)
            times[threads, look, "python"] += times_of_process(path, threads, look)
    rows = []
    for threads, look in cases:
        chromium_ms, python_ms = (medians(times[threads, look, where]) for where in ("chromium", "python"))
        ratio = round(chromium_ms["whole"] / python_ms["whole"], 2)
        rows.append({"threads": threads, "look": look, "chromium": chromium_ms, "python": python_ms, "ratio": ratio})
    libraries = json.loads((WEB / "package.json").read_text())["dependencies"]
    return {"browser": browser, "libraries": libraries, "runs": ROUNDS * RUNS, "rows": rows}


def times_of_page(chromium: Chromium, threads: int, look: str) -> list[Times]:
    request = {"threads": threads, "look": look, "runs": RUNS + 1, "file": "/photo.sdt", "data": "/data/"}
    answer = chromium.evaluate(REQUEST.format(request=json.dumps(request)))
    if answer["threads"] != threads:
        raise RuntimeError(f"{answer['threads']} threads in the browser, expected {threads}: is the page not isolated?")
    times: list[Times] = answer["times"]
    return times[1:]


def times_of_process(path: Path, threads: int, look: str) -> list[Times]:
    """Return the times of Python in a process of its own, since libraries take their threads when they are loaded."""
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    command = (__file__, "--in-python", path, "--threads", str(threads), "--look", look)
    times: list[Times] = json.loads(run_python(*command, **limits))
    return times


def times_in_process(data: bytes, threads: int, look: Any) -> list[Times]:
    """Return the milliseconds of decodes in this process, split as the browser's worker splits them."""
    spent: dict[str, float] = {}
    LatentReader.decode_symbols = timed(LatentReader.decode_symbols, "entropy", spent)  # type: ignore[method-assign]
    OrtNetwork.run = timed(OrtNetwork.run, "network", spent)  # type: ignore[method-assign]
    times: list[Times] = []
    with sdtrt.Codec.open(device="cpu", backend="ort", threads=threads) as codec:
        for _ in range(RUNS + 1):
            spent |= {"entropy": 0.0, "network": 0.0}
            started = time.perf_counter()
            np.asarray(codec.decode(data, look=look))
            times.append({"whole": 1000 * (time.perf_counter() - started), **spent})
    return times[1:]


def timed(call: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments, **named)
        spent[name] += 1000 * (time.perf_counter() - started)
        return result

    return wrapped


def medians(times: list[Times]) -> Times:
    """Return the median of each part, and of the remainder of each run."""
    complete = [run | {"rest": run["whole"] - run["entropy"] - run["network"]} for run in times]
    return {part: round(statistics.median(run[part] for run in complete), 1) for part in complete[0]}


if __name__ == "__main__":
    main()
