"""Layers in the encoder: when a residual is coded, its gain, and equal bytes from batches."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from extras import needs

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.encoder import with_segments
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.image import ImageData, luma, psnr

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def codec() -> EngineCodec:
    return EngineCodec("tiny", threads=1)


@pytest.fixture(scope="module")
def texture(photo: Photo) -> np.ndarray:
    """Return an image with more detail than the networks reconstruct."""
    noise = np.random.default_rng(1).normal(0, 12, (70, 93, 1))
    return (photo(93, 70) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [72, 80, 100])
def test_encode_residual_beats_latents_alone_at_equal_size(
    codec: EngineCodec, texture: np.ndarray, quality: float
) -> None:
    """A file with a residual has a higher PSNR than a file of latents alone of the same size."""
    data = codec.encode(ImageData(texture), EncodeOptions(quality=quality))
    assert container.read(data).layout.residual_step
    latents_only = codec.encode(ImageData(texture), EncodeOptions(quality=quality, layers=1))
    assert not container.read(latents_only).layout.residual_step
    actual_psnr = psnr(codec.decode(data).pixels, texture)
    assert actual_psnr > psnr(codec.decode(latents_only).pixels, texture)
    same_size = codec.encode(ImageData(texture), EncodeOptions(max_bytes=len(data), layers=1))
    assert actual_psnr > psnr(codec.decode(same_size).pixels, texture)


@pytest.mark.parametrize("quality", [1, 30, 50])
def test_encode_quality_up_to_50_has_no_residual(codec: EngineCodec, texture: np.ndarray, quality: float) -> None:
    data = codec.encode(ImageData(texture), EncodeOptions(quality=quality))
    assert data == codec.encode(ImageData(texture), EncodeOptions(quality=quality, layers=1))


def test_encode_residual_without_gain_is_left_out(codec: EngineCodec) -> None:
    """The networks reconstruct the image well, so the file has not even an index."""
    flat = codec.decode(
        codec.encode(ImageData(np.full((64, 64, 3), 128, np.uint8)), EncodeOptions(quality=54, layers=1))
    ).pixels
    data = codec.encode(ImageData(flat), EncodeOptions(quality=51))
    assert container.read(data).layout == Layout()


@pytest.mark.parametrize("quality", [70, 75])
def test_encode_smooth_image_has_no_residual(codec: EngineCodec, quality: float) -> None:
    """A residual would make the file larger and lower the PSNR."""
    rows, columns = np.indices((128, 128))
    smooth = ImageData(np.stack([columns + 40, rows + 60, (rows + columns) // 2 + 50], 2).astype(np.uint8))
    assert codec.encode(smooth, EncodeOptions(quality=quality)) == codec.encode(
        smooth, EncodeOptions(quality=quality, layers=1)
    )


def test_encode_grey_residual_raises_psnr_by_3_db(codec: EngineCodec, texture: np.ndarray) -> None:
    grey = np.repeat(texture[:, :, :1], 3, axis=2)
    with_residual = codec.decode(codec.encode(ImageData(grey, grey=True), EncodeOptions(quality=90)))
    latents_only = codec.decode(codec.encode(ImageData(grey, grey=True), EncodeOptions(quality=90, layers=1)))
    assert psnr(luma(with_residual.pixels), luma(grey)) > psnr(luma(latents_only.pixels), luma(grey)) + 3


@pytest.mark.parametrize("quality", [70, 100])
def test_encode_effort_6_costs_at_most_1_percent_more_than_effort_5(
    codec: EngineCodec, texture: np.ndarray, quality: float
) -> None:
    """The cost is D + lambda R, with the lambda of the quality."""
    lmbda = 0.12 * (68 * 2 ** ((50 - quality) / 13.25)) ** 2

    def rd_cost(effort: int) -> float:
        data = codec.encode(ImageData(texture), EncodeOptions(quality=quality, effort=effort))
        return float(np.square(codec.decode(data).pixels.astype(float) - texture).sum()) + lmbda * 8 * len(data)

    assert rd_cost(6) <= 1.01 * rd_cost(5)


def test_encode_roi_raises_psnr_of_the_region(codec: EngineCodec, texture: np.ndarray) -> None:
    weights = np.ones((70, 93), np.float32)
    weights[8:40, 16:48] = 16
    region = np.s_[16:32, 24:40]
    plain = codec.decode(codec.encode(ImageData(texture), EncodeOptions(quality=60))).pixels
    weighted = codec.decode(codec.encode(ImageData(texture), EncodeOptions(quality=60), RoiWeights(weights))).pixels
    assert psnr(weighted[region], texture[region]) > psnr(plain[region], texture[region]) + 6
    assert abs(psnr(weighted[56:, 64:], texture[56:, 64:]) - psnr(plain[56:, 64:], texture[56:, 64:])) < 3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_batches_equal_single_calls(backend: str, threads: int, texture: np.ndarray) -> None:
    """With several threads several images are worked on at once, by ONNX Runtime."""
    if backend == "openvino":
        needs("openvino")
    codec = EngineCodec("tiny", backend=backend, device="cpu", threads=threads)
    assert codec._for_batches()[1] == (threads if backend == "ort" else 1)
    images = [ImageData(texture), ImageData(texture[:40]), ImageData(texture[:, ::-1].copy())]
    options = EncodeOptions(quality=75)
    files = [codec.encode(image, options) for image in images]
    assert list(codec.encode_batch(images, options)) == files
    for decoded, data in zip(codec.decode_batch(files), files, strict=True):
        np.testing.assert_array_equal(decoded.pixels, codec.decode(data).pixels)


def test_with_segments_inserts_kinds_in_layout_order() -> None:
    """The order of the calls does not matter."""
    bare = File(Header(9, 9, 1, 1, 1), (b"latents", b"alpha"), Layout(alpha=True))
    residual_first = with_segments(
        with_segments(bare, "residual", [b"residual"], residual_step=5), "overlay", [b"overlay"], overlay=True
    )
    overlay_first = with_segments(
        with_segments(bare, "overlay", [b"overlay"], overlay=True), "residual", [b"residual"], residual_step=5
    )
    assert residual_first == overlay_first
    assert residual_first.layout == Layout(alpha=True, overlay=True, residual_step=5)
    assert list(residual_first.segments) == [b"latents", b"overlay", b"residual", b"alpha"]


@pytest.mark.parametrize("quality", [55, 80])
@pytest.mark.parametrize("effort", [5, 6])
def test_encode_flat_image_equals_latents_alone(codec: EngineCodec, quality: float, effort: int) -> None:
    flat = ImageData(np.full((40, 33, 3), 128, np.uint8))
    options = EncodeOptions(quality=quality, effort=effort)
    assert codec.encode(flat, options) == codec.encode(flat, replace(options, layers=1))
