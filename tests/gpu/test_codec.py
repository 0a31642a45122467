"""The codec on a GPU beside that on the CPU: the same symbols, nearly the same pixels; streams, arrays, threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.errors import DeviceError
from sdtrt.kernels.device import CudaDevice

Photo = Callable[[int, int], np.ndarray]
SIZES = [(64, 64), (129, 70), (512, 512)]


@pytest.fixture(scope="module", params=["trt", "ort"])
def on_gpu(request: pytest.FixtureRequest, device: CudaDevice) -> sdtrt.Codec:
    try:
        return sdtrt.Codec.open(device="cuda", backend=request.param)
    except DeviceError as error:
        pytest.skip(f"no device for {request.param}: {error}")


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_nearly_those_of_the_cpu(
    on_gpu: sdtrt.Codec, codec: sdtrt.Codec, photo: Photo, size: tuple[int, int]
) -> None:
    data = codec.encode(photo(*size))
    expected = np.asarray(codec.decode(data)).astype(int)
    for _ in range(3):  # as it is, then as a graph
        difference = np.abs(np.asarray(on_gpu.decode(data)) - expected)
        assert difference.mean() < 0.2
        assert difference.max() <= 8
    mine = on_gpu.encode(photo(*size))
    assert abs(len(mine) / len(data) - 1) < 0.02


def test_batches(on_gpu: sdtrt.Codec, photo: Photo) -> None:
    images = [photo(64 + 8 * (n // 5), 64) for n in range(11)]
    files = on_gpu.encode_batch(images)
    alone = [np.asarray(on_gpu.decode(data)).astype(int) for data in files]
    for image, expected in zip(on_gpu.decode_batch(files), alone, strict=True):
        assert np.abs(np.asarray(image) - expected).max() <= 2


def test_threads(on_gpu: sdtrt.Codec, photo: Photo) -> None:
    files = [on_gpu.encode(photo(64, 64 + 8 * (n % 3))) for n in range(12)]
    expected = [on_gpu.decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert [image.tobytes() for image in pool.map(on_gpu.decode, files)] == expected


def test_two_codecs(on_gpu: sdtrt.Codec, photo: Photo) -> None:
    data = on_gpu.encode(photo(64, 64))
    with sdtrt.Codec.open(device="cuda", backend="ort") as other:
        other.decode(data)
        assert np.abs(np.asarray(other.decode(data)).astype(int) - np.asarray(on_gpu.decode(data))).max() <= 8


def test_into_cupy(on_gpu: sdtrt.Codec, photo: Photo) -> None:
    cupy = pytest.importorskip("cupy")
    data = on_gpu.encode(photo(129, 70))
    target = cupy.full((70, 129, 3), 0xA5, cupy.uint8)
    stream = cupy.cuda.Stream(non_blocking=True)
    on_gpu.decode_into(data, target, stream=stream.ptr)
    stream.synchronize()
    np.testing.assert_array_equal(target.get(), np.asarray(on_gpu.decode(data)))


def test_into_torch(on_gpu: sdtrt.Codec, photo: Photo) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no device for this torch")
    data = on_gpu.encode(photo(129, 70))
    target = torch.full((70, 129, 3), 0xA5, dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    on_gpu.decode_into(data, target, stream=stream.cuda_stream)
    stream.synchronize()
    np.testing.assert_array_equal(target.cpu().numpy(), np.asarray(on_gpu.decode(data)))


def test_what_is_refused(on_gpu: sdtrt.Codec, device: CudaDevice, photo: Photo) -> None:
    data = on_gpu.encode(photo(64, 64))
    wrong: list[tuple[Any, Any, type[Exception]]] = [
        (np.empty((64, 64, 3), np.uint8), device.stream, TypeError),
        (device.empty((64, 65, 3), np.uint8), device.stream, ValueError),
        (device.empty((64, 64, 3), np.uint8), 0, ValueError),
        (device.empty((64, 64, 3), np.uint8), "stream", TypeError),
    ]
    for array, stream, kind in wrong:
        with pytest.raises(kind):
            on_gpu.decode_into(data, array, stream=stream)
