"""Times the backends on the CPU. Each runs in a process of its own, so that the start of its library counts.

    python -m sdtrt.engine.backend_benchmark BACKEND PRECISION < FILE

The command opens the built-in model, decodes the `.sdt` file on standard input several times, and prints the times as
JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from statistics import median

import numpy as np

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.latent_file import encode_latents_to_file
from sdtrt.engine.format import container
from sdtrt.engine.networks.backend_timings import BackendTiming
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.engine.networks.pipeline import available_on_cpu
from sdtrt.errors import DeviceError
from sdtrt.process.text import json_text, printable

WIDTH, HEIGHT = 768, 512
STEP_CODE = 2048  # quantization step 1
SECONDS = 0.5  # of decodes after the first
MIN_DECODES, MAX_SECONDS = 3, 120


def measure_backends(report: Callable[[str], None] = lambda text: None) -> tuple[list[BackendTiming], list[str]]:
    """Return the times of all backends and precisions of the CPU that work here, and messages about those that fail.

    Arguments:
        report: called with a message before each of them is timed.

    Raises:
        DeviceError: no backend works.
    """
    bundle = find_bundle(BUILT_IN)
    profile = bundle.latent_profile
    latents = np.zeros((profile.channels, HEIGHT // profile.downscale, WIDTH // profile.downscale), np.float32)
    file = container.write(encode_latents_to_file(latents, WIDTH, HEIGHT, profile, STEP_CODE))
    timings, failures = list[BackendTiming](), list[str]()
    candidates = available_on_cpu(bundle)
    for number, (name, precision) in enumerate(candidates, 1):
        report(f"timing {name} in {precision} ({number} of {len(candidates)})")
        try:
            timings.append(_measure_in_new_process(name, precision, file))
        except DeviceError as error:
            failures.append(str(error))
    if not timings:
        raise DeviceError("\n  ".join(["no backend can be measured on the CPU", *failures]))
    return timings, failures


def _measure_in_new_process(backend: str, precision: str, file: bytes) -> BackendTiming:
    """Return the times of the second of two processes, since the first may have to compile the network."""
    command = [sys.executable, "-P", "-m", "sdtrt.engine.backend_benchmark", backend, precision]
    for _ in range(2):
        try:
            done = subprocess.run(command, input=file, capture_output=True, timeout=MAX_SECONDS, check=True)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {error.returncode}"]
            raise DeviceError(f"backend {backend} in {precision} cannot be measured: {printable(lines[-1])}") from error
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"backend {backend} in {precision} took more than {MAX_SECONDS} s") from error
    return BackendTiming(**json.loads(done.stdout))


def _measure(backend: str, precision: str, file: bytes) -> BackendTiming:
    start = time.perf_counter()
    codec = EngineCodec(BUILT_IN, backend=backend, device="cpu", precision=precision)
    parsed = container.read(file)
    codec.decode(parsed)
    first = time.perf_counter() - start
    times = list[float]()
    while len(times) < MIN_DECODES or sum(times) < SECONDS:
        start = time.perf_counter()
        codec.decode(parsed)
        times.append(time.perf_counter() - start)
    return BackendTiming(backend, precision, 1000 * first, 1000 * median(times))


def main() -> None:
    backend, precision = sys.argv[1:]
    sys.stdout.write(json_text(asdict(_measure(backend, precision, sys.stdin.buffer.read()))))


if __name__ == "__main__":
    main()
