"""The looks: which decoder is used, and beside which residual."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdtrt.engine import regions, salvage
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import KNEE
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.decode_request import FAITHFUL, DecodeOptions
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError

FAST = DecodeOptions(look="fast")
DARKER = -10  # difference of the fast decoder of the fixture `looks`, in 8-bit values


@pytest.fixture(scope="module")
def codec(looks: Bundle) -> EngineCodec:
    return EngineCodec(looks.folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def files(codec: EngineCodec, photo: Callable[[int, int], np.ndarray]) -> dict[float, bytes]:
    """Files of an image with lines, by quality: without a residual, with a coarse one, with a fine one."""
    pixels = photo(45, 37)
    pixels[8:30:5, 6:30] = 255
    files = {quality: codec.encode(ImageData(pixels), EncodeOptions(quality=quality)) for quality in (30, 57, 80)}
    assert [bool(container.read(data).layout.residual_step) for data in files.values()] == [False, True, True]
    return files


def decoded(codec: EngineCodec, data: bytes, view: DecodeOptions = FAST) -> np.ndarray:
    return codec.decode(data, options=view).pixels.astype(int)


def test_decode_fast_uses_the_fast_decoder_unless_the_residual_is_fine(
    codec: EngineCodec, files: dict[float, bytes]
) -> None:
    for quality, data in files.items():
        faithful, fast = decoded(codec, data, FAITHFUL), decoded(codec, data, FAST)
        if quality < KNEE:
            shown = codec.reconstruct(container.read(data)).astype(int)  # without the residual
            unclamped_pixels = ((shown + DARKER > 0) & (shown < 255)) & ((faithful + DARKER > 0) & (faithful < 255))
            np.testing.assert_array_equal((fast - faithful)[unclamped_pixels], DARKER)
        else:
            np.testing.assert_array_equal(fast, faithful)
        assert codec.decode(data, options=FAST).look == ("fast" if quality < KNEE else "faithful")


def test_decode_auto_look_is_the_recommended_look(codec: EngineCodec, files: dict[float, bytes]) -> None:
    np.testing.assert_array_equal(decoded(codec, files[30], DecodeOptions()), decoded(codec, files[30]))
    assert codec.decode(files[30]).look == codec.decode(files[57]).look == "fast"
    assert codec.decode(files[30], options=FAITHFUL).look == codec.decode(files[80]).look == "faithful"


def test_encode_does_not_depend_on_the_look(codec: EngineCodec, files: dict[float, bytes]) -> None:
    """The residual corrects the faithful decoder, even if the bundle recommends the fast look."""
    built_in = EngineCodec("tiny", device="cpu", threads=1)
    for data in files.values():
        np.testing.assert_array_equal(decoded(built_in, data, FAITHFUL), decoded(codec, data, FAITHFUL))
    image = built_in.decode(files[57], options=FAITHFUL)
    for quality in files:
        assert built_in.encode(image, EncodeOptions(quality=quality)) == codec.encode(
            image, EncodeOptions(quality=quality)
        )


def test_region_rows_and_salvage_have_the_look(codec: EngineCodec, files: dict[float, bytes]) -> None:
    for data in files.values():
        for view in (FAST, FAITHFUL, DecodeOptions()):
            image = codec.decode(data, options=view)
            region = regions.decode_region(codec, data, (5, 3, 20, 30), options=view)
            np.testing.assert_array_equal(region.pixels, image.pixels[3:33, 5:25])
            _, rows = regions.decode_rows(codec, data, options=view)
            np.testing.assert_array_equal(np.concatenate([*rows]), image.pixels)
            salvaged = salvage.salvage(codec, data, options=view)
            np.testing.assert_array_equal(salvaged.pixels, image.pixels)
            assert image.look == region.look == salvaged.look


def test_preview_by_networks_has_the_look_of_the_bundle(codec: EngineCodec, files: dict[float, bytes]) -> None:
    """A preview from coarse passes has no look, since no decoder runs."""
    for data in files.values():
        assert regions.preview(codec, data, 3).look == codec.decode(data).look
        assert regions.preview(codec, data, 8).look is None


def test_gpu_codec_uses_the_decoders_of_the_cpu_codec(
    device: Any, backend: Any, looks: Bundle, codec: EngineCodec, files: dict[float, bytes]
) -> None:
    """Also for files of one batch that have different decoders, and for `decode_into`."""
    on_device = EngineCodec(looks.folder, device="cpu")
    on_device.pipeline = GpuPipeline(device, backend, TiledRunner.of(looks))
    nearly = codec.encode(codec.decode(files[57], options=FAITHFUL), EncodeOptions(quality=61))
    many = [files[57], nearly, files[57], files[30], files[30], files[80]]
    for view in (FAST, FAITHFUL, FAST):
        for back, data in zip(on_device.decode_batch(many, options=view), many, strict=True):
            assert (
                abs(back.pixels.astype(int) - decoded(codec, data, view)).max() <= 1
            )  # a batch may sum in another order
    array = device.empty((37, 45, 3), np.uint8)
    on_device.decode_into(files[57], array, device.stream)
    device.stream.flush(device.stream.num_queued)
    assert abs(array.owner.view(np.uint8).reshape(37, 45, 3).astype(int) - decoded(codec, files[57])).max() <= 1


def test_decode_look_without_its_decoder_raises(looks: Bundle, files: dict[float, bytes]) -> None:
    fields = {name: value for name, value in looks.files.items() if name != "fast.onnx"}
    without = replace(looks, files=fields, look="faithful")
    codec = EngineCodec(without, device="cpu", threads=1)
    with pytest.raises(BundleError, match="no decoder for the look fast; its looks are faithful"):
        codec.decode(files[30], options=FAST)
    assert codec.decode(files[30]).look == "faithful"


def test_tiles_of_the_built_in_fast_decoder_give_the_pixels_of_one_tile(
    photo: Callable[[int, int], np.ndarray],
) -> None:
    machine: dict[str, Any] = {"device": "cpu", "backend": "ort", "precision": "fp32", "threads": 1}
    whole, tiled = (EngineCodec("tiny", tile=side, **machine) for side in (0, 960))
    data = whole.encode(ImageData(np.tile(photo(500, 96), (1, 3, 1))), EncodeOptions(quality=20))
    expected = whole.decode(data, options=FAST).pixels
    np.testing.assert_array_equal(tiled.decode(data, options=FAST).pixels, expected)
    region = regions.decode_region(tiled, data, (700, 40, 500, 30), options=FAST)
    np.testing.assert_array_equal(region.pixels, expected[40:70, 700:1200])


def test_decode_options_unknown_look_raises() -> None:
    with pytest.raises(ValueError, match="look 'pretty', expected one of auto, faithful, fast"):
        DecodeOptions(look="pretty")  # type: ignore[arg-type]
