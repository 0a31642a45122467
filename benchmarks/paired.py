"""This state of sdtrt beside an earlier one: encoding and decoding a picture, the entropy stage, batches, in turn.

    python benchmarks/paired.py CHECKOUT [--runs 25]

CHECKOUT is another state's checkout in which `make importroot` was run. Each state has a process of its own that keeps
a codec open, this one one for each backend of the CPU; they make 5 calls each in turn, so that all meet the same hours
of the machine, and medians are taken. The picture is 768x512, at quality 50, and for searches at what they find; arrays
go in and come out. This state multiplies by one thread, as its command does, the other as it did. The entropy stage is
measured with one thread for matrix products, from latents to a file and back; a batch is of 8 files of that size,
beside as many calls one after the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from report import write_results

ROOT = Path(__file__).parents[1]
RUNS = 25
TURN = 5  # calls
WORKER = """
import sys, time
import numpy as np
from PIL import Image
from skimage.data import astronaut
import sdtrt
photo = np.asarray(Image.fromarray(astronaut()).resize((768, 512), Image.Resampling.LANCZOS))
codec = sdtrt.Codec.open(device="cpu", backend=sys.argv[1])
data = codec.encode(photo, quality=50)
small = codec.encode(photo, quality=20)
latents = codec.decode_latents(data)
calls = {
    "encode": lambda: codec.encode(photo, quality=50),
    "decode": lambda: np.asarray(codec.decode(data)),
    "encode to 9,000 bytes": lambda: codec.encode(photo, max_bytes=9000),
    "encode to 33 dB": lambda: codec.encode(photo, target_psnr=33),
    "quality 20 to latents": lambda: codec.decode_latents(small),
    "latents to file": lambda: codec.encode_latents(latents, quality=50),
    "file to latents": lambda: codec.decode_latents(data),
    "8 calls": lambda: [np.asarray(codec.decode(data)) for _ in range(8)],
    "batch of 8": lambda: [np.asarray(one) for one in codec.decode_batch([data] * 8)],
}
for line in sys.stdin:
    call = calls[line.strip()]
    started = time.perf_counter()
    call()
    print(1000 * (time.perf_counter() - started), flush=True)
"""
CALLS = ("encode", "decode", "encode to 9,000 bytes", "encode to 33 dB", "8 calls", "batch of 8")
ENTROPY = ("latents to file", "file to latents", "quality 20 to latents")


class Worker:
    """A state of sdtrt in a process of its own."""

    def __init__(self, root: Path, backend: str, *, one_thread: bool) -> None:
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if one_thread else {}
        importroot = root / "build" / "importroot"
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | {"PYTHONPATH": str(importroot)},
            cwd=importroot,
        )

    def ms(self, call: str) -> float:
        """Return how long a call takes, in milliseconds."""
        assert self._process.stdin
        assert self._process.stdout
        print(call, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this state of sdtrt beside an earlier one.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    states = {"before, ort": (arguments.checkout.resolve(), "ort"), "ort": (ROOT, "ort")}
    if find_spec("openvino"):
        states["openvino"] = (ROOT, "openvino")
    figures: dict[str, dict[str, float]] = {name: {} for name in states}
    for one_thread, calls in ((False, CALLS), (True, ENTROPY)):
        workers = {
            name: Worker(root, backend, one_thread=one_thread or root == ROOT)
            for name, (root, backend) in states.items()
        }
        for call in calls:
            for name, ms in in_turn(workers, call, arguments.runs).items():
                figures[name][call] = ms
    print(json.dumps(figures, indent=1))
    print(write_results("paired", {"before": commit_of(arguments.checkout), "median_ms": figures}))


def in_turn(workers: dict[str, Worker], call: str, runs: int) -> dict[str, float]:
    """Return each worker's median, after a turn that does not count."""
    found: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(1 + -(-runs // TURN)):
        for name, worker in workers.items():
            found[name] += [worker.ms(call) for _ in range(TURN)]
    return {name: round(statistics.median(ms[TURN:]), 1) for name, ms in found.items()}


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%h %s"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
