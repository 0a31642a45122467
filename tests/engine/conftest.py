"""A device made of this machine's memory: kernels compiled for the host, work that waits until it must be done.

What is read before it was waited for is still poison here, as it may be on a GPU.
"""

import ctypes
import json
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from sdtrt.engine.networks.backends.ort import OrtDeviceNetwork
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, file_hash, find_bundle
from sdtrt.engine.networks.device_pipeline import DevicePipeline
from sdtrt.engine.networks.tiled import Tiled
from sdtrt.kernels.device import DeviceArray
from sdtrt.kernels.launches import Launch

POISON = 0xA5
SD1_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}
Work = Callable[[], None]


class Queue:
    """A stream, or a graph that is being recorded."""

    def __init__(self) -> None:
        self.works: deque[Work] = deque()

    def do(self, work: Work) -> None:
        self.works.append(work)


class Stream(Queue):
    def __init__(self) -> None:
        super().__init__()
        self.queued = self.done = 0

    def do(self, work: Work) -> None:
        super().do(work)
        self.queued += 1

    def flush(self, count: int) -> None:
        """Do what is left of the first `count` works that were ever queued."""
        while self.done < count:
            work = self.works.popleft()
            self.done += 1
            work()


class Event:
    def __init__(self, stream: Stream) -> None:
        self._stream, self._count = stream, stream.queued

    def sync(self) -> None:
        self._stream.flush(self._count)


class Recorded:
    def __init__(self, works: list[Work]) -> None:
        self._works = works
        self.launches = 0

    def launch(self, stream: Stream) -> None:
        self.launches += 1
        for work in self._works:
            stream.do(work)


class EmulatedDevice:
    """See `sdtrt.kernels.device.Device`; `host` runs kernels."""

    name = "this machine's memory"

    def __init__(self, host: Any) -> None:
        self._host = host
        self.stream = Stream()
        self.graphs: list[Recorded] = []

    def enter(self) -> None:
        pass

    def array_of(self, array: DeviceArray) -> DeviceArray:
        return array

    def stream_of(self, stream: Stream) -> Stream:
        return stream

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        array = self.staging(shape, dtype)
        return DeviceArray(array.ctypes.data, tuple(shape), np.dtype(dtype), array)

    def staging(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.full(nbytes, POISON, np.uint8).view(dtype).reshape(shape)

    def upload(self, target: DeviceArray, source: NDArray[Any], stream: Queue) -> None:
        assert source.flags.c_contiguous
        assert source.nbytes <= target.nbytes
        stream.do(lambda: ctypes.memmove(target.pointer, source.ctypes.data, source.nbytes) and None)

    def download(self, target: NDArray[Any], source: DeviceArray, stream: Queue) -> None:
        assert target.flags.c_contiguous
        assert target.nbytes <= source.nbytes
        stream.do(lambda: ctypes.memmove(target.ctypes.data, source.pointer, target.nbytes) and None)

    def launch(self, launch: Launch, stream: Queue) -> None:
        stream.do(lambda: self._host.run(launch))

    def capture(self, record: Callable[[Any], None]) -> Recorded:
        queue = Queue()
        record(queue)
        self.graphs.append(Recorded(list(queue.works)))
        return self.graphs[-1]

    def mark(self, stream: Stream) -> Event:
        return Event(stream)

    def wait(self, stream: Stream, other: Stream) -> None:
        stream.do(Event(other).sync)


class EmulatedBackend:
    """ONNX Runtime on the host, by the code that binds device memory."""

    name = "ort"

    def load(self, bundle: Bundle, network: str) -> "EmulatedNetwork":
        session = OrtDeviceNetwork(bundle.file(f"{network}.onnx"), "CPUExecutionProvider", ("cpu", 0))
        return EmulatedNetwork(session)


class EmulatedNetwork:
    capturable = True
    largest_batch = 3

    def __init__(self, session: OrtDeviceNetwork) -> None:
        self._session, self.dtypes = session, session.dtypes

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Queue], None]:
        run = self._session.bind(arrays)
        return lambda stream: stream.do(lambda: run(stream))


@pytest.fixture
def device(host: Any) -> EmulatedDevice:
    return EmulatedDevice(host)


@pytest.fixture
def backend() -> EmulatedBackend:
    return EmulatedBackend()


@pytest.fixture
def pipeline(device: EmulatedDevice, backend: EmulatedBackend) -> DevicePipeline:
    return DevicePipeline(device, backend, Tiled.of(find_bundle("tiny")))


@pytest.fixture(scope="session")
def vivid(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The built-in model with a vivid decoder, which is its own with brighter pixels, by 20 levels."""
    folder = tmp_path_factory.mktemp("vivid") / "tiny"
    shutil.copytree(find_bundle("tiny").folder, folder)
    model = onnx.load(folder / "decoder.onnx")
    last = next(node for node in model.graph.node if "pixels" in node.output)
    last.output[:] = ["darker"]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(20 / 127.5), "more"))
    model.graph.node.append(helper.make_node("Add", ["darker", "more"], ["pixels"]))
    onnx.save(model, folder / "vivid.onnx")
    fields = json.loads((folder / MANIFEST).read_text())
    fields["files"]["vivid.onnx"] = file_hash(folder / "vivid.onnx")
    fields["look"] = "vivid"
    (folder / MANIFEST).write_text(json.dumps(fields))
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def denoising(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The built-in model with a UNet that predicts a hundredth of its latents, and a millionth of its timestep."""
    built_in = find_bundle("tiny")
    folder = tmp_path_factory.mktemp("denoising") / "tiny"
    shutil.copytree(built_in.folder, folder)
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", 40, "h", "w"])
    timestep = helper.make_tensor_value_info("timestep", TensorProto.FLOAT, ["N"])
    prediction = helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", 40, "h", "w"])
    numbers = {"hundredth": np.float32(0.01), "millionth": np.float32(1e-6), "shape": np.array([-1, 1, 1, 1])}
    nodes = [
        helper.make_node("Mul", ["latents", "hundredth"], ["part"]),
        helper.make_node("Mul", ["timestep", "millionth"], ["small"]),
        helper.make_node("Reshape", ["small", "shape"], ["each"]),
        helper.make_node("Add", ["part", "each"], ["prediction"]),
    ]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "unet", [latents, timestep], [prediction], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "unet.onnx")
    fields = json.loads((folder / MANIFEST).read_text())
    fields["files"]["unet.onnx"] = file_hash(folder / "unet.onnx")
    fields["unet"] = SD1_SCHEDULE | {"multiple": 2, "auto": {"steps": 2, "from_step": 1.5}}
    (folder / MANIFEST).write_text(json.dumps(fields))
    return Bundle.open(folder)
