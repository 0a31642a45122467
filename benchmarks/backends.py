"""The backends for a CPU beside each other: a command for one picture, a codec kept open, a service, memory.

    python benchmarks/backends.py [--runs N]

The picture is 768x512, at quality 50; `tiny` encodes and decodes it. All are measured in turn, and medians taken after
a first run that does not count, but where it is the first that is asked about: a command with an empty cache of
compiled networks. Beside them Pillow opens other codecs' files of quality 50 and saves them. A service is four threads
that decode with one codec. Sizes that vary are those of 6 pictures, each met for the first time. bfloat16 is measured
where the processor has it. NumPy's products run in one thread, as in the command `sdtrt`. Not measured: other
models, GPUs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from report import write_results
from rivals import ALL_RIVALS
from skimage.data import astronaut

import sdtrt
from sdtrt.engine.networks.backends.openvino import best_precision, version
from sdtrt.process.threads import limit_blas_to_one_thread

SIZE = (768, 512)
RUNS = 7
THREADS, PICTURES = 4, 4  # of a service
QUALITY = 50
PILLOW_FORMATS = ("JPEG", "WebP", "AVIF")
PILLOW = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2])"
PEAK = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import sdtrt
_, path, threads, backend, precision = sys.argv
with sdtrt.Codec.open(backend=backend, precision=precision) as codec:
    data = codec.encode(path)
    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(codec.decode, [data] * int(threads)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""

Choice = tuple[str, str]  # backend, precision


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the backends for a CPU.")
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    choices = [("ort", "fp32"), ("openvino", "fp32"), *([("openvino", "bf16")] if best_precision() == "bf16" else [])]
    limit_blas_to_one_thread()
    photo = Image.fromarray(astronaut()).resize(SIZE, Image.Resampling.LANCZOS)
    figures: list[dict[str, Any]] = [{"backend": backend, "precision": precision} for backend, precision in choices]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        # Memory first: a process counts what its parent held when it was forked.
        for measure in (peak_nbytes, command_ms, codec_ms):
            for figure, found in zip(figures, measure(Path(folder), photo, choices, runs), strict=True):
                figure.update(found)
        others = pillow_ms(Path(folder), photo, runs)
    print(json.dumps(figures, indent=1), json.dumps(others))
    print(write_results("backends", {"size": SIZE, "openvino": version(), "choices": figures, "pillow_ms": others}))


def command_ms(folder: Path, photo: Image.Image, choices: list[Choice], runs: int) -> list[dict[str, float]]:
    """Return the milliseconds of the whole command `sdtrt decode`, without and with compiled networks in the cache."""
    (folder / "photo.sdt").write_bytes(sdtrt.encode(photo))
    shutil.rmtree(folder / "sdtrt", ignore_errors=True)  # the cache

    def command(choice: Choice) -> float:
        options = ["-f", "--quiet", "--backend", choice[0], "--precision", choice[1]]
        return ms_of(lambda: python("-m", "sdtrt", "decode", f"{folder}/photo.sdt", "-o", f"{folder}/b.ppm", *options))

    first = [command(choice) for choice in choices]
    return [
        {"first_command_ms": once, "command_ms": later}
        for once, later in zip(first, in_turn([lambda c=c: command(c) for c in choices], runs), strict=True)
    ]


def pillow_ms(folder: Path, photo: Image.Image, runs: int) -> dict[str, float]:
    """Return the milliseconds of a Python that opens a photo in another format and saves its pixels, by format."""

    def command(name: str) -> float:
        return ms_of(lambda: python("-c", PILLOW, f"{folder}/photo.{name}", f"{folder}/b.ppm"))

    for name in PILLOW_FORMATS:
        (folder / f"photo.{name}").write_bytes(ALL_RIVALS[name](photo, QUALITY))
    return dict(zip(PILLOW_FORMATS, in_turn([lambda n=n: command(n) for n in PILLOW_FORMATS], runs), strict=True))


def codec_ms(folder: Path, photo: Image.Image, choices: list[Choice], runs: int) -> list[dict[str, float]]:
    """Return the milliseconds of calls of a codec that is open, and how its pixels differ from the first choice's."""
    codecs = [sdtrt.Codec.open(backend=backend, precision=precision) for backend, precision in choices]
    data = codecs[0].encode(photo)
    sides = np.random.default_rng(1).integers(320, 720, (6, 2))
    files = [codecs[0].encode(photo.resize((int(width), int(height)))) for width, height in sides]
    pixels = [np.asarray(codec.decode(data), np.float32) for codec in codecs]

    def timed(call: Callable[[sdtrt.Codec], Any]) -> list[float]:
        return in_turn([lambda codec=codec: ms_of(lambda: call(codec)) for codec in codecs], runs)

    def serve(codec: sdtrt.Codec) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(codec.decode, [data] * PICTURES))

    found = {
        "encode_ms": timed(lambda codec: codec.encode(photo)),
        "decode_ms": timed(lambda codec: codec.decode(data)),
        "service_ms": [ms / PICTURES for ms in in_turn([lambda c=c: ms_of(lambda: serve(c)) for c in codecs], 1)],
        "varied_ms": [ms_of(lambda c=c: [c.decode(file) for file in files]) / len(files) for c in codecs],
        "mean_difference": [float(np.abs(one - pixels[0]).mean()) for one in pixels],
        "largest_difference": [float(np.abs(one - pixels[0]).max()) for one in pixels],
    }
    return [{name: round(values[n], 4) for name, values in found.items()} for n in range(len(choices))]


def peak_nbytes(folder: Path, photo: Image.Image, choices: list[Choice], runs: int) -> list[dict[str, int]]:
    """Return the largest resident size of a process that encodes and decodes the photo, and of a service, in bytes."""
    photo.save(folder / "photo.png")

    def peak(threads: int, choice: Choice) -> int:
        return int(python("-c", PEAK, f"{folder}/photo.png", f"{threads}", *choice))

    return [{"peak_nbytes": peak(1, choice), "service_peak_nbytes": peak(THREADS, choice)} for choice in choices]


def in_turn(measures: list[Callable[[], float]], runs: int) -> list[float]:
    """Return the median of each of some measures, taken one after the other and from the start again."""
    for measure in measures:
        measure()
    rounds = [[measure() for measure in measures] for _ in range(runs)]
    return [round(statistics.median(values), 1) for values in zip(*rounds, strict=True)]


def ms_of(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
