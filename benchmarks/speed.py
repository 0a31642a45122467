"""Seconds and memory on this machine's CPU: `tiny` at 768x512 beside JPEG and WebP, the entropy stage, start-up.

    python benchmarks/speed.py

Every figure is the median of 5 runs, the entropy stage's of 31, after one that does not count. Memory is the peak of
a fresh process that encodes and decodes one picture. NumPy's products run in one thread, as in the command
`sdtrt`. Not measured: GPUs, several pictures at once.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from report import write_results
from rivals import RIVALS, decoded
from skimage.data import astronaut

import sdtrt
from sdtrt.engine.coding import stream_codec
from sdtrt.engine.coding.latent_file import decode_symbols
from sdtrt.engine.coding.priors.adaptive import fit_adaptive
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import PRIOR_NAMES
from sdtrt.engine.networks.backends.openvino import best_precision
from sdtrt.process.threads import limit_blas_to_one_thread

SIZE = (768, 512)
ENTROPY_RUNS = 31  # they are short, and the machine is not always of one mind
PEAK = """
import resource, sys
import sdtrt
with sdtrt.Codec.open(device="cpu", backend="ort") as codec:
    codec.decode(codec.encode(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
START = "import time; t = time.perf_counter(); import sdtrt; print(time.perf_counter() - t)"


def main() -> None:
    limit_blas_to_one_thread()
    photo = Image.fromarray(astronaut()).resize(SIZE, Image.Resampling.LANCZOS)
    figures = {
        "size": SIZE,
        "codecs": codec_seconds(photo),
        "peak_memory_nbytes": peak_memory(photo),
        "entropy_ms": entropy_ms(photo),
        "import_seconds": median_of(lambda: float(python("-c", START))),
        "info_command_seconds": info_seconds(photo),
    }
    path = write_results("speed", figures)
    print(json.dumps(figures, indent=1))
    print(path)


def codec_seconds(photo: Image.Image) -> dict[str, dict[str, float]]:
    """Return the seconds to encode and decode, by codec: quality 50 of each."""
    found = {"sdtrt": own_seconds(photo, "ort")}
    if find_spec("openvino") and best_precision() == "bf16":
        found["sdtrt, OpenVINO in bfloat16"] = own_seconds(photo, "openvino")
    for name, encode in RIVALS.items():
        file = encode(photo, 50)
        found[name] = {
            "encode": seconds_of(lambda e=encode: e(photo, 50)),
            "decode": seconds_of(lambda f=file: decoded(f)),
        }
    return found


def own_seconds(photo: Image.Image, backend: str) -> dict[str, float]:
    with sdtrt.Codec.open(device="cpu", backend=backend) as codec:
        data = codec.encode(photo)
        return {
            "encode": seconds_of(lambda: codec.encode(photo)),
            "decode": seconds_of(lambda: np.asarray(codec.decode(data))),
        }


def entropy_ms(photo: Image.Image) -> dict[str, dict[str, float]]:
    """Return the milliseconds of the entropy stage: `tiny` at this size, and 4x64x64 with two priors.

    `encode` chooses the symbols as well, at effort 1 and at the default effort.
    """
    file = container.read(sdtrt.encode(photo))
    symbols = decode_symbols(file)
    smooth = np.cumsum(np.random.default_rng(1).normal(size=(4, 64, 64)), axis=2).astype(np.float32) / 2
    adaptive = fit_adaptive(np.rint(smooth).astype(np.int16))
    cases = {
        f"tiny {symbols.shape}": (
            symbols.astype(np.float32),
            shipped_prior(PRIOR_NAMES[file.header.prior]),
            file.header.step_code,
        ),
        f"sd1 {smooth.shape}": (smooth, shipped_prior("sd1-1"), 2048),
        f"adaptive {smooth.shape}": (smooth, adaptive, 2048),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (values, prior, code) in cases.items():
        payload = stream_codec.quantize_and_encode(values, prior, code, stream_codec.DEFAULT_EFFORT).data
        works = {
            "encode_effort_1": lambda v=values, p=prior, c=code: stream_codec.quantize_and_encode(v, p, c, 1),
            "encode": lambda v=values, p=prior, c=code: stream_codec.quantize_and_encode(
                v, p, c, stream_codec.DEFAULT_EFFORT
            ),
            "decode": lambda v=values, p=prior, c=code, d=payload: stream_codec.decode_stream(d, v.shape, p, c),
        }
        found[name] = {work: round(1000 * seconds_of(call, ENTROPY_RUNS), 2) for work, call in works.items()}
    found[f"adaptive {smooth.shape}"]["fit"] = 1000 * seconds_of(lambda: fit_adaptive(np.rint(smooth).astype(np.int16)))
    return found


def peak_memory(photo: Image.Image) -> int:
    """Return the largest resident size of a process that encodes and decodes the photo, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        photo.save(f"{folder}/photo.png")
        return int(python("-c", PEAK, f"{folder}/photo.png"))


def info_seconds(photo: Image.Image) -> float:
    """Return the seconds of the whole command `sdtrt info`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.sdt"
        path.write_bytes(sdtrt.encode(photo))
        return seconds_of(lambda: python("-m", "sdtrt", "info", str(path)))


def seconds_of(call: Callable[[], Any], runs: int = 5) -> float:
    def timed() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return median_of(timed, runs)


def median_of(measure: Callable[[], float], runs: int = 5) -> float:
    measure()
    return round(statistics.median(measure() for _ in range(runs)), 5)


def python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
