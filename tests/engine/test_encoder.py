"""The encoder's side of layers: when there is a residual, what it brings, and the same bytes by whatever way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

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
    """A picture with more detail than networks hold."""
    noise = np.random.default_rng(1).normal(0, 12, (70, 93, 1))
    return (photo(93, 70) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [72, 80, 100])
def test_a_residual_brings_more_than_its_bytes(codec: EngineCodec, texture: np.ndarray, quality: float) -> None:
    """Of two files of about a size the one with a residual is nearer to the picture."""
    data = codec.encode(ImageData(texture), EncodeOptions(quality=quality))
    assert container.read(data).layout.residual_step
    alone = codec.encode(ImageData(texture), EncodeOptions(quality=quality, layers=1))
    assert not container.read(alone).layout.residual_step
    found = psnr(codec.decode(data).pixels, texture)
    assert found > psnr(codec.decode(alone).pixels, texture)
    within = codec.encode(ImageData(texture), EncodeOptions(max_bytes=len(data), layers=1))
    assert found > psnr(codec.decode(within).pixels, texture)


@pytest.mark.parametrize("quality", [1, 30, 50])
def test_none_up_to_the_knee(codec: EngineCodec, texture: np.ndarray, quality: float) -> None:
    data = codec.encode(ImageData(texture), EncodeOptions(quality=quality))
    assert data == codec.encode(ImageData(texture), EncodeOptions(quality=quality, layers=1))


def test_none_that_is_not_worth_it(codec: EngineCodec) -> None:
    """Of a picture that networks hold well enough not even the index is spent."""
    flat = codec.decode(
        codec.encode(ImageData(np.full((64, 64, 3), 128, np.uint8)), EncodeOptions(quality=54, layers=1))
    ).pixels
    data = codec.encode(ImageData(flat), EncodeOptions(quality=51))
    assert container.read(data).layout == Layout()


@pytest.mark.parametrize("quality", [70, 75])
def test_none_where_finer_latents_are_worth_more(codec: EngineCodec, quality: float) -> None:
    """Of a smooth picture: a residual would make the file larger and the picture worse."""
    rows, columns = np.indices((128, 128))
    smooth = ImageData(np.stack([columns + 40, rows + 60, (rows + columns) // 2 + 50], 2).astype(np.uint8))
    assert codec.encode(smooth, EncodeOptions(quality=quality)) == codec.encode(
        smooth, EncodeOptions(quality=quality, layers=1)
    )


def test_grey_is_corrected_as_grey(codec: EngineCodec, texture: np.ndarray) -> None:
    grey = np.repeat(texture[:, :, :1], 3, axis=2)
    found = codec.decode(codec.encode(ImageData(grey, grey=True), EncodeOptions(quality=90)))
    alone = codec.decode(codec.encode(ImageData(grey, grey=True), EncodeOptions(quality=90, layers=1)))
    assert psnr(luma(found.pixels), luma(grey)) > psnr(luma(alone.pixels), luma(grey)) + 3


@pytest.mark.parametrize("quality", [70, 100])
def test_effort_is_no_worse(codec: EngineCodec, texture: np.ndarray, quality: float) -> None:
    """At the price that quality sets: of what is tried the best bargain is taken."""
    price = 0.12 * (68 * 2 ** ((50 - quality) / 13.25)) ** 2

    def cost(effort: int) -> float:
        data = codec.encode(ImageData(texture), EncodeOptions(quality=quality, effort=effort))
        return float(np.square(codec.decode(data).pixels.astype(float) - texture).sum()) + price * 8 * len(data)

    assert cost(6) <= 1.01 * cost(5)


def test_interest_is_where_residuals_are_fine(codec: EngineCodec, texture: np.ndarray) -> None:
    weights = np.ones((70, 93), np.float32)
    weights[8:40, 16:48] = 16
    within = np.s_[16:32, 24:40]
    plain = codec.decode(codec.encode(ImageData(texture), EncodeOptions(quality=60))).pixels
    found = codec.decode(codec.encode(ImageData(texture), EncodeOptions(quality=60), RoiWeights(weights))).pixels
    assert psnr(found[within], texture[within]) > psnr(plain[within], texture[within]) + 6
    assert abs(psnr(found[56:, 64:], texture[56:, 64:]) - psnr(plain[56:, 64:], texture[56:, 64:])) < 3


def test_batches_are_the_same(codec: EngineCodec, texture: np.ndarray) -> None:
    pictures = [ImageData(texture), ImageData(texture[:40]), ImageData(texture[:, ::-1].copy())]
    options = EncodeOptions(quality=75)
    files = [codec.encode(picture, options) for picture in pictures]
    assert list(codec.encode_batch(pictures, options)) == files
    for found, data in zip(codec.decode_batch(files), files, strict=True):
        np.testing.assert_array_equal(found.pixels, codec.decode(data).pixels)


def test_where_segments_of_a_kind_go() -> None:
    """In the order of the layout, whatever comes first."""
    bare = File(Header(9, 9, 1, 1, 1), (b"latents", b"alpha"), Layout(alpha=True))
    one = with_segments(
        with_segments(bare, "residual", [b"residual"], residual_step=5), "overlay", [b"overlay"], overlay=True
    )
    other = with_segments(
        with_segments(bare, "overlay", [b"overlay"], overlay=True), "residual", [b"residual"], residual=5
    )
    assert one == other
    assert one.layout == Layout(alpha=True, overlay=True, residual_step=5)
    assert list(one.segments) == [b"latents", b"overlay", b"residual", b"alpha"]


@pytest.mark.parametrize("quality", [55, 80])
@pytest.mark.parametrize("effort", [5, 6])
def test_where_no_residual_pays_files_are_those_of_latents_alone(
    codec: EngineCodec, quality: float, effort: int
) -> None:
    plain = ImageData(np.full((40, 33, 3), 128, np.uint8))
    options = EncodeOptions(quality=quality, effort=effort)
    assert codec.encode(plain, options) == codec.encode(plain, replace(options, layers=1))
