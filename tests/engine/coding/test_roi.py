"""Regions of interest: rate weights of blocks, and the effect of ROI weights on quality and file size."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import operating_point, quality_for_weight
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData, psnr


def weights(value: float) -> np.ndarray:
    array = np.ones((64, 80), np.float32)
    array[20:40, 50:60] = value
    return array


def test_rate_weights_are_1_in_and_around_the_region() -> None:
    """Blocks that overlap the region and their neighbours have weight 1. All others have the ROI weight."""
    expected = np.full((8, 10), 9, np.float32)
    expected[1:6, 5:9] = 1  # the region covers block rows 2 to 4 and columns 6 to 7; one block more on each side
    np.testing.assert_array_equal(RoiWeights(weights(9)).rate_weights(8), expected)
    assert RoiWeights(weights(4)[:61, :59]).rate_weights(8).shape == (8, 8)
    np.testing.assert_array_equal(RoiWeights(np.full((9, 7), 5, np.float32)).rate_weights(8), np.ones((2, 1)))


@pytest.mark.parametrize("value", [0, 0.99, 64.1, np.inf, np.nan, -1])
def test_roi_weights_out_of_range_raises_value_error(value: float) -> None:
    with pytest.raises(ValueError, match="expected 1"):
        RoiWeights(weights(value))


@pytest.mark.parametrize("effort", [1, 6])
@pytest.mark.parametrize("layers", [1, 2])
def test_encode_uniform_roi_equals_higher_quality(
    photo: Callable[[int, int], np.ndarray], effort: int, layers: int
) -> None:
    """A uniform weight of 1 changes nothing. Both hold at each effort."""
    codec, image = EngineCodec("tiny", threads=1), ImageData(photo(61, 45))
    for weight, quality in ((1, 30), (4, 30), (4, 60)):
        options = EncodeOptions(quality=quality, effort=effort, layers=layers)
        data = codec.encode(image, options, RoiWeights(np.full((45, 61), weight, np.float32)))
        higher = quality_for_weight(quality, weight, layers=layers)
        assert data == codec.encode(image, replace(options, quality=higher))


def test_encode_palette_with_roi_raises_value_error(photo: Callable[[int, int], np.ndarray]) -> None:
    codec, roi = EngineCodec("tiny", threads=1), RoiWeights(np.ones((16, 16), np.float32))
    with pytest.raises(ValueError, match="no region of interest"):
        codec.encode(ImageData(photo(16, 16)), EncodeOptions(method="palette"), roi)


@pytest.mark.parametrize("effort", [2, 5])
def test_encode_roi_raises_psnr_of_the_region_and_file_size(
    photo: Callable[[int, int], np.ndarray], effort: int
) -> None:
    codec, pixels = EngineCodec("tiny", threads=1), photo(200, 120)
    region = np.ones((120, 200), np.float32)
    region[:, :64] = 16
    options = EncodeOptions(quality=45, effort=effort)
    plain, weighted = (codec.encode(ImageData(pixels), options, roi) for roi in (None, RoiWeights(region)))
    assert codec.encode(ImageData(pixels), options, RoiWeights(np.ones((120, 200), np.float32))) == plain
    codes = [container.read(data).header.step_code for data in (plain, weighted)]
    qualities = [45, operating_point(quality_for_weight(45, 16, layers=2), layers=2).latent_quality]
    assert codes == [codec.profile.step_code(quality) for quality in qualities]
    assert codes[0] - codes[1] == 237
    before, after = (codec.decode(data).pixels for data in (plain, weighted))
    assert psnr(after[:, :64], pixels[:, :64]) > psnr(before[:, :64], pixels[:, :64]) + 1.5
    assert len(weighted) > len(plain)
