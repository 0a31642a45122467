"""OpenVINO, on the CPU: the only import of `openvino`."""

import functools
import hashlib
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import thread_count
from sdtrt.engine.networks.backends.cache import Cache
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.process.install import install_command

CPU_FEATURES = Path("/proc/cpuinfo")
TELEMETRY = "openvino_telemetry"
HINTS = {"fp32": "f32", "bf16": "bf16"}
NARROW = 16  # columns: OpenVINO 2026.4 computes strided convolutions with one of results wrongly in bfloat16 on AMX
UNLIKE = 0.1  # of what fp32 gives, root mean squares both: by which bfloat16 may be off, some ten times what is usual
MAX_KEPT = 64 << 20  # bytes of a network's file
MAX_CACHE = 256 << 20  # bytes of all that are kept compiled
TOLD_ELSEWHERE = ("Exception from ", "Check '", "FrontEnd API failed")  # where in OpenVINO an error came up


def import_openvino() -> ModuleType:
    """Return the module; `DeviceError` says which extra to install where it is missing or broken."""
    # At its import OpenVINO makes up an identifier of the user and sends it to its makers, with the event. It does
    # neither where it cannot import the module for that, so there is none meanwhile.
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
        import openvino.frontend
    except ImportError as error:
        raise DeviceError(f"OpenVINO is missing ({error}); install it with: {install_command('openvino')}") from error
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
    return openvino


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


def version() -> str:
    """Return OpenVINO's version, without its build."""
    return str(import_openvino().get_version()).partition("-")[0]


def processor() -> str:
    return str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def capabilities() -> list[str]:
    """Return the types in which this processor computes fast, such as `BF16`; `DeviceError` without OpenVINO."""
    return sorted(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def best_precision() -> str:
    """Return `bf16` if this processor computes in bfloat16, else `fp32`; `DeviceError` without OpenVINO."""
    return "bf16" if "BF16" in capabilities() else "fp32"


def may_have_bfloat16() -> bool:
    """Return False where Linux tells that the processor has no bfloat16, sooner than OpenVINO could be imported."""
    try:
        return "bf16" in CPU_FEATURES.read_text()
    except OSError:
        return True


def precision_here(precision: str) -> str:
    """Return `fp32` or `bf16` for a precision, which may be `auto`; `DeviceError` if this processor has it not."""
    best = best_precision()
    if precision == "bf16" and best != "bf16":  # OpenVINO would emulate it, or say nothing and compute in fp32
        raise DeviceError(f"this processor ({processor()}) has no bfloat16; choose precision auto or fp32")
    return best if precision == "auto" else precision


class OpenVino:
    """OpenVINO on the CPU; see `Backend`.

    Arguments:
        threads: threads of all networks; None is one for each core that the process may use.
        precision: `fp32`, `bf16`, or `auto`, the faster one that the processor has.

    Some processors compute a network wrongly in bfloat16. Such a network is refused in `bf16`. In `auto` it is
    computed in fp32, with a warning. Narrow images are computed in fp32 without a warning.
    """

    name = "openvino"
    device = "cpu"

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        try:
            precision_here(precision)
        except DeviceError as error:
            return str(error)
        return ""

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> CpuPipeline:
        return CpuPipeline(cls(threads, precision), tiled)

    @staticmethod
    def version() -> str:
        here = "bf16" if best_precision() == "bf16" else f"fp32: {processor()} has no bfloat16"
        return f"OpenVINO {version()}, precision {here}"

    def __init__(self, threads: int | None = None, precision: str = "auto") -> None:
        self._asked, self._precision = precision, precision_here(precision)
        self._cache = Cache("openvino", MAX_CACHE)
        self._properties: dict[str, Any] = {
            # Calls from several threads wait for each other: all threads work on one image, none on two.
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # A thread that is bound to a core waits while another process has that core.
            "ENABLE_CPU_PINNING": False,
        }
        threads = thread_count(threads)
        if threads is None:
            self._properties["ENABLE_HYPER_THREADING"] = False
        else:
            self._properties["INFERENCE_NUM_THREADS"] = threads

    def load(self, path: Path) -> "OpenVinoNetwork":
        exact = functools.cache(lambda: self._ready(path, "fp32"))

        def check(compiled: Any) -> None:
            OpenVinoNetwork(path, compiled, exact).require_alike()

        if self._precision == "fp32":
            return OpenVinoNetwork(path, exact(), exact)
        try:
            return OpenVinoNetwork(path, self._ready(path, "bf16", check), exact)
        except BundleError as error:
            if self._asked != "auto":
                raise
            found = OpenVinoNetwork(path, exact(), exact)
            warnings.warn(f"{error}; it is computed in fp32", RuntimeWarning, stacklevel=2)
            return found

    def _ready(self, path: Path, precision: str, check: Callable[[Any], None] = lambda compiled: None) -> Any:
        """Return a compiled network, kept from before, or compiled, checked and kept."""
        name = self._name_in_cache(path, precision)
        compiled = self._kept(name, precision) if name else None
        if compiled is None:
            compiled = self._compiled(path, precision)
            check(compiled)
            if name:
                self._cache.put(name, compiled.export_model().getvalue())
        return compiled

    def _name_in_cache(self, path: Path, precision: str) -> str | None:
        """Return a name that tells all that a compiled network depends on; None for networks that are not kept."""
        try:
            if path.with_name(f"{path.name}.data").exists() or path.stat().st_size > MAX_KEPT:
                return None
            digest = hashlib.sha256(path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        machine = (import_openvino().get_version(), processor(), *capabilities(), precision)
        digest.update("\n".join(machine).encode())
        return f"{path.stem}-{digest.hexdigest()[:24]}.blob"

    def _kept(self, name: str, precision: str) -> Any | None:
        contents = self._cache.get(name)
        if contents is None:
            return None
        try:
            return _core().import_model(contents, "CPU", self._properties_in(precision))
        except RuntimeError:  # it is none of this OpenVINO's: to be compiled again
            return None

    def _compiled(self, path: Path, precision: str) -> Any:
        openvino = import_openvino()
        try:
            # `read_model` would hand a broken file to all frontends, which print what they think of it.
            frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            network = frontend.convert(frontend.load(str(path)))
            # Shapes stay free: compiled for one shape it is hardly faster, and each shape would be compiled.
            return _core().compile_model(network, "CPU", self._properties_in(precision))
        except Exception as error:  # OpenVINO's exceptions have no common base but this
            raise BundleError(f"{path} cannot be opened by OpenVINO {version()}: {reason_of(error)}") from error

    def _properties_in(self, precision: str) -> dict[str, Any]:
        # Said, since its own default is whatever the processor is fastest at.
        return self._properties | {"INFERENCE_PRECISION_HINT": HINTS[precision]}


class OpenVinoBf16(OpenVino):
    """OpenVINO where it computes in bfloat16, which is faster than ONNX Runtime; else ONNX Runtime is faster."""

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        if precision == "fp32":
            return "precision is fp32"
        if not may_have_bfloat16():
            return "this processor has no bfloat16"
        return OpenVino.unavailable_reason(bundle, index, "bf16")


class OpenVinoNetwork:
    """A compiled network, and how to get one in fp32 for narrow images; each call has a request of its own."""

    def __init__(self, path: Path, compiled: Any, exact: Callable[[], Any]) -> None:
        self.path, self._compiled, self._exact = path, compiled, exact
        self._inputs = [port.names for port in compiled.inputs]
        self._outputs = [port.names for port in compiled.outputs]

    def run(self, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        # OpenVINO leaves an input that is not given empty, and computes.
        if len(inputs) != len(self._inputs) or any(names.isdisjoint(inputs) for names in self._inputs):
            expected = ", ".join("/".join(sorted(names)) for names in self._inputs)
            raise BundleError(f"{self.path} takes {expected}, not {', '.join(inputs)}")
        if narrow(inputs):
            return self.computed(self._exact(), inputs)
        found = self.computed(self._compiled, inputs)
        return self.computed(self._exact(), inputs) if narrow(found) else found

    def computed(self, compiled: Any, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        """Return what a compiled network gives; `BundleError` if it cannot run on such inputs."""
        try:
            found = compiled.create_infer_request().infer(dict(inputs), share_inputs=True)
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise BundleError(f"{self.path} cannot run on {shapes}: {reason_of(error)}") from error
        return {name: found[n] for n, names in enumerate(self._outputs) for name in names}

    def require_alike(self) -> None:
        """Raise `BundleError` if the network gives something else than it does in fp32, for noise of 64x64."""
        inputs = self._noise()
        found, expected = (self.computed(compiled, inputs) for compiled in (self._compiled, self._exact()))
        for name, values in expected.items():
            if not np.square(found[name] - values).mean() <= UNLIKE**2 * np.square(values).mean():
                here = f"OpenVINO {version()} on {processor()}"
                raise BundleError(f"{self.path}'s {name} in bfloat16 are not those in fp32, by {here}")

    def _noise(self, side: int = 64) -> dict[str, F32Array]:
        """Return inputs for a try: noise of planes and the like, ones where there is but a number for each image."""
        rng = np.random.default_rng(1)
        found = {}
        for port in self._compiled.inputs:
            lengths = [*port.partial_shape]
            if any(length.is_dynamic for length in lengths[1:2]):
                raise BundleError(
                    f"{self.path} cannot be tried in bfloat16: {port.any_name} has any number of channels"
                )
            free = [1, 0, *[side] * len(lengths)]
            shape = [n if length.is_dynamic else length.get_length() for n, length in zip(free, lengths, strict=False)]
            values = rng.standard_normal(shape) if len(shape) > 1 else np.ones(shape)
            found[port.any_name] = values.astype(np.float32)
        return found


def narrow(arrays: Mapping[str, F32Array]) -> bool:
    """Return whether any of some planes are so narrow that layers between them may have a single column."""
    return any(array.ndim == 4 and array.shape[3] < NARROW for array in arrays.values())


def reason_of(error: Exception) -> str:
    """Return what an error of OpenVINO says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([line for line in lines if not line.startswith(TOLD_ELSEWHERE)] or lines)
