"""OpenVINO on the CPU. Only this module imports `openvino`."""

import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import INT8_DECODER, int8_unavailable_reason, thread_count
from sdtrt.engine.networks.backends.cache import Cache
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.process.install import install_command

CPU_FEATURES = Path("/proc/cpuinfo")
TELEMETRY = "openvino_telemetry"
HINTS = {"fp32": "f32", "bf16": "bf16"}
# OpenVINO 2026.4 on AMX computes wrong bfloat16 results where a strided convolution has a single column of outputs.
MIN_BF16_WIDTH = 16  # columns
MAX_BF16_ERROR = 0.1  # root mean square, relative to that of the fp32 output; about ten times the usual error
MAX_CACHED_NBYTES = 64 << 20  # size of a network whose compiled form is cached
MAX_CACHE_NBYTES = 256 << 20  # size of all compiled networks in the cache
NOISE_PREFIXES = ("Exception from ", "Check '", "FrontEnd API failed")  # of lines about places in OpenVINO's code


def import_openvino() -> ModuleType:
    """Return the module.

    Raises:
        DeviceError: the module is missing or broken; the message has the command that installs it.
    """
    # At its import OpenVINO creates an identifier of the user and reports it to its makers, if it can import its
    # telemetry module. So that module is hidden during the import.
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
        import openvino.frontend
    except ImportError as error:
        raise DeviceError(f"OpenVINO is missing ({error}); install it with: {install_command('openvino')}") from error
    except OSError as error:  # its import reads the current folder, which may be gone
        raise DeviceError(f"OpenVINO cannot be imported here ({error})") from error
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
    return openvino


@functools.cache
def _started_core() -> tuple[Any, int]:
    return import_openvino().Core(), os.getpid()


def _core() -> Any:
    """Return OpenVINO's `Core`.

    Raises:
        DeviceError: OpenVINO is missing or broken, or the process was forked after OpenVINO had started.
    """
    core, process = _started_core()
    if process != os.getpid():  # its threads are not in this process, and a network would wait for them without end
        raise DeviceError(
            "OpenVINO does not run in a process that was forked after its first use; start processes with spawn, "
            "or choose backend ort"
        )
    return core


def version() -> str:
    """Return the version of OpenVINO without its build number."""
    return str(import_openvino().get_version()).partition("-")[0]


def processor() -> str:
    return str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def capabilities() -> list[str]:
    """Return the types in which this processor computes fast, such as `BF16`.

    Raises:
        DeviceError: OpenVINO is missing or broken.
    """
    return sorted(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def best_precision() -> str:
    """Return `bf16` if this processor computes in bfloat16, else `fp32`; errors as of `capabilities`."""
    return "bf16" if "BF16" in capabilities() else "fp32"


def may_have_bfloat16() -> bool:
    """Return False if Linux lists the processor's features without bfloat16. An import of OpenVINO takes longer."""
    try:
        return "bf16" in CPU_FEATURES.read_text()
    except OSError:
        return True


def precision_here(precision: str) -> str:
    """Return `fp32` or `bf16` for a precision, which may be `auto`; `fp32` for `int8`.

    Networks in eight bits compute in fp32 what is not in eight bits.

    Raises:
        DeviceError: this processor does not have the precision, or OpenVINO is missing or broken.
    """
    best = best_precision()
    if precision == "int8":
        return "fp32"
    if precision == "bf16" and best != "bf16":  # OpenVINO would emulate it, or silently compute in fp32
        raise DeviceError(f"this processor ({processor()}) has no bfloat16; choose precision auto or fp32")
    return best if precision == "auto" else precision


class OpenVino:
    """OpenVINO on the CPU; see `Backend`.

    Arguments:
        threads: threads of all networks; None is one for each core that the process may use.
        precision: `fp32`, `bf16`, `int8`, or `auto`: of `fp32` and `bf16` the faster one that the processor has.

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
        return int8_unavailable_reason(bundle) if precision == "int8" else ""

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> CpuPipeline:
        return CpuPipeline(cls(threads, precision), tiled)

    @staticmethod
    def version() -> str:
        here = "bf16" if best_precision() == "bf16" else f"fp32: {processor()} has no bfloat16"
        return f"OpenVINO {version()}, precision {here}"

    def __init__(self, threads: int | None = None, precision: str = "auto") -> None:
        self._option, self._precision = precision, precision_here(precision)
        self.int8 = precision == "int8"
        self._cache = Cache("openvino", MAX_CACHE_NBYTES)
        self._properties: dict[str, Any] = {
            # Calls from several threads run one after the other, each with all threads of OpenVINO.
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # A pinned thread would wait while another process uses its core.
            "ENABLE_CPU_PINNING": False,
        }
        threads = thread_count(threads)
        if threads is None:
            self._properties["ENABLE_HYPER_THREADING"] = False
        else:
            self._properties["INFERENCE_NUM_THREADS"] = threads

    def for_batches(self) -> tuple["OpenVino", int]:
        return self, 1  # one image after the other with all threads was faster than several at once

    def load(self, path: Path) -> "OpenVinoNetwork":
        fp32 = functools.cache(lambda: self._load_or_compile(path, "fp32"))

        def check(compiled: Any) -> None:
            OpenVinoNetwork(path, compiled, fp32).check_matches_fp32()

        if self._precision == "fp32":
            return OpenVinoNetwork(path, fp32(), fp32)
        try:
            return OpenVinoNetwork(path, self._load_or_compile(path, "bf16", check), fp32)
        except BundleError as error:
            if self._option != "auto":
                raise
            network = OpenVinoNetwork(path, fp32(), fp32)
            warnings.warn(f"{error}; it is computed in fp32", RuntimeWarning, stacklevel=2)
            return network

    def _load_or_compile(self, path: Path, precision: str, check: Callable[[Any], None] = lambda compiled: None) -> Any:
        """Return a compiled network from the cache, or compile it, check it and put it into the cache."""
        name = self._cache_name(path, precision)
        compiled = self._from_cache(name, precision) if name else None
        if compiled is None:
            compiled = self._compile(path, precision)
            check(compiled)
            if name:
                self._cache.put(name, compiled.export_model().getvalue())
        return compiled

    def _cache_name(self, path: Path, precision: str) -> str | None:
        """Return a name with the hash of all inputs of the compilation; None for networks that are not cached."""
        try:
            files = [path, *([path.with_name("decoder.onnx")] if path.name == INT8_DECODER else [])]
            has_data = path.with_name(f"{path.name}.data").exists()
            if has_data or sum(file.stat().st_size for file in files) > MAX_CACHED_NBYTES:
                return None
            digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        machine = (import_openvino().get_version(), processor(), *capabilities(), precision)
        digest.update("\n".join(machine).encode())
        return f"{path.stem}-{digest.hexdigest()[:24]}.blob"

    def _from_cache(self, name: str, precision: str) -> Any | None:
        contents = self._cache.get(name)
        if contents is None:
            return None
        try:
            return _core().import_model(contents, "CPU", self._properties_in(precision))
        except RuntimeError:  # another build of OpenVINO has written it
            return None

    def _compile(self, path: Path, precision: str) -> Any:
        openvino = import_openvino()
        try:
            # `read_model` would try all frontends on a broken file, and each of them prints an error.
            frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            network = frontend.convert(frontend.load(str(path)))
            # Shapes stay dynamic: a compilation for each shape would take long, and it would hardly be faster.
            return _core().compile_model(network, "CPU", self._properties_in(precision))
        except Exception as error:  # the exceptions of OpenVINO have no other common base
            raise BundleError(f"{path} cannot be opened by OpenVINO {version()}: {reason_of(error)}") from error

    def _properties_in(self, precision: str) -> dict[str, Any]:
        # Without the hint OpenVINO would choose the fastest precision of the processor.
        return self._properties | {"INFERENCE_PRECISION_HINT": HINTS[precision]}


class OpenVinoBf16(OpenVino):
    """OpenVINO where it computes in bfloat16, which is faster than ONNX Runtime; else ONNX Runtime is faster."""

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        if precision not in {"auto", "bf16"}:
            return f"precision is {precision}"
        if not may_have_bfloat16():
            return "this processor has no bfloat16"
        return OpenVino.unavailable_reason(bundle, index, "bf16")


class OpenVinoNetwork:
    """A compiled network. Each call has its own inference request, so several threads may run the network.

    Arguments:
        path: the ONNX file.
        compiled: the network in the precision of the backend.
        fp32: returns the network in fp32, which computes narrow images.
    """

    def __init__(self, path: Path, compiled: Any, fp32: Callable[[], Any]) -> None:
        self.path, self._compiled, self._fp32 = path, compiled, fp32
        self._inputs = [port.names for port in compiled.inputs]
        self._outputs = [port.names for port in compiled.outputs]

    def run(self, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        # OpenVINO would compute with an empty input where an input is missing.
        if len(inputs) != len(self._inputs) or any(names.isdisjoint(inputs) for names in self._inputs):
            expected = ", ".join("/".join(sorted(names)) for names in self._inputs)
            raise BundleError(f"{self.path} takes {expected}, not {', '.join(inputs)}")
        if is_narrow(inputs):
            return self._infer(self._fp32(), inputs)
        outputs = self._infer(self._compiled, inputs)
        return self._infer(self._fp32(), inputs) if is_narrow(outputs) else outputs

    def _infer(self, compiled: Any, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        _core()  # raises after a fork
        try:
            outputs = compiled.create_infer_request().infer(dict(inputs), share_inputs=True)
        except Exception as error:  # the exceptions of OpenVINO have no other common base
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise BundleError(f"{self.path} cannot run on {shapes}: {reason_of(error)}") from error
        return {name: outputs[n] for n, names in enumerate(self._outputs) for name in names}

    def check_matches_fp32(self) -> None:
        """Compare the outputs for noise of 64x64 with the outputs in fp32.

        Raises:
            BundleError: an output differs by more than `MAX_BF16_ERROR`.
        """
        inputs = self._noise()
        outputs, expected = (self._infer(compiled, inputs) for compiled in (self._compiled, self._fp32()))
        for name, values in expected.items():
            if not np.square(outputs[name] - values).mean() <= MAX_BF16_ERROR**2 * np.square(values).mean():
                library = f"OpenVINO {version()} on {processor()}"
                raise BundleError(f"the output {name} of {self.path} in bfloat16 differs from fp32, by {library}")

    def _noise(self, side: int = 64) -> dict[str, F32Array]:
        """Return inputs by name: ones if an input has one number for each image, else noise."""
        rng = np.random.default_rng(1)
        inputs = {}
        for port in self._compiled.inputs:
            lengths = [*port.partial_shape]
            if any(length.is_dynamic for length in lengths[1:2]):
                raise BundleError(
                    f"{self.path} cannot be tested in bfloat16: {port.any_name} has any number of channels"
                )
            sizes = [1, 0, *[side] * len(lengths)]
            shape = [n if length.is_dynamic else length.get_length() for n, length in zip(sizes, lengths, strict=False)]
            values = rng.standard_normal(shape) if len(shape) > 1 else np.ones(shape)
            inputs[port.any_name] = values.astype(np.float32)
        return inputs


def is_narrow(arrays: Mapping[str, F32Array]) -> bool:
    """Return whether planes (N, C, H, W) are so narrow that an inner layer may have a single column."""
    return any(array.ndim == 4 and array.shape[3] < MIN_BF16_WIDTH for array in arrays.values())


def reason_of(error: Exception) -> str:
    """Return the message of an error of OpenVINO in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([line for line in lines if not line.startswith(NOISE_PREFIXES)] or lines)
