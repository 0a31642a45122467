"""ONNX Runtime on the CPU and on a GPU. Only this module of the run time imports `onnxruntime`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import images_at_once, int8_unavailable_reason, thread_count
from sdtrt.engine.networks.backends.engine_index import onnx_files
from sdtrt.engine.networks.backends.gpu import gpu_unavailable_reason
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels.device import CudaDevice, Device, DeviceArray, Stream, handle_of
from sdtrt.process.environment import set_default
from sdtrt.process.install import install_command
from sdtrt.process.threads import available_cpus

CUDA = "CUDAExecutionProvider"
MAX_BATCH = 8
# ONNX Runtime searches for convolution algorithms whenever shapes change (microsoft/onnxruntime, issue 23006). By
# default the search is exhaustive: on an H200 a decode of a new shape took 0.3 s.
SEARCH = "HEURISTIC"
ELEMENT_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}


def import_onnxruntime() -> ModuleType:
    """Return the module.

    Raises:
        DeviceError: the module is missing or broken; the message has the command that installs it.
    """
    # Since 1.32 its import creates an identifier of the device, and each process reports it to the makers.
    set_default("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime is needed to run networks ({error}); "
            f"install it with: {install_command('cpu')}; or beside an NVIDIA GPU: {install_command('gpu')}"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def open_session(path: Path, threads: int | None, providers: list[Any]) -> Any:
    """Return an inference session.

    Raises:
        BundleError: ONNX Runtime cannot open the file.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    # Shapes change from image to image, so a memory plan for one shape is useless for the next.
    options.enable_mem_pattern = False
    # Threads that spin while they wait would take the cores from the entropy coder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # the exceptions of ONNX Runtime have no other common base
        raise BundleError(f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {error}") from error


class OrtNetwork:
    """An inference session on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self._path = path
        self._session = open_session(path, threads, ["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # the exceptions of ONNX Runtime have no other common base
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise BundleError(f"{self._path} cannot run on {shapes}: {error}") from error
        return dict(zip(self._outputs, outputs, strict=True))


class OrtCpu:
    """ONNX Runtime on the CPU; see `Backend`.

    Arguments:
        threads: threads of each network; None is one for each core that the process may use.
        int8: whether the faithful decoder runs in eight bits where a file allows it.
    """

    name = "ort"
    device = "cpu"

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        if precision == "bf16":
            return "ONNX Runtime computes in fp32 on the CPU"
        if precision == "int8" and (reason := int8_unavailable_reason(bundle)):
            return reason
        try:
            import_onnxruntime()
        except DeviceError as error:
            return str(error)
        return ""

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> CpuPipeline:
        return CpuPipeline(cls(threads, int8=precision == "int8"), tiled)

    @staticmethod
    def version() -> str:
        return f"ONNX Runtime {import_onnxruntime().__version__}"

    def __init__(self, threads: int | None = None, *, int8: bool = False) -> None:
        import_onnxruntime()
        self._threads, self.int8 = thread_count(threads), int8

    def load(self, path: Path) -> OrtNetwork:
        return OrtNetwork(path, self._threads)

    def for_batches(self) -> tuple["OrtCpu", int]:
        # A network for each image is faster than several threads for one network.
        count = images_at_once(self._threads)
        if count == 1:
            return self, 1
        return OrtCpu(max(1, (self._threads or available_cpus()) // count), int8=self.int8), count


class OrtDeviceNetwork:
    """An inference session that reads and writes device memory.

    Arguments:
        path: the ONNX file.
        provider: the execution provider, which has the stream among its options.
        memory: the kind and the number of the device whose memory is bound.

    Raises:
        BundleError: ONNX Runtime cannot open the file.
        DeviceError: ONNX Runtime cannot use the provider.
    """

    capturable = False  # a run may allocate memory
    largest_batch = MAX_BATCH

    def __init__(self, path: Path, provider: Any, memory: tuple[str, int]) -> None:
        self._path, self._memory = path, memory
        self._session = open_session(path, thread_count(None), [provider])
        if self._session.get_providers()[0] != (provider if isinstance(provider, str) else provider[0]):
            raise DeviceError(f"{path.name} cannot run on the GPU: ONNX Runtime could not load its CUDA libraries")
        self._inputs = [value.name for value in self._session.get_inputs()]
        values = [*self._session.get_inputs(), *self._session.get_outputs()]
        self.dtypes = {value.name: ELEMENT_TYPES[value.type] for value in values}
        self._options = import_onnxruntime().RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        binding = self._session.io_binding()
        for name, array in arrays.items():
            bind = binding.bind_input if name in self._inputs else binding.bind_output
            bind(name, *self._memory, array.dtype.type, array.shape, array.pointer)
        bound = dict(arrays)  # `arrays` may change after the call

        def run(stream: Stream) -> None:
            try:
                self._session.run_with_iobinding(binding, self._options)
            except Exception as error:  # the exceptions of ONNX Runtime have no other common base
                shapes = ", ".join(f"{name} {array.shape}" for name, array in bound.items())
                raise BundleError(f"{self._path} cannot run on {shapes}: {error}") from error

        return run


class OrtCuda:
    """ONNX Runtime on a GPU, with half-precision networks where the bundle has them; see `Backend`."""

    name = "ort"
    device = "cuda"

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        with suppress(DeviceError):
            if CUDA in import_onnxruntime().get_available_providers():
                return gpu_unavailable_reason(index, precision)
        without_cpu = f"in an environment without the extra cpu: {install_command('gpu')}"
        return f"no ONNX Runtime with CUDA is installed; install it {without_cpu}"

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> GpuPipeline:
        device = CudaDevice(index)
        return GpuPipeline(device, cls(device, index), tiled)

    @staticmethod
    def version() -> str:
        return OrtCpu.version()

    def __init__(self, device: Device, index: int) -> None:
        import_onnxruntime().preload_dlls()
        self._memory = "cuda", index
        stream = str(handle_of(device.stream))
        self._provider = CUDA, {"device_id": index, "user_compute_stream": stream, "cudnn_conv_algo_search": SEARCH}

    def load(self, bundle: Bundle, network: str) -> OrtDeviceNetwork:
        path, *_ = [bundle.file(name) for name in onnx_files(bundle, network)]
        return OrtDeviceNetwork(path, self._provider, self._memory)
