"""Milliseconds to decode a photo in headless Chromium and in Python, on as many threads.

    make web && python benchmarks/browser.py [--chromium PROGRAM]

The photo has 768x512 pixels, at quality 50. Chromium and Python, the networks of both by ONNX Runtime, take turns for
`ROUNDS` rounds of `RUNS` decodes each, after one in each process and round that does not count; figures are medians of
all. In Chromium the decoder runs in a worker of a page that `sdtrt view` would serve. `entropy` is bytes to symbols,
`network` latents to values of pixels, `rest` what else a decode takes. Not measured: loading, pages that show pictures.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pages.chromium import PROGRAMS, Chromium
from PIL import Image
from report import write_results
from skimage.data import astronaut

import sdtrt
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.networks.backends.ort import OrtNetwork
from sdtrt.viewer import SITE, ViewerServer

SIZE = (768, 512)
QUALITY = 50
THREADS = (1, 2)
ROUNDS, RUNS = 3, 5
WEB = Path(__file__).parent.parent / "web"
ASK = """
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
    parser.add_argument("--in-python", type=Path, metavar="FILE", help="only decode a file here, and print the times")
    parser.add_argument("--threads", type=int, default=1, help="with --in-python")
    options = parser.parse_args()
    if options.in_python:
        print(json.dumps(times_here(options.in_python.read_bytes(), options.threads)))
        return
    photo = Image.fromarray(astronaut()).resize(SIZE, Image.Resampling.LANCZOS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.sdt"
        path.write_bytes(sdtrt.encode(photo, quality=QUALITY))
        with served(path, Path(folder)) as server:
            found = measured(program_path(options.chromium), server, path)
    print(json.dumps(found, indent=1))
    print(write_results("browser", {"size": SIZE, "quality": QUALITY, **found}))


def program_path(name: str | None = None) -> str:
    """Return the path of Chromium, or of the browser of that name; `FileNotFoundError` if there is none."""
    names = (name,) if name else PROGRAMS
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise FileNotFoundError(f"no {', '.join(names)}; name a Chromium by --chromium")
    return found


@contextmanager
def served(path: Path, folder: Path) -> Iterator[ViewerServer]:
    """Serve the built site, with a file and the worker, which names ONNX Runtime as the site's modules do."""
    worker = folder / "worker.js"
    source = (WEB / "bench" / "worker.js").read_text()
    worker.write_text(source.replace('"onnxruntime-web"', '"../lib/ort.wasm.bundle.min.mjs"'))
    with ViewerServer(SITE, []) as server:
        server.paths |= {"/bench/worker.js": worker, "/photo.sdt": path}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def measured(program: str, server: ViewerServer, path: Path) -> dict[str, Any]:
    """Return versions, and for each count of threads a row of medians, in Chromium and in Python."""
    times: dict[tuple[int, str], list[Times]] = {(n, where): [] for n in THREADS for where in ("chromium", "python")}
    for _ in range(ROUNDS):
        for threads in THREADS:
            with Chromium([program]) as chromium:
                chromium.go(server.address)
                browser = chromium.call("Browser.getVersion")["product"]
                times[threads, "chromium"] += times_of_page(chromium, threads)
            times[threads, "python"] += times_of_process(path, threads)
    rows = []
    for threads in THREADS:
        there, here = (medians(times[threads, where]) for where in ("chromium", "python"))
        ratio = round(there["whole"] / here["whole"], 2)
        rows.append({"threads": threads, "chromium": there, "python": here, "ratio": ratio})
    libraries = json.loads((WEB / "package.json").read_text())["dependencies"]
    return {"browser": browser, "libraries": libraries, "runs": ROUNDS * RUNS, "rows": rows}


def times_of_page(chromium: Chromium, threads: int) -> list[Times]:
    request = {"threads": threads, "runs": RUNS + 1, "file": "/photo.sdt", "data": "/data/"}
    answer = chromium.evaluate(ASK.format(request=json.dumps(request)))
    if answer["threads"] != threads:
        raise RuntimeError(f"{answer['threads']} threads in the browser, expected {threads}: is the page not isolated?")
    found: list[Times] = answer["times"]
    return found[1:]


def times_of_process(path: Path, threads: int) -> list[Times]:
    """Return the times of Python in a process of its own: libraries take their threads when they are loaded."""
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, __file__, "--in-python", str(path), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | limits)
    found: list[Times] = json.loads(done.stdout)
    return found


def times_here(data: bytes, threads: int) -> list[Times]:
    """Return the milliseconds of decodes in this process, split as the browser's worker splits them."""
    spent: dict[str, float] = {}
    LatentReader.decoded = timed(LatentReader.decoded, "entropy", spent)  # type: ignore[method-assign]
    OrtNetwork.run = timed(OrtNetwork.run, "network", spent)  # type: ignore[method-assign]
    times: list[Times] = []
    with sdtrt.Codec.open(device="cpu", backend="ort", threads=threads) as codec:
        for _ in range(RUNS + 1):
            spent |= {"entropy": 0.0, "network": 0.0}
            started = time.perf_counter()
            np.asarray(codec.decode(data))
            times.append({"whole": 1000 * (time.perf_counter() - started), **spent})
    return times[1:]


def timed(call: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = call(*arguments, **named)
        spent[name] += 1000 * (time.perf_counter() - started)
        return found

    return wrapped


def medians(times: list[Times]) -> Times:
    """Return the median of each part, and of what is left in each run."""
    complete = [one | {"rest": one["whole"] - one["entropy"] - one["network"]} for one in times]
    return {part: round(statistics.median(one[part] for one in complete), 1) for part in complete[0]}


if __name__ == "__main__":
    main()
