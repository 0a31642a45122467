"""OpenVINO, on the CPU: the only import of `openvino`."""

import functools
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.networks.backends.cache import Cache
from sdtrt.errors import BundleError, DeviceError

TELEMETRY = "openvino_telemetry"
HINTS = {"fp32": "f32", "bf16": "bf16"}
LARGEST_KEPT = 64 << 20  # bytes of a network's file
LARGEST_CACHE = 256 << 20  # bytes of all that are kept compiled
TOLD_ELSEWHERE = ("Exception from ", "Check '", "FrontEnd API failed")  # where in OpenVINO an error came up

Floats = NDArray[np.float32]


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
        raise DeviceError(f"OpenVINO is missing ({error}); install it with: pip install 'sdtrt[openvino]'") from error
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


def best_precision() -> str:
    """Return `bf16` if this processor computes in bfloat16, else `fp32`; `DeviceError` without OpenVINO."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


def precision_here(precision: str) -> str:
    """Return `fp32` or `bf16` for a precision, which may be `auto`; `DeviceError` if this processor has it not."""
    best = best_precision()
    if precision == "bf16" and best != "bf16":  # OpenVINO would emulate it, or say nothing and compute in fp32
        raise DeviceError(f"this processor ({processor()}) has no bfloat16; choose precision auto or fp32")
    return best if precision == "auto" else precision


class OpenVino:
    """The CPU, with `threads` threads (None: one per core), in precision `fp32`, `bf16`, or the best it has, `auto`."""

    name = "openvino on the CPU"

    def __init__(self, threads: int | None = None, precision: str = "auto") -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads {threads}, expected at least 1")
        self._precision = precision_here(precision)
        self._cache = Cache("openvino", LARGEST_CACHE)
        self._properties: dict[str, Any] = {
            # Said, since its own default is whatever the processor is fastest at.
            "INFERENCE_PRECISION_HINT": HINTS[self._precision],
            # Calls from several threads wait for each other: all threads work on one picture, none on two.
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # A thread that is bound to a core waits while another process has that core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is None:
            self._properties["ENABLE_HYPER_THREADING"] = False
        else:
            self._properties["INFERENCE_NUM_THREADS"] = threads

    def load(self, path: Path) -> "OpenVinoNetwork":
        name = self._name_in_cache(path)
        compiled = self._kept(name) if name else None
        if compiled is None:
            compiled = self._compiled(path)
            if name:
                self._cache.put(name, compiled.export_model().getvalue())
        return OpenVinoNetwork(path, compiled)

    def _name_in_cache(self, path: Path) -> str | None:
        """Return a name that tells all that a compiled network depends on; None for networks that are not kept."""
        try:
            if path.with_name(f"{path.name}.data").exists() or path.stat().st_size > LARGEST_KEPT:
                return None
            digest = hashlib.sha256(path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        capabilities = sorted(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        machine = (import_openvino().get_version(), processor(), *capabilities, self._precision)
        digest.update("\n".join(machine).encode())
        return f"{path.stem}-{digest.hexdigest()[:24]}.blob"

    def _kept(self, name: str) -> Any | None:
        contents = self._cache.get(name)
        if contents is None:
            return None
        try:
            return _core().import_model(contents, "CPU", self._properties)
        except RuntimeError:  # it is none of this OpenVINO's: to be compiled again
            return None

    def _compiled(self, path: Path) -> Any:
        openvino = import_openvino()
        try:
            # `read_model` would hand a broken file to all frontends, which print what they think of it.
            frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            # Shapes stay free: compiled for one shape it is hardly faster, and each shape would be compiled.
            return _core().compile_model(frontend.convert(frontend.load(str(path))), "CPU", self._properties)
        except Exception as error:  # OpenVINO's exceptions have no common base but this
            raise BundleError(f"{path} cannot be opened by OpenVINO {version()}: {reason_of(error)}") from error


class OpenVinoNetwork:
    """A compiled network; each call has a request of its own."""

    def __init__(self, path: Path, compiled: Any) -> None:
        self._path, self._compiled = path, compiled
        self._inputs = [port.names for port in compiled.inputs]
        self._outputs = [port.names for port in compiled.outputs]

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        # OpenVINO leaves an input that is not given empty, and computes.
        if len(inputs) != len(self._inputs) or any(names.isdisjoint(inputs) for names in self._inputs):
            expected = ", ".join("/".join(sorted(names)) for names in self._inputs)
            raise BundleError(f"{self._path} takes {expected}, not {', '.join(inputs)}")
        try:
            found = self._compiled.create_infer_request().infer(dict(inputs), share_inputs=True)
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise BundleError(f"{self._path} cannot run on {shapes}: {reason_of(error)}") from error
        return {name: found[n] for n, names in enumerate(self._outputs) for name in names}


def reason_of(error: Exception) -> str:
    """Return what an error of OpenVINO says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([line for line in lines if not line.startswith(TOLD_ELSEWHERE)] or lines)
