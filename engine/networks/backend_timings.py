"""Times of the backends on this processor, which `sdtrt doctor --measure` takes and keeps in the user's cache.

`pipeline.open_pipeline` tries the backends on the CPU in the order of these times.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from math import inf
from pathlib import Path

from sdtrt._version import __version__
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS
from sdtrt.engine.networks.backends.cache import Cache
from sdtrt.process.text import json_text
from sdtrt.process.threads import available_cpus

CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("model name", "flags", "Features", "CPU implementer", "CPU part")
LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino")
MAX_CACHE_NBYTES = 1 << 16
MIN_INT8_GAIN = 1.1  # eight bits lose a little quality, so they must be faster by this factor


@dataclass(frozen=True, slots=True)
class BackendTiming:
    """Times of one backend on the CPU, for an image of 768x512 and the built-in model.

    Attributes:
        backend: "ort" or "openvino".
        precision: "fp32", "bf16" or "int8".
        first_ms: milliseconds from the import of the library to the end of the first decode.
        decode_ms: milliseconds of a later decode, the median.
    """

    backend: str
    precision: str
    first_ms: float
    decode_ms: float

    def is_valid(self) -> bool:
        """Return whether the names are known and the times are positive."""
        known = self.backend in BACKENDS[1:] and self.precision in PRECISIONS[1:]
        return known and 0 < self.first_ms < inf and 0 < self.decode_ms < inf

    def milliseconds(self, *, single_call: bool) -> float:
        return self.first_ms if single_call else self.decode_ms


def by_speed(timings: Sequence[BackendTiming], *, single_call: bool) -> list[BackendTiming]:
    """Return timings, the fastest first. Eight bits count as slower by `MIN_INT8_GAIN`.

    Arguments:
        single_call: whether the process will decode one image only, so that the start of the library counts.
    """

    def cost(timing: BackendTiming) -> float:
        penalty = MIN_INT8_GAIN if timing.precision == "int8" else 1
        return penalty * timing.milliseconds(single_call=single_call)

    return sorted(timings, key=cost)


def load_timings() -> list[BackendTiming]:
    """Return the times in the user's cache that hold for this processor and these libraries; empty without any."""
    contents = _cache().get(_file_name())
    try:
        timings = [BackendTiming(**fields) for fields in json.loads(contents)] if contents else []
        valid = all(timing.is_valid() for timing in timings)
    except (TypeError, ValueError):  # of another version, or not JSON
        return []
    return timings if valid else []


def save_timings(timings: Sequence[BackendTiming]) -> bool:
    """Write times into the user's cache, and return whether that worked."""
    contents = json_text([asdict(timing) for timing in timings]).encode()
    cache, name = _cache(), _file_name()
    cache.put(name, contents)
    return cache.get(name) == contents


def _cache() -> Cache:
    return Cache("backends", MAX_CACHE_NBYTES)


def _file_name() -> str:
    """Return a name with the hash of all that the times depend on."""
    parts = "\n".join([__version__, _processor(), str(available_cpus()), *map(_version, LIBRARIES)])
    return f"timings-{hashlib.sha256(parts.encode()).hexdigest()[:24]}"


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Return the model and the instruction sets of the first processor, where the system tells them."""
    try:
        first, _, _ = CPU_INFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(line for line in first.splitlines() if line.startswith(CPU_FIELDS))
