"""An emulated device in the memory of the host: kernels are compiled for the host, and queued work runs lazily.

Work runs only when an event is waited for. A result that is read earlier is still poison, as it may be on a GPU.
`install` replaces GPU 0 by the emulated device for the rest of the process.
"""

import ctypes
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from host_kernels import Host, compiled, compiler
from numpy.typing import DTypeLike, NDArray

from sdtrt.engine.networks import pipeline
from sdtrt.engine.networks.backends import gpu
from sdtrt.engine.networks.backends.engine_index import onnx_files
from sdtrt.engine.networks.backends.ort import OrtCuda, OrtDeviceNetwork
from sdtrt.engine.networks.backends.trt import TensorRt
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import DeviceError
from sdtrt.kernels import device as cuda
from sdtrt.kernels.device import DeviceArray
from sdtrt.kernels.launches import Launch

POISON = 0xA5
NAME = "a device that is emulated in this machine's memory"

Work = Callable[[], None]


class Queue:
    """A stream, or a graph during its capture."""

    def __init__(self) -> None:
        self.pending: deque[Work] = deque()

    def enqueue(self, work: Work) -> None:
        self.pending.append(work)


class Stream(Queue):
    def __init__(self) -> None:
        super().__init__()
        self.num_queued = self.num_done = 0

    def enqueue(self, work: Work) -> None:
        super().enqueue(work)
        self.num_queued += 1

    def flush(self, count: int) -> None:
        """Run pending work until `count` of all work that was ever queued is done."""
        while self.num_done < count:
            work = self.pending.popleft()
            self.num_done += 1
            work()


class Event:
    def __init__(self, stream: Stream) -> None:
        self._stream, self._count = stream, stream.num_queued

    def sync(self) -> None:
        self._stream.flush(self._count)


class EmulatedGraph:
    def __init__(self, sequence: list[Work]) -> None:
        self._sequence = sequence
        self.launches = 0

    def launch(self, stream: Stream) -> None:
        self.launches += 1
        for work in self._sequence:
            stream.enqueue(work)


class EmulatedDevice:
    """An implementation of `sdtrt.kernels.device.Device`; `host` runs its kernels."""

    name = "this machine's memory"

    def __init__(self, host: Host) -> None:
        self._host = host
        self.stream = Stream()
        self.graphs: list[EmulatedGraph] = []

    def set_current(self) -> None:
        pass

    def array_of(self, array: Any) -> DeviceArray:
        if not isinstance(array, DeviceArray):
            raise TypeError(f"a {type(array).__name__} is no array of this device")
        return array

    def stream_of(self, stream: Any) -> Stream:
        if stream == 0:
            raise ValueError("stream 0 is the default stream")
        if not isinstance(stream, Stream):
            raise TypeError(f"a {type(stream).__name__} is no stream of this device")
        return stream

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        array = self.pinned(shape, dtype)
        return DeviceArray(array.ctypes.data, tuple(shape), np.dtype(dtype), array)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.full(nbytes, POISON, np.uint8).view(dtype).reshape(shape)

    def upload(self, target: DeviceArray, source: NDArray[Any], stream: Queue) -> None:
        assert source.flags.c_contiguous
        assert source.nbytes <= target.nbytes
        stream.enqueue(lambda: ctypes.memmove(target.pointer, source.ctypes.data, source.nbytes) and None)

    def download(self, target: NDArray[Any], source: DeviceArray, stream: Queue) -> None:
        assert target.flags.c_contiguous
        assert target.nbytes <= source.nbytes
        stream.enqueue(lambda: ctypes.memmove(target.ctypes.data, source.pointer, target.nbytes) and None)

    def copy(self, target: DeviceArray, source: DeviceArray, stream: Queue) -> None:
        stream.enqueue(lambda: ctypes.memmove(target.pointer, source.pointer, source.nbytes) and None)

    def launch(self, launch: Launch, stream: Queue) -> None:
        stream.enqueue(lambda: self._host.run(launch))

    def capture(self, record: Callable[[Any], None]) -> EmulatedGraph:
        queue = Queue()
        record(queue)
        self.graphs.append(EmulatedGraph(list(queue.pending)))
        return self.graphs[-1]

    def record_event(self, stream: Stream) -> Event:
        return Event(stream)

    def wait(self, stream: Stream, other: Stream) -> None:
        stream.enqueue(Event(other).sync)

    def seconds(self, queue: Callable[[], None]) -> float:
        """Return the seconds of the work that `queue` queues, by the host's clock."""
        self.record_event(self.stream).sync()
        start = time.perf_counter()
        queue()
        self.record_event(self.stream).sync()
        return time.perf_counter() - start


class EmulatedBackend:
    """ONNX Runtime on the host, through the code that binds device memory."""

    name = "ort"

    def load(self, bundle: Bundle, network: str) -> "EmulatedNetwork":
        path, *_ = [bundle.file(name) for name in onnx_files(bundle, network)]
        session = OrtDeviceNetwork(path, "CPUExecutionProvider", ("cpu", 0))
        return EmulatedNetwork(session)


class EmulatedNetwork:
    capturable = True
    largest_batch = 3

    def __init__(self, session: OrtDeviceNetwork) -> None:
        self._session, self.dtypes = session, session.dtypes

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Queue], None]:
        run = self._session.bind(arrays)
        return lambda stream: stream.enqueue(lambda: run(stream))


def install() -> None:
    """Replace GPU 0 by the emulated device, with ONNX Runtime; TensorRT is unavailable.

    Raises `DeviceError` without a C++ compiler.
    """
    cxx = compiler()
    if cxx is None:
        raise DeviceError("the emulated device needs a C++ compiler on the path")
    host = compiled(cxx)
    cuda.CudaDevice = lambda index=0: EmulatedDevice(host)
    gpu.architecture = lambda index=0: "emulated"
    gpu.description = lambda index=0: NAME

    class EmulatedOrt(OrtCuda):
        """ONNX Runtime on the emulated device."""

        @staticmethod
        def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
            return gpu.gpu_unavailable_reason(index, precision)

        @classmethod
        def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> GpuPipeline:
            return GpuPipeline(EmulatedDevice(host), EmulatedBackend(), tiled)

    on_cpu = [backend for backend in pipeline.BACKENDS_BY_SPEED if backend.device == "cpu"]
    pipeline.BACKENDS_BY_SPEED = (UnavailableTensorRt, EmulatedOrt, *on_cpu)


class UnavailableTensorRt(TensorRt):
    """TensorRT, which needs a real GPU."""

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        return TensorRt.unavailable_reason(bundle, index, precision) or "TensorRT runs on no emulated device"
