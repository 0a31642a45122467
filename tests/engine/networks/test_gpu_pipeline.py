"""The GPU pipeline on the emulated device: kernels compiled for the host, networks in ONNX Runtime."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quantized_latents import FloatLatents, QuantizedLatents
from sdtrt.engine.format import container
from sdtrt.engine.format.container import Header
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks import gpu_pipeline
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.decode_request import DecodeOptions, DecodeRequest
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner, Tiling
from sdtrt.errors import BundleError, DeviceError

TINY = find_bundle("tiny")
Photo = Callable[[int, int], np.ndarray]
SIZES = [(1, 1), (8, 8), (40, 30), (33, 17), (7, 50)]


@pytest.fixture(scope="module")
def cpu_pipeline() -> CpuPipeline:
    return CpuPipeline(OrtCpu(), TiledRunner.of(TINY))


@pytest.fixture
def on_device(pipeline: GpuPipeline) -> EngineCodec:
    on_device = EngineCodec("tiny", device="cpu")
    on_device.pipeline = pipeline
    return on_device


def request_of(data: bytes) -> DecodeRequest:
    file = container.read(data)
    return DecodeRequest(LatentReader(file).read(), file.header)


@pytest.mark.parametrize("size", SIZES)
def test_gpu_pipeline_equals_cpu_pipeline(
    pipeline: GpuPipeline, cpu_pipeline: CpuPipeline, photo: Photo, size: tuple[int, int]
) -> None:
    pixels = photo(*size)
    for _ in range(3):  # the first run is not a graph, the others are
        np.testing.assert_array_equal(pipeline.analyse([pixels])[0], cpu_pipeline.analyse([pixels])[0])
    for quality in (20, 90, 50):
        image = request_of(EngineCodec("tiny", device="cpu").encode(ImageData(pixels), EncodeOptions(quality=quality)))
        np.testing.assert_array_equal(pipeline.synthesise([image])[0], cpu_pipeline.synthesise([image])[0])


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("size", [(150, 90), (60, 200)])
def test_gpu_pipeline_with_tiles_equals_cpu_pipeline(
    device: Any, backend: Any, photo: Photo, size: tuple[int, int], cut: bool
) -> None:
    calls: list[tuple[int, int]] = []
    tiled = TiledRunner(TINY, Tiling(9, 3, cut), lambda *counts: calls.append(counts))
    pipeline, cpu_pipeline = GpuPipeline(device, backend, tiled), CpuPipeline(OrtCpu(), replace(tiled, progress=None))
    pixels = photo(*size)
    np.testing.assert_array_equal(pipeline.analyse([pixels])[0], cpu_pipeline.analyse([pixels])[0])
    image = request_of(EngineCodec("tiny", device="cpu").encode(ImageData(pixels), EncodeOptions(quality=50)))
    result = pipeline.synthesise([image, image])
    assert calls.count((0, calls[0][1])) == 3
    assert calls == [(n, calls[0][1]) for n in range(calls[0][1] + 1)] * 3
    assert calls[0][1] >= 4
    for pixels in result:
        np.testing.assert_array_equal(pixels, cpu_pipeline.synthesise([image])[0])


def test_synthesise_each_offset_kind_equals_cpu_pipeline(pipeline: GpuPipeline, cpu_pipeline: CpuPipeline) -> None:
    """Offsets are those of channels or of symbols; files of method palette have none."""
    rng = np.random.default_rng(2)
    header = Header(20, 15, 1, 3, 2000)
    symbols = rng.integers(-3, 4, (40, 2, 3)).astype(np.int16)
    mean, delta, offset = (rng.random(40).astype(np.float32) for _ in range(3))
    points = rng.integers(-64, 65, symbols.shape).astype(np.int8)
    for contents in (
        QuantizedLatents(symbols, mean, delta, offset),
        QuantizedLatents(symbols, mean, delta, points),
        FloatLatents(rng.normal(size=symbols.shape).astype(np.float32)),
    ):
        for _ in range(2):
            result = pipeline.synthesise([DecodeRequest(contents, header)])[0]
            np.testing.assert_array_equal(result, cpu_pipeline.synthesise([DecodeRequest(contents, header)])[0])


def test_batches_of_mixed_sizes_equal_single_images(on_device: EngineCodec, photo: Photo) -> None:
    images = [ImageData(photo(*size)) for size in ((40, 30), (39, 26), (40, 30), (40, 30), (40, 30), (8, 8), (16, 16))]
    host = EngineCodec("tiny", device="cpu")
    files = list(on_device.encode_batch(images, EncodeOptions()))
    assert [len(data) for data in files] == [len(host.encode(image, EncodeOptions())) for image in images]
    for back, data in zip(on_device.decode_batch(files), files, strict=True):
        difference = back.pixels.astype(int) - host.decode(data).pixels
        assert abs(difference).max() <= 1  # a batch may sum in another order


def test_analyse_large_batch_is_split(pipeline: GpuPipeline, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [np.roll(photo(40, 30), n, axis=1) for n in range(5)]
    expected = [pipeline.analyse([one])[0] for one in images]
    monkeypatch.setattr(gpu_pipeline, "MAX_AREA", 2 * 40 * 32)
    sizes = []
    monkeypatch.setattr(
        pipeline, "_encode", lambda part, encode=pipeline._encode: sizes.append(len(part)) or encode(part)
    )
    np.testing.assert_allclose(pipeline.analyse(images), expected, atol=1e-5)
    assert sizes == [2, 2, 1]
    header = Header(40, 30, 1, 3, 2048)
    pixels = pipeline.synthesise([DecodeRequest(FloatLatents(latents), header) for latents in expected])
    for result, latents in zip(pixels, expected, strict=True):
        single = pipeline.synthesise([DecodeRequest(FloatLatents(latents), header)])[0]
        assert np.abs(result.astype(int) - single).max() <= 1


def test_graphs_are_captured_once_for_each_plan(pipeline: GpuPipeline, device: Any, photo: Photo) -> None:
    for _ in range(4):
        pipeline.analyse([photo(40, 30)])
    assert [graph.launches for graph in device.graphs] == [3]
    pipeline.analyse([photo(39, 25)])  # padded, it has the same shape
    assert len(device.graphs) == 1
    for n in range(1, gpu_pipeline.MAX_PLANS + 1):
        pipeline.analyse([photo(8 * n, 8)])
    assert len(device.graphs) == gpu_pipeline.MAX_PLANS + 1
    pipeline.analyse([photo(40, 30)])  # its plan was dropped
    assert len(device.graphs) == gpu_pipeline.MAX_PLANS + 2


def test_decode_into_device_array_equals_cpu_pipeline(
    pipeline: GpuPipeline, cpu_pipeline: CpuPipeline, device: Any, on_device: EngineCodec, photo: Photo
) -> None:
    pixels = photo(33, 17)
    pixels[:, 16:] = np.where(np.indices((17, 17)).sum(0)[:, :, None] % 5 == 0, 20, 230)  # lines, for an overlay
    files = [on_device.encode(ImageData(pixels), EncodeOptions(quality=q)) for q in (20, 50, 80)]
    assert container.read(files[2]).layout.residual_step
    stream = type(device.stream)()
    targets = [device.empty((17, 33, 3), np.uint8) for _ in files]
    for data, target in zip(files, targets, strict=True):
        on_device.decode_into(data, target, stream)
    device.record_event(stream).sync()
    for data, target in zip(files, targets, strict=True):
        layers = LayerReader(container.read(data))
        np.testing.assert_array_equal(target.owner, layers.apply(cpu_pipeline.synthesise([request_of(data)])[0]))
    with pytest.raises(ValueError, match=r"uint8 \(17, 33, 3\)"):
        on_device.decode_into(files[0], device.empty((33, 17, 3), np.uint8), stream)
    with pytest.raises(ValueError, match="float32"):
        on_device.decode_into(files[0], device.empty((17, 33, 3), np.float32), stream)


def test_decode_into_allocates_nothing_after_the_first_call_of_a_shape(
    device: Any, on_device: EngineCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file has a residual, further ones have an overlay, or both, or neither."""
    noisy = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    half = noisy.copy()
    half[:, 32:] = 250
    half[6:42:6, 36:60] = half[8:40, 40:60:5] = 20
    cases = [(noisy, 80), (half, 50), (half, 90), (noisy, 20)]
    files = [on_device.encode(ImageData(pixels), EncodeOptions(quality=quality)) for pixels, quality in cases]
    layouts = [container.read(data).layout for data in files]
    assert [bool(layout.residual_step) for layout in layouts] == [True, False, True, False]
    assert [bool(layout.overlay) for layout in layouts] == [False, True, True, False]
    target, stream = device.empty((48, 64, 3), np.uint8), type(device.stream)()
    on_device.decode_into(files[0], target, stream)
    allocations = []
    for name in ("empty", "pinned"):
        monkeypatch.setattr(device, name, lambda *spec, name=name: allocations.append((name, *spec)))
    for data in files * 2:
        on_device.decode_into(data, target, stream)
    device.record_event(stream).sync()
    assert allocations == []


def test_synthesise_output_not_finite_raises(pipeline: GpuPipeline) -> None:
    header = Header(16, 16, 1, 3, 2048)
    good, bad = np.zeros((40, 2, 2), np.float32), np.full((40, 2, 2), np.nan, np.float32)
    assert pipeline.synthesise([DecodeRequest(FloatLatents(good), header)])[0].shape == (16, 16, 3)
    for _ in range(2):
        with pytest.raises(BundleError, match="not finite"):
            pipeline.synthesise([DecodeRequest(FloatLatents(bad), header)])
    assert pipeline.synthesise([DecodeRequest(FloatLatents(good), header)])[0].shape == (16, 16, 3)


def test_gpu_codec_in_several_threads_gives_equal_results(on_device: EngineCodec, photo: Photo) -> None:
    images = [ImageData(photo(8 + 8 * (n % 5), 16 + n % 3)) for n in range(24)]
    files = [on_device.encode(image, EncodeOptions()) for image in images]
    expected = [on_device.decode(data).pixels for data in files]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda image: on_device.encode(image, EncodeOptions()), images)) == files
        for result, pixels in zip(pool.map(on_device.decode, files), expected, strict=True):
            np.testing.assert_array_equal(result.pixels, pixels)


def test_decode_into_without_gpu_raises(real_files: dict[str, bytes]) -> None:
    codec = EngineCodec("tiny", device="cpu")
    with pytest.raises(DeviceError, match="needs a GPU"):
        codec.decode_into(real_files["colour"], None, 1)


def test_denoised_batches_equal_cpu_codec(device: Any, backend: Any, denoising: Bundle, photo: Photo) -> None:
    """The files of a batch have several qualities, so each is denoised from its own timestep."""
    host, on_device = (EngineCodec(denoising.folder, device="cpu") for _ in range(2))
    on_device.pipeline = GpuPipeline(device, backend, TiledRunner.of(denoising))
    files = [host.encode(ImageData(photo(41, 30)), EncodeOptions(quality=q)) for q in (10, 30, 50)]
    for steps in (1, 3, 0, 3):
        for back, data in zip(on_device.decode_batch(files, options=DecodeOptions(steps)), files, strict=True):
            expected = host.decode(data, options=DecodeOptions(steps)).pixels
            assert abs(back.pixels.astype(int) - expected).max() <= 1  # a batch may sum in another order
    changed = (
        host.decode(files[0], options=DecodeOptions(1)).pixels,
        host.decode(files[0], options=DecodeOptions(0)).pixels,
    )
    assert (changed[0] != changed[1]).any()
