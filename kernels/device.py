"""Access to a CUDA device: memory, streams, kernels and graphs. Only this module imports cuda-core at run time.

All work is queued on a stream. Only the `sync` of an event, which `record_event` returns, waits for it.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from sdtrt._arrays import AnyArray
from sdtrt.errors import DeviceError
from sdtrt.kernels.launches import Launch
from sdtrt.process.install import install_command

FATBIN = "data/kernels.fatbin"
ALIGNMENT = 256  # bytes, of every allocation
DEFAULT_STREAMS = {0, 1}  # handles of the default stream: CUDA's null, and cudaStreamLegacy

Stream = Any  # cuda-core's Stream, or its GraphBuilder while a graph is captured


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """A C-contiguous array in device memory, with `__cuda_array_interface__` and DLPack; `owner` keeps it alive."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any = field(repr=False)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }

    def __dlpack__(self, **options: Any) -> Any:
        return self._view().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._view().__dlpack_device__()

    def _view(self) -> Any:
        core = import_cuda()
        buffer = core.Buffer.from_handle(self.pointer, self.nbytes, owner=self.owner)
        return core.utils.StridedMemoryView.from_buffer(buffer, self.shape, dtype=self.dtype)


class Graph(Protocol):
    """A recorded sequence of work, see `Device.capture`."""

    def launch(self, stream: Stream) -> None:
        """Queue all the work of the graph."""


class Device(Protocol):
    """The operations of a device. Arrays and streams must come from the same device."""

    name: str
    stream: Stream

    def set_current(self) -> None:
        """Make this the current device of the calling thread."""

    def array_of(self, array: Any) -> DeviceArray:
        """Return the array of another library as a `DeviceArray`, without a copy."""

    def stream_of(self, stream: Any) -> Stream:
        """Return the stream of another library as a `Stream`."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Return uninitialised device memory."""

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> AnyArray:
        """Return uninitialised pinned (page-locked) host memory. Copies from and to it do not block."""

    def upload(self, target: DeviceArray, source: AnyArray, stream: Stream) -> None:
        """Queue a copy of C-contiguous pinned memory to the start of an array."""

    def download(self, target: AnyArray, source: DeviceArray, stream: Stream) -> None:
        """Queue a copy of the start of an array to C-contiguous pinned memory."""

    def launch(self, launch: Launch, stream: Stream) -> None:
        """Queue a kernel."""

    def capture(self, record: Callable[[Stream], None]) -> Graph:
        """Return a graph of the work that `record` queues on the stream it is called with."""

    def record_event(self, stream: Stream) -> Any:
        """Return an event. Its `sync` blocks until all work queued on the stream so far is done."""

    def wait(self, stream: Stream, awaited: Stream) -> None:
        """Let `stream` wait, on the device, for all work queued on `awaited` so far."""


class CudaDevice:
    """The primary context of a GPU, and a stream of our own that does not synchronise with the default stream."""

    def __init__(self, index: int = 0) -> None:
        self._core = import_cuda()
        with cuda_errors_as(f"GPU {index}"):
            self._device = self._core.Device(index)
            self._device.set_current()
            self.stream = self._device.create_stream()
            self.name = f"{self._device.name}, compute capability {'.'.join(map(str, self._device.compute_capability))}"
            self._pinned_memory = self._core.LegacyPinnedMemoryResource()
            self._program = self._core.ObjectCode.from_fatbin(fatbin())
        self._kernels: dict[str, Any] = {}

    def set_current(self) -> None:
        self._device.set_current()

    def array_of(self, array: Any) -> DeviceArray:
        return array_of(array)

    def stream_of(self, stream: Any) -> Stream:
        return stream_of(stream)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        with cuda_errors_as(f"{nbytes} bytes of device memory"):
            buffer = self._device.allocate(-nbytes % ALIGNMENT + nbytes, stream=self.stream)
        return DeviceArray(int(buffer.handle), tuple(shape), dtype, buffer)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> AnyArray:
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        with cuda_errors_as(f"{nbytes} bytes of pinned memory"):
            buffer = self._pinned_memory.allocate(nbytes)
        block = (ctypes.c_byte * nbytes).from_address(int(buffer.handle))
        block.owner = buffer  # type: ignore[attr-defined]  # keeps the memory alive as long as the array
        return np.ctypeslib.as_array(block).view(dtype).reshape(shape)

    def upload(self, target: DeviceArray, source: AnyArray, stream: Stream) -> None:
        self._copy(target.pointer, source.ctypes.data, source.nbytes, stream)

    def download(self, target: AnyArray, source: DeviceArray, stream: Stream) -> None:
        self._copy(target.ctypes.data, source.pointer, target.nbytes, stream)

    def copy(self, target: DeviceArray, source: DeviceArray, stream: Stream) -> None:
        """Queue a copy of a whole array on the device."""
        self._copy(target.pointer, source.pointer, source.nbytes, stream)

    def _copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        with cuda_errors_as(f"copy of {nbytes} bytes"):
            target_buffer, source_buffer = (
                self._core.Buffer.from_handle(pointer, nbytes) for pointer in (target, source)
            )
            target_buffer.copy_from(source_buffer, stream=stream)

    def launch(self, launch: Launch, stream: Stream) -> None:
        with cuda_errors_as(str(launch)):
            if launch.kernel not in self._kernels:
                self._kernels[launch.kernel] = self._program.get_kernel(launch.kernel)
            config = self._core.LaunchConfig(grid=launch.grid, block=launch.block)
            self._core.launch(stream, config, self._kernels[launch.kernel], *launch.arguments)

    def capture(self, record: Callable[[Stream], None]) -> Graph:
        with cuda_errors_as("capture of a graph"):
            builder = self.stream.create_graph_builder().begin_building("thread_local")
            try:
                record(builder)
            finally:
                builder.end_building()
            return builder.complete()

    def record_event(self, stream: Stream) -> Any:
        with cuda_errors_as("an event on a stream"):
            return stream.record()

    def seconds(self, queue: Callable[[], None]) -> float:
        """Return the seconds on the device's clock of the work that `queue` queues on `self.stream`. Blocks."""
        options = self._core.EventOptions(timing_enabled=True)
        with cuda_errors_as("timing"):
            start = self.stream.record(options=options)
            queue()
            end = self.stream.record(options=options)
            end.sync()
            return float(end - start) / 1000

    def wait(self, stream: Stream, awaited: Stream) -> None:
        with cuda_errors_as("a stream's wait for another stream"):
            stream.wait(awaited)


def import_cuda() -> ModuleType:
    """Return the module `cuda.core`; `DeviceError` with a command to install it if the import fails."""
    try:
        import cuda.core
        import cuda.core.utils
    except ImportError as error:
        raise DeviceError(f"a GPU needs cuda-core ({error}): {install_command('gpu')}") from error
    return cuda.core


def fatbin() -> bytes:
    """Return the compiled kernels; `DeviceError` if the package was installed without them."""
    path = Path(str(resources.files("sdtrt.kernels"))) / FATBIN
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeviceError(f"the CUDA kernels are missing ({error}); compile them with: make kernels") from error


@contextmanager
def cuda_errors_as(operation: str) -> Iterator[None]:
    """Convert every exception of CUDA to a `DeviceError` whose message begins with `operation`."""
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:  # the driver, cuda-core and its search for libraries have no common base class
        raise DeviceError(f"{operation}: {error}") from error


def stream_of(stream: Any) -> Stream:
    """Return the stream of another library as a stream of cuda-core.

    Arguments:
        stream: an object with `__cuda_stream__`, or the handle of a stream as an integer.

    Raises:
        TypeError: `stream` is neither.
        ValueError: the handle is out of range, or that of the default stream, which would wait for all other streams.
    """
    if isinstance(stream, bool) or not (isinstance(stream, int) or hasattr(stream, "__cuda_stream__")):
        raise TypeError(
            f"stream is {stream!r:.80} ({type(stream).__name__}), expected an object with __cuda_stream__, "
            "or the handle of a stream as an integer"
        )
    handle = stream if isinstance(stream, int) else handle_of(stream)
    if not 0 <= handle < 1 << 64:
        raise ValueError("stream is outside of the range of handles, expected the handle of a stream that you created")
    if handle in DEFAULT_STREAMS:
        raise ValueError(
            f"stream {handle} is the default stream, which waits for all others; expected a stream that you created"
        )
    return import_cuda().Stream.from_handle(handle)


def handle_of(stream: Stream) -> int:
    """Return the handle of a stream, for libraries that take integers."""
    try:
        return int(stream.__cuda_stream__()[1])
    except (TypeError, ValueError, LookupError) as error:
        raise TypeError(
            f"stream is a {type(stream).__name__} whose __cuda_stream__ does not return (version, handle): {error}"
        ) from error


def array_of(array: Any) -> DeviceArray:
    """Return the device array of another library as a `DeviceArray`, without a copy.

    Arguments:
        array: an object with `__cuda_array_interface__` or DLPack.

    Raises:
        TypeError: `array` has neither, or is in host memory.
        ValueError: `array` is not C-contiguous, or read-only.
    """
    if isinstance(array, DeviceArray):
        return array
    if not hasattr(array, "__cuda_array_interface__") and not hasattr(array, "__dlpack__"):
        raise TypeError(
            f"array is {array!r:.80} ({type(array).__name__}), expected a device array "
            "with __cuda_array_interface__ or DLPack"
        )
    with cuda_errors_as(f"a {type(array).__name__}"):
        view = import_cuda().utils.StridedMemoryView.from_any_interface(array, stream_ptr=-1)
    if not view.is_device_accessible:
        raise TypeError(f"a {type(array).__name__} in host memory, expected an array on the device")
    if view.readonly:
        raise ValueError(f"a read-only device array of shape {view.shape}, expected a writable one")
    contiguous = np.cumprod((1, *view.shape[:0:-1]))[::-1]
    strides = view.strides or contiguous
    if any(stride != expected for stride, expected, n in zip(strides, contiguous, view.shape, strict=True) if n > 1):
        raise ValueError(f"a device array of shape {view.shape} with strides {strides}: expected a C-contiguous one")
    return DeviceArray(int(view.ptr), tuple(view.shape), np.dtype(view.dtype), (array, view))
