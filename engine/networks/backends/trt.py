"""TensorRT on a GPU. The shape of the arrays decides which engine of a network runs."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt.atomic import replace_file
from sdtrt.engine.networks.backends.engine_index import (
    EngineIndex,
    EngineRecord,
    engine_states,
    kernels_file,
    networks_of,
)
from sdtrt.engine.networks.backends.gpu import gpu_unavailable_reason
from sdtrt.engine.networks.backends.shapes import ShapeRange
from sdtrt.engine.networks.backends.trt_library import Library, Log, import_tensorrt, install_hint, installed
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels.device import CudaDevice, Device, DeviceArray, Stream, handle_of


class TensorRt:
    """TensorRT on a GPU; see `Backend`.

    The contexts of all engines share one block of memory, since they run on one stream, one after the other.
    """

    name = "trt"
    device = "cuda"

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        if not installed():
            return f"no TensorRT is installed; {install_hint()}"
        if reason := gpu_unavailable_reason(index, precision):
            return reason
        try:
            for network in networks_of(bundle):
                if network != "unet":  # only denoising needs it
                    usable_engines(bundle, network)
        except (BundleError, DeviceError) as error:
            return str(error)
        return ""

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> GpuPipeline:
        device = CudaDevice(index)
        return GpuPipeline(device, cls(device), tiled)

    @staticmethod
    def version() -> str:
        return ", ".join(f"{name} {import_tensorrt(name).version}" for name in installed())

    def __init__(self, device: Device) -> None:
        self._device = device
        self._block: DeviceArray | None = None

    def load(self, bundle: Bundle, network: str) -> "TrtNetwork":
        return TrtNetwork(self, bundle, network)

    def memory(self, nbytes: int) -> DeviceArray:
        """Return a shared block of at least `nbytes`. Contexts that hold a smaller block keep it."""
        if self._block is None or self._block.nbytes < nbytes:
            self._block = self._device.empty((nbytes,), np.uint8)
        return self._block


class TrtNetwork:
    """The valid engines of one network, each deserialised at its first use."""

    capturable = True

    def __init__(self, backend: TensorRt, bundle: Bundle, network: str) -> None:
        self._backend, self._bundle, self._network = backend, bundle, network
        self._folder = EngineIndex.of(bundle).folder
        self._records = usable_engines(bundle, network)
        self._engines: dict[str, Engine] = {}
        self.largest_batch = max(ShapeRange.parse(record.key.shapes).max[0] for record in self._records)
        self.dtypes = self._engine(self._records[0]).dtypes

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        batch, height, width = self._image_sizes(arrays)
        size = (batch, width, height)
        record = next((r for r in self._records if ShapeRange.parse(r.key.shapes).covers(size)), None)
        if record is None:
            ranges = ", ".join(r.key.shapes for r in self._records)
            raise BundleError(
                f"{self._bundle.name}'s {self._network} has no engine for {width}x{height}*{batch}, but for {ranges}; "
                f"run: sdtrt engines build {self._bundle.cli_name} --shapes {width}x{height}*{batch}"
            )
        engine = self._engine(record)
        return engine.bind(arrays, self._backend.memory(engine.memory_nbytes))

    def _image_sizes(self, arrays: Mapping[str, DeviceArray]) -> tuple[int, int, int]:
        """Return the number of images, their height and their width. The arrays of a UNet have latents only."""
        if "pixels" in arrays:
            batch, _, height, width = arrays["pixels"].shape
            return batch, height, width
        batch, _, *sides = arrays["latents"].shape
        height, width = (side * self._bundle.latent_profile.downscale for side in sides)
        return batch, height, width

    def _engine(self, record: EngineRecord) -> "Engine":
        if record.file not in self._engines:
            self._engines[record.file] = Engine(self._folder / record.file, import_tensorrt(record.key.builder))
        return self._engines[record.file]


class Engine:
    """A deserialised engine.

    Attributes:
        dtypes: the types of inputs and outputs, by name.
        memory_nbytes: the size of the memory that each context needs.

    Raises:
        BundleError: the library cannot load the file; the message quotes the library.
    """

    def __init__(self, path: Path, library: Library) -> None:
        self._trt, self._log, self._path, self._name = library.module, Log(library.module), path, path.name
        self._runtime = self._trt.Runtime(self._log.logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise BundleError(f"{library.name} {library.version} cannot load {path.name}: {self._log}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.dtypes = {name: np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        self.memory_nbytes = int(self._engine.device_memory_size_v2)

    def bind(self, arrays: Mapping[str, DeviceArray], memory: DeviceArray) -> Callable[[Stream], None]:
        context = self._context()
        for name, array in arrays.items():
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            if is_input and not context.set_input_shape(name, array.shape):
                raise BundleError(f"{self._name} does not take {name} of shape {array.shape}: {self._log}")
            context.set_tensor_address(name, array.pointer)
        for name, array in arrays.items():
            if tuple(context.get_tensor_shape(name)) != array.shape:
                raise BundleError(
                    f"{self._name} gives {name} of shape {context.get_tensor_shape(name)}, expected {array.shape}"
                )
        context.set_device_memory(memory.pointer, self.memory_nbytes)
        return BoundContext(self, context, memory, dict(arrays))

    def _context(self) -> Any:
        """Return a context without memory of its own. TensorRT for RTX compiles all kernels here."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(self._engine, "create_runtime_config"):
            return self._checked_context(self._engine.create_execution_context(strategy))
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if not hasattr(config, "create_runtime_cache"):
            return self._checked_context(self._engine.create_execution_context(config))
        eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        cache = config.create_runtime_cache()
        compiled = kernels_file(self._path)
        if compiled.is_file():
            cache.deserialize(compiled.read_bytes())
        config.set_runtime_cache(cache)
        context = self._checked_context(self._engine.create_execution_context(config))
        with contextlib.suppress(OSError):  # the cache only makes the next process faster
            replace_file(compiled, bytes(cache.serialize()))
        return context

    def _checked_context(self, context: Any) -> Any:
        if context is None:
            raise DeviceError(f"{self._name} cannot be run: {self._log}")
        return context

    def failure(self) -> DeviceError:
        return DeviceError(f"{self._name} did not run: {self._log}")


@dataclass(frozen=True, slots=True)
class BoundContext:
    """A context, its memory and its arrays. A call queues one run of the engine."""

    engine: Engine
    context: Any
    memory: DeviceArray
    arrays: dict[str, DeviceArray]

    def __call__(self, stream: Stream) -> None:
        if not self.context.execute_async_v3(handle_of(stream)):
            raise self.engine.failure()


def usable_engines(bundle: Bundle, network: str) -> list[EngineRecord]:
    """Return the valid engines of a network; the engine for the smallest range of sizes comes first.

    Raises:
        BundleError: no engine is valid; the message has the fault of each engine.
    """
    states = [pair for pair in engine_states(bundle, EngineIndex.of(bundle)) if pair[0].key.network == network]
    valid = [engine for engine, state in states if state.kind == "valid"]
    if not valid:
        faults = [f"{engine.file} is {state.kind}: {state.reason}" for engine, state in states] or ["none was built"]
        raise BundleError(
            f"no engine of {bundle.name}'s {network} ({'; '.join(faults)}); run: sdtrt engines build {bundle.cli_name}"
        )
    return sorted(valid, key=lambda engine: ShapeRange.parse(engine.key.shapes).extent)
