"""The door to a CUDA device: memory, order, kernels, graphs. The run time's only import of cuda-core.

All work is queued on a stream. Nothing here waits for it, but the `sync` of an event that `record_event` returns.
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
    """A C-contiguous array in device memory, kept alive by `owner`; given out through both array interfaces."""

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
    """Work that was recorded once, to be queued as a whole."""

    def launch(self, stream: Stream) -> None:
        """Queue it."""


class Device(Protocol):
    """What the run time needs of a device; arrays and streams are its own."""

    name: str
    stream: Stream

    def set_current(self) -> None:
        """Make the device the calling thread's."""

    def array_of(self, array: Any) -> DeviceArray:
        """Return a foreign device array as ours; no copy is made."""

    def stream_of(self, stream: Any) -> Stream:
        """Return a foreign stream as ours."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Return device memory, not initialised."""

    def staging(self, shape: tuple[int, ...], dtype: DTypeLike) -> AnyArray:
        """Return page-locked host memory, not initialised: copies from and to it do not block."""

    def upload(self, target: DeviceArray, source: AnyArray, stream: Stream) -> None:
        """Queue a copy of C-contiguous staging memory to the start of an array."""

    def download(self, target: AnyArray, source: DeviceArray, stream: Stream) -> None:
        """Queue a copy of the start of an array to C-contiguous staging memory."""

    def launch(self, launch: Launch, stream: Stream) -> None:
        """Queue a kernel."""

    def capture(self, record: Callable[[Stream], None]) -> Graph:
        """Return a graph of what `record` queues on the stream that it is handed."""

    def record_event(self, stream: Stream) -> Any:
        """Return an event: its `sync` waits until all that has been queued on the stream so far is done."""

    def wait(self, stream: Stream, other: Stream) -> None:
        """Let a stream wait, on the device, for all that has been queued on another so far."""


class CudaDevice:
    """A GPU's primary context with one stream of its own, which never waits for the default stream."""

    def __init__(self, index: int = 0) -> None:
        self._core = import_cuda()
        with cuda_errors_as(f"GPU {index}"):
            self._device = self._core.Device(index)
            self._device.set_current()
            self.stream = self._device.create_stream()
            self.name = f"{self._device.name}, compute capability {'.'.join(map(str, self._device.compute_capability))}"
            self._page_locked = self._core.LegacyPinnedMemoryResource()
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

    def staging(self, shape: tuple[int, ...], dtype: DTypeLike) -> AnyArray:
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        with cuda_errors_as(f"{nbytes} bytes of page-locked memory"):
            buffer = self._page_locked.allocate(nbytes)
        block = (ctypes.c_byte * nbytes).from_address(int(buffer.handle))
        block.owner = buffer  # type: ignore[attr-defined]  # lives as long as the array
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
            ends = [self._core.Buffer.from_handle(pointer, nbytes) for pointer in (target, source)]
            ends[0].copy_from(ends[1], stream=stream)

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
        """Return the seconds that the device takes for what `queue` queues on its stream, by its own clock; waits."""
        timed = self._core.EventOptions(timing_enabled=True)
        with cuda_errors_as("timing"):
            started = self.stream.record(options=timed)
            queue()
            ended = self.stream.record(options=timed)
            ended.sync()
            return float(ended - started) / 1000

    def wait(self, stream: Stream, other: Stream) -> None:
        with cuda_errors_as("one stream's wait for another"):
            stream.wait(other)


def import_cuda() -> ModuleType:
    """Return cuda-core's module; `DeviceError` says which extra to install where it is missing or broken."""
    try:
        import cuda.core
        import cuda.core.utils
    except ImportError as error:
        raise DeviceError(f"GPUs are reached through cuda-core ({error}): {install_command('gpu')}") from error
    return cuda.core


def fatbin() -> bytes:
    """Return the compiled kernels; `DeviceError` where the package was installed without them."""
    path = Path(str(resources.files("sdtrt.kernels"))) / FATBIN
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeviceError(f"the CUDA kernels are missing ({error}); compile them with: make kernels") from error


@contextmanager
def cuda_errors_as(what: str) -> Iterator[None]:
    """Turn whatever the driver raises into a `DeviceError` that says what was being done."""
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:  # of the driver, of cuda-core, or of its search for libraries: no common base
        raise DeviceError(f"{what}: {error}") from error


def stream_of(stream: Any) -> Stream:
    """Return a foreign stream, an object with `__cuda_stream__` or the handle of one as an integer, as cuda-core's.

    Raises `TypeError` for anything else, `ValueError` for a number that is no handle. The handles of the default stream
    are refused: it would wait for all others.
    """
    if isinstance(stream, bool) or not (isinstance(stream, int) or hasattr(stream, "__cuda_stream__")):
        raise TypeError(
            f"stream is {stream!r:.80} ({type(stream).__name__}), expected an object with __cuda_stream__, "
            "or the handle of a stream as an integer"
        )
    handle = stream if isinstance(stream, int) else handle_of(stream)
    if not 0 <= handle < 1 << 64:
        raise ValueError("stream is out of the range of handles, expected that of a stream that you have made")
    if handle in DEFAULT_STREAMS:
        raise ValueError(
            f"stream {handle} is the default stream, which waits for all others; expected one that you have made"
        )
    return import_cuda().Stream.from_handle(handle)


def handle_of(stream: Stream) -> int:
    """Return the address of a stream, for libraries that take integers."""
    try:
        return int(stream.__cuda_stream__()[1])
    except (TypeError, ValueError, LookupError) as error:
        raise TypeError(
            f"stream is a {type(stream).__name__} whose __cuda_stream__ gives no version and handle: {error}"
        ) from error


def array_of(array: Any) -> DeviceArray:
    """Return a foreign device array (`__cuda_array_interface__` or DLPack) as ours; no copy is made.

    Raises `TypeError` for anything else, `ValueError` if it is not C-contiguous or cannot be written.
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
        raise TypeError(f"a {type(array).__name__} in host memory, expected one on the device")
    if view.readonly:
        raise ValueError(f"a read-only device array of shape {view.shape}, expected one that can be written")
    expected = np.cumprod((1, *view.shape[:0:-1]))[::-1]
    strides = view.strides or expected
    if any(have != want for have, want, n in zip(strides, expected, view.shape, strict=True) if n > 1):
        raise ValueError(f"a device array of shape {view.shape} with strides {strides}: expected a C-contiguous one")
    return DeviceArray(int(view.ptr), tuple(view.shape), np.dtype(view.dtype), (array, view))
