"""Whatever fails on a device: no work of a call that has raised is still under way, and the next call is right."""

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
from sdtrt.engine import parts
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.rate_control import EncodeOptions
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_options import DecodeOptions
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner, Tiling
from sdtrt.errors import DeviceError
from sdtrt.kernels.device import DeviceArray

Photo = Callable[[int, int], np.ndarray]
TINY = find_bundle("tiny")
VECTORS = Path(__file__).parents[2] / "vectors"
BROKEN = sorted(path.parent for path in VECTORS.glob("x_*/expect.json"))
OPERATIONS = ("empty", "staging", "upload", "download", "launch", "capture", "record_event", "wait")
MOST = 400  # operations of a call: far more than there are


class FailingDevice(EmulatedDevice):
    """A device of which one operation fails: the one that comes after `left` others."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.left: int | None = None
        for name in OPERATIONS:
            setattr(self, name, self.failing(getattr(self, name)))

    def failing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.left = None
                    raise DeviceError("injected")
            return operation(*arguments)

        return attempt


class FailingBackend(EmulatedBackend):
    """Networks whose runs count as operations of the device; each is loaded once for all pipelines."""

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
    """Once its stream is done the array is its owner's, whatever the codec's stream does from then on."""
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
    for left in count():
        codec = codec if warm else opened()
        device = device_of(codec)
        target, stream = device.empty((37, 45, 3), np.uint8), Stream()
        if warm and left == 0:
            for _ in range(2):  # the second time as a graph
                codec.decode_into(data, target, stream)
            device.record_event(stream).sync()
            expected = target.owner.copy()
        device.left = left
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
    assert (3 if warm else 30) < left < MOST


@pytest.mark.parametrize("folder", BROKEN, ids=lambda folder: folder.name)
def test_decode_into_of_a_broken_file_never_touches_the_array(opened: Callable[..., EngineCodec], folder: Path) -> None:
    """Limits and damage are noticed while nothing has been queued for the array or its stream."""
    data, expect = (folder / "input.sdt").read_bytes(), json.loads((folder / "expect.json").read_text())
    codec = opened()
    shape = next(s for s in ((43, 61, 3), (20, 30, 3), (30, 600, 3)) if of_shape(data, s) or s == (30, 600, 3))
    target, stream = device_of(codec).empty(shape, np.uint8), Stream()
    for _ in range(2):
        with pytest.raises(getattr(sdtrt, expect["error"])):
            codec.decode_into(data, target, stream)
        assert stream.queued == 0
        device_of(codec).record_event(device_of(codec).stream).sync()
        assert (target.owner == POISON).all()


def of_shape(data: bytes, shape: tuple[int, ...]) -> bool:
    """Return whether a broken file says that its image has a shape."""
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
    return [picture.pixels for picture in codec.decode_batch(files)]


def regions(codec: EngineCodec, pixels: np.ndarray, files: list[bytes]) -> list[np.ndarray]:
    return [parts.decode_region(codec, data, (3, 2, 90, 50)).pixels for data in files]


@pytest.mark.parametrize("call", [encoded, decoded, decoded_at_once, regions])
@pytest.mark.parametrize("tiling", [None, Tiling(9, 3)], ids=["whole", "faded tiles"])
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
    step = 7 if tiling else 1  # of many tiles, which are much alike, some
    for left in count(0, step):
        device = device_of(codec)
        device.left = left
        try:
            call(codec, pixels, files)
        except DeviceError:
            assert not device.stream.works
        else:
            break
        for found, wanted in zip(call(codec, pixels, files), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert 3 < left < 4 * MOST


def test_denoising_failing_at_each_operation_ends_its_work(
    opened: Callable[..., EngineCodec], denoising: Bundle, photo: Photo
) -> None:
    codec = opened(TiledRunner.of(denoising))
    data = EngineCodec("tiny", device="cpu").encode(ImageData(photo(41, 30)), EncodeOptions(quality=20))
    expected = codec.decode(data, options=DecodeOptions(2)).pixels
    codec.decode(data, options=DecodeOptions(2))  # as a graph from now on
    for left in count():
        device_of(codec).left = left
        try:
            codec.decode(data, options=DecodeOptions(2))
        except DeviceError:
            assert not device_of(codec).stream.works
        else:
            break
        np.testing.assert_array_equal(codec.decode(data, options=DecodeOptions(2)).pixels, expected)
    assert 3 < left < MOST


def test_a_codec_that_is_closed_waits_for_what_is_queued(
    opened: Callable[..., EngineCodec], real_files: dict[str, bytes]
) -> None:
    """Its memory is freed then: page-locked memory at once, although a copy may be reading it."""
    codec = sdtrt.Codec(opened())
    device = device_of(codec._opened())
    target, stream = device.empty((37, 45, 3), np.uint8), Stream()
    with codec:
        codec.decode_into(real_files["layers"], target, stream=stream)
        assert device.stream.works
    gc.collect()
    assert not device.stream.works


def test_layers_of_changing_sizes_use_one_block(
    opened: Callable[..., EngineCodec], photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, host = opened(), EngineCodec("tiny", device="cpu")
    device, sizes = device_of(codec), [(40, 30), (61, 43), (8, 8), (61, 43)]
    files = [host.encode(ImageData(photo(*size)), EncodeOptions(quality=95)) for size in sizes]
    assert all(container.read(data).layout.residual for data in files)
    targets = [device.empty((height, width, 3), np.uint8) for width, height in sizes]
    stream = Stream()
    for data, target in zip(files, targets, strict=True):
        codec.decode_into(data, target, stream)
    made = []
    for name in ("empty", "staging"):
        monkeypatch.setattr(device, name, lambda *what: made.append(what))
    for data, target in zip(files, targets, strict=True):  # nothing is waited for between them
        codec.decode_into(data, target, stream)
    assert made == []
    device.record_event(stream).sync()
    for data, target in zip(files, targets, strict=True):
        difference = target.owner.astype(int) - host.decode(data).pixels
        assert abs(difference).max() <= 1
