"""Failures on a device: after an error no work of the call is queued, and the next call gives the right result."""

import gc
import json
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated import POISON, EmulatedBackend, EmulatedDevice, EmulatedNetwork, Queue, Stream

import sdtrt
from sdtrt.engine import regions
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner, Tiling
from sdtrt.errors import DeviceError
from sdtrt.kernels.device import DeviceArray

Photo = Callable[[int, int], np.ndarray]
TINY = find_bundle("tiny")
VECTORS = Path(__file__).parents[2] / "vectors"
BROKEN = sorted(path.parent for path in VECTORS.glob("x_*/expect.json"))
OPERATIONS = ("empty", "pinned", "upload", "download", "launch", "capture", "record_event", "wait")
MAX_OPERATIONS = 400  # of a call; far more than any call has


class FailingDevice(EmulatedDevice):
    """A device that fails once, after `operations_left` successful operations."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.operations_left: int | None = None
        for name in OPERATIONS:
            setattr(self, name, self.failing(getattr(self, name)))

    def failing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            if self.operations_left is not None:
                self.operations_left -= 1
                if self.operations_left < 0:
                    self.operations_left = None
                    raise DeviceError("injected")
            return operation(*arguments)

        return attempt


class FailingBackend(EmulatedBackend):
    """Networks whose runs are operations of the device. Each network is loaded once for all pipelines."""

    device: FailingDevice

    def __init__(self) -> None:
        self._loaded: dict[tuple[Path, str], FailingNetwork] = {}

    def load(self, bundle: Bundle, network: str) -> "FailingNetwork":
        if (bundle.folder, network) not in self._loaded:
            self._loaded[bundle.folder, network] = FailingNetwork(super().load(bundle, network), self)
        return self._loaded[bundle.folder, network]


class FailingNetwork(EmulatedNetwork):
    def __init__(self, network: EmulatedNetwork, backend: FailingBackend) -> None:
        super().__init__(network._session)
        self._backend = backend

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Queue], None]:
        return self._backend.device.failing(super().bind(arrays))


@pytest.fixture(scope="module")
def failing() -> FailingBackend:
    return FailingBackend()


@pytest.fixture
def opened(host: Any, failing: FailingBackend) -> Callable[..., EngineCodec]:
    def open_codec(tiled: TiledRunner | None = None) -> EngineCodec:
        failing.device = FailingDevice(host)
        codec = EngineCodec(TINY.folder if tiled is None else tiled.bundle.folder, device="cpu")
        codec.pipeline = GpuPipeline(failing.device, failing, tiled or TiledRunner.of(TINY))
        return codec

    return open_codec


def device_of(codec: EngineCodec) -> FailingDevice:
    device = codec.pipeline._device
    assert isinstance(device, FailingDevice)
    return device


def require_untouched(device: FailingDevice, stream: Stream, target: DeviceArray) -> None:
    """Check that after the work of the owner's stream nothing writes into the array."""
    device.record_event(stream).sync()
    target.owner[:] = 7
    device.record_event(device.stream).sync()
    assert (target.owner == 7).all()


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", ["colour", "layers"])
def test_decode_into_failing_at_each_operation_leaves_the_array_alone(
    opened: Callable[..., EngineCodec], real_files: dict[str, bytes], name: str, warm: bool
) -> None:
    data, expected = real_files[name], None
    codec = opened()
    for index in count():
        codec = codec if warm else opened()
        device = device_of(codec)
        target, stream = device.empty((37, 45, 3), np.uint8), Stream()
        if warm and index == 0:
            for _ in range(2):  # the second run is a graph
                codec.decode_into(data, target, stream)
            device.record_event(stream).sync()
            expected = target.owner.copy()
        device.operations_left = index
        try:
            codec.decode_into(data, target, stream)
        except DeviceError as error:
            assert str(error) == "injected"  # noqa: PT017  # the last call raises nothing
        else:
            break
        require_untouched(device, stream, target)
        codec.decode_into(data, target, stream)
        device.record_event(stream).sync()
        expected = target.owner.copy() if expected is None else expected
        np.testing.assert_array_equal(target.owner, expected)
    assert (3 if warm else 30) < index < MAX_OPERATIONS


@pytest.mark.parametrize("folder", BROKEN, ids=lambda folder: folder.name)
def test_decode_into_of_a_broken_file_never_touches_the_array(opened: Callable[..., EngineCodec], folder: Path) -> None:
    """The error comes before any work is queued for the array or its stream."""
    data, expect = (folder / "input.sdt").read_bytes(), json.loads((folder / "expect.json").read_text())
    codec = opened()
    shape = next(s for s in ((43, 61, 3), (20, 30, 3), (30, 600, 3)) if of_shape(data, s) or s == (30, 600, 3))
    target, stream = device_of(codec).empty(shape, np.uint8), Stream()
    for _ in range(2):
        with pytest.raises(getattr(sdtrt, expect["error"])):
            codec.decode_into(data, target, stream)
        assert stream.num_queued == 0
        device_of(codec).record_event(device_of(codec).stream).sync()
        assert (target.owner == POISON).all()


def of_shape(data: bytes, shape: tuple[int, ...]) -> bool:
    """Return whether the image of a broken file has a shape, according to its header."""
    try:
        header = container.read(data).header
    except sdtrt.SdtrtError:
        return False
    return (header.height, header.width, 3) == shape


def encoded(codec: EngineCodec, pixels: np.ndarray, files: list[bytes]) -> list[np.ndarray]:
    return codec.pipeline.analyse([pixels, pixels])


def decoded(codec: EngineCodec, pixels: np.ndarray, files: list[bytes]) -> list[np.ndarray]:
    return [codec.decode(data).pixels for data in files]


def decoded_at_once(codec: EngineCodec, pixels: np.ndarray, files: list[bytes]) -> list[np.ndarray]:
    return [image.pixels for image in codec.decode_batch(files)]


def region_of_each(codec: EngineCodec, pixels: np.ndarray, files: list[bytes]) -> list[np.ndarray]:
    return [regions.decode_region(codec, data, (3, 2, 90, 50)).pixels for data in files]


@pytest.mark.parametrize("call", [encoded, decoded, decoded_at_once, region_of_each])
@pytest.mark.parametrize("tiling", [None, Tiling(9, 3)], ids=["whole", "blended tiles"])
def test_any_call_failing_at_each_operation_ends_its_work(
    opened: Callable[..., EngineCodec],
    photo: Photo,
    tiling: Tiling | None,
    call: Callable[[EngineCodec, np.ndarray, list[bytes]], list[np.ndarray]],
) -> None:
    tiled = TiledRunner(TINY, tiling) if tiling else None
    codec, pixels = opened(tiled), photo(100, 60)
    files = [
        EngineCodec("tiny", device="cpu").encode(ImageData(pixels), EncodeOptions(quality=q, layers=1))
        for q in (20, 60)
    ]
    expected = call(codec, pixels, files)
    stride = 7 if tiling else 1  # tiles repeat the same operations, so a sample is enough
    for index in count(0, stride):
        device = device_of(codec)
        device.operations_left = index
        try:
            call(codec, pixels, files)
        except DeviceError:
            assert not device.stream.pending
        else:
            break
        for result, target in zip(call(codec, pixels, files), expected, strict=True):
            np.testing.assert_array_equal(result, target)
    assert 3 < index < 4 * MAX_OPERATIONS


def test_denoising_failing_at_each_operation_ends_its_work(
    opened: Callable[..., EngineCodec], denoising: Bundle, photo: Photo
) -> None:
    codec = opened(TiledRunner.of(denoising))
    data = EngineCodec("tiny", device="cpu").encode(ImageData(photo(41, 30)), EncodeOptions(quality=20))
    expected = codec.decode(data, options=DecodeOptions(2)).pixels
    codec.decode(data, options=DecodeOptions(2))  # from now on a graph
    for index in count():
        device_of(codec).operations_left = index
        try:
            codec.decode(data, options=DecodeOptions(2))
        except DeviceError:
            assert not device_of(codec).stream.pending
        else:
            break
        np.testing.assert_array_equal(codec.decode(data, options=DecodeOptions(2)).pixels, expected)
    assert 3 < index < MAX_OPERATIONS


def test_codec_close_waits_for_queued_work(opened: Callable[..., EngineCodec], real_files: dict[str, bytes]) -> None:
    """`close` frees memory, page-locked memory at once, so no copy may still read it."""
    codec = sdtrt.Codec(opened())
    device = device_of(codec._opened())
    target, stream = device.empty((37, 45, 3), np.uint8), Stream()
    with codec:
        codec.decode_into(real_files["layers"], target, stream=stream)
        assert device.stream.pending
    gc.collect()
    assert not device.stream.pending


def test_decode_into_with_layers_of_changing_sizes_allocates_once(
    opened: Callable[..., EngineCodec], photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, host = opened(), EngineCodec("tiny", device="cpu")
    device, sizes = device_of(codec), [(40, 30), (61, 43), (8, 8), (61, 43)]
    files = [host.encode(ImageData(photo(*size)), EncodeOptions(quality=95)) for size in sizes]
    assert all(container.read(data).layout.residual_step for data in files)
    targets = [device.empty((height, width, 3), np.uint8) for width, height in sizes]
    stream = Stream()
    for data, target in zip(files, targets, strict=True):
        codec.decode_into(data, target, stream)
    made = []
    for name in ("empty", "pinned"):
        monkeypatch.setattr(device, name, lambda *what: made.append(what))
    for data, target in zip(files, targets, strict=True):  # without a wait between the calls
        codec.decode_into(data, target, stream)
    assert made == []
    device.record_event(stream).sync()
    for data, target in zip(files, targets, strict=True):
        difference = target.owner.astype(int) - host.decode(data).pixels
        assert abs(difference).max() <= 1
