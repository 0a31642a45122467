"""Rate control: files are at most the requested size or at least the requested PSNR, and near the target."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.rate_control import (
    MAX_QUALITY,
    MIN_QUALITY,
    PSNR_TOLERANCE,
    QUALITY_GRID,
    SIZE_TOLERANCE,
    encode_to_target,
    highest_quality_within,
    lowest_quality_above,
)
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.image import psnr


def encode_fake_file(quality: float) -> bytes:
    """Return a file of zeros whose size grows with quality, unevenly."""
    quality_index = round((quality - MIN_QUALITY) / QUALITY_GRID)
    return bytes(20 + quality_index * 3 + quality_index % 2)


@pytest.mark.parametrize("nbytes", [21, 22, 25, 400, 1000, 3000])
def test_highest_quality_within_meets_the_size_in_12_trials(nbytes: int) -> None:
    trials = []

    def code_file(quality: float) -> bytes:
        trials.append(quality)
        return encode_fake_file(quality)

    size = len(highest_quality_within(nbytes, 100, code_file))
    assert nbytes - max(5, SIZE_TOLERANCE * nbytes) <= size <= nbytes
    assert len(trials) <= 12


def test_highest_quality_within_too_few_bytes_error_names_the_smallest_size() -> None:
    with pytest.raises(ValueError, match=r"19 bytes are too few.*has 2[01]"):
        highest_quality_within(19, 100, encode_fake_file)


def test_highest_quality_within_more_bytes_than_needed_returns_quality_100() -> None:
    assert highest_quality_within(1 << 20, 100, encode_fake_file) == encode_fake_file(100)


@pytest.mark.parametrize("nbytes", [150, 300, 700, 1400])
def test_encode_max_bytes_is_met_within_3_percent(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], nbytes: int
) -> None:
    data = codec.encode(photo(160, 120), max_bytes=nbytes)
    assert 0.97 * nbytes <= len(data) <= nbytes
    assert codec.decode(data).size == (160, 120)


def test_encode_bpp_is_met_within_3_percent(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]) -> None:
    data = codec.encode(photo(160, 120), bpp=0.5)
    assert 0.97 * 0.5 <= 8 * len(data) / (160 * 120) <= 0.5


def fake_psnr(data: bytes) -> float:
    """Return a PSNR that rises unevenly with quality, for the files of `encode_fake_file`."""
    quality_index = (len(data) - 20) // 3
    return 36 - ((2000 - quality_index) / 200) ** 1.5 / 2


@pytest.mark.parametrize("target_psnr", [25.0, 30.0, 33.25])
def test_lowest_quality_above_meets_the_psnr_in_8_trials(target_psnr: float) -> None:
    trials = []

    def measure(data: bytes) -> float:
        trials.append(data)
        return fake_psnr(data)

    actual = fake_psnr(lowest_quality_above(target_psnr, MAX_QUALITY, encode_fake_file, measure))
    assert target_psnr <= actual < target_psnr + PSNR_TOLERANCE
    assert len(trials) <= 8


def test_lowest_quality_above_unreachable_psnr_error_names_the_best_psnr() -> None:
    with pytest.raises(ValueError, match=r"60 dB cannot be reached.*has 3\d\.\d\d"):
        lowest_quality_above(60, MAX_QUALITY, encode_fake_file, fake_psnr)


def test_lowest_quality_above_low_psnr_returns_the_lowest_quality() -> None:
    assert lowest_quality_above(1, MAX_QUALITY, encode_fake_file, fake_psnr) == encode_fake_file(MIN_QUALITY)


@pytest.mark.parametrize("target_psnr", [26.0, 28.0])
def test_encode_target_psnr_is_met_within_0_3_db(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], target_psnr: float
) -> None:
    pixels = photo(160, 120)
    data = codec.encode(pixels, target_psnr=target_psnr)
    actual = psnr(pixels, np.asarray(codec.decode(data)))
    assert target_psnr <= actual < target_psnr + 0.3
    assert len(data) < len(codec.encode(pixels, target_psnr=target_psnr + 3))


def test_encode_target_psnr_of_images_with_higher_psnr_at_coarse_steps(codec: sdtrt.Codec) -> None:
    """A black image has a higher PSNR at coarse steps than at fine steps. A single pixel may even be exact."""
    black = np.zeros((64, 64, 3), np.uint8)
    assert psnr(black, np.asarray(codec.decode(codec.encode(black, quality=100, layers=1)))) < 51
    assert psnr(black, np.asarray(codec.decode(codec.encode(black, target_psnr=51)))) >= 51
    codec.encode(np.array([[[241, 129, 61]]], np.uint8), target_psnr=30)


def test_lowest_quality_above_psnr_cliff_takes_at_most_24_trials() -> None:
    """The PSNR hardly falls with quality, then drops by 40 dB."""
    trials: list[float] = []

    def code_file(quality: float) -> bytes:
        trials.append(quality)
        return round(1000 + quality / QUALITY_GRID).to_bytes(2, "big")

    def cliff(data: bytes) -> float:
        quality_index = int.from_bytes(data, "big")
        return 60 - 1e-5 * (4000 - quality_index) if quality_index >= 1550 else 20

    assert lowest_quality_above(59.9, MAX_QUALITY, code_file, cliff) == (1550).to_bytes(2, "big")
    assert len(trials) <= 24


def test_encode_target_psnr_of_grey_images_is_measured_in_grey(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]
) -> None:
    grey = photo(96, 96)[:, :, 0]
    actual = psnr(grey, np.asarray(codec.decode(codec.encode(grey, target_psnr=38))))
    assert 38 <= actual < 38.5


def test_encode_latents_target_psnr_raises_value_error() -> None:
    with pytest.raises(ValueError, match="no image"):
        encode_latents(
            np.zeros((40, 2, 2), np.float32), 16, 16, EngineCodec("tiny").profile, EncodeOptions(target_psnr=30)
        )


def test_encode_palette_of_40_channels_raises_value_error(codec: sdtrt.Codec) -> None:
    with pytest.raises(ValueError, match="4 channels"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), method="palette")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quality": 50, "max_bytes": 100}, "one of them only"),
        ({"target_psnr": 30, "bpp": 1}, "one of them only"),
        ({"quality": 0}, "quality is 0, expected a number from 1 to 100"),
        ({"max_bytes": 0}, "max_bytes is 0, expected a whole number, at least 1"),
        ({"bpp": float("inf")}, "bpp is inf"),
        ({"target_psnr": float("nan")}, "target_psnr is nan"),
        ({"effort": 0}, "effort is 0"),
        ({"effort": 10}, "effort is 10"),
        ({"layers": 0}, "layers is 0"),
        ({"layers": 3}, "layers is 3"),
        ({"method": "magic"}, "'magic'"),
        ({"method": "palette", "quality": 50}, "one rate only"),
    ],
)
def test_encode_options_invalid_raises_value_error(codec: sdtrt.Codec, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncodeOptions(**fields)
    with pytest.raises(ValueError, match=message):
        codec.encode(np.zeros((8, 8, 3), np.uint8), **fields)


@pytest.mark.parametrize(
    "options", [EncodeOptions(target_psnr=1e307), EncodeOptions(bpp=1e-4), EncodeOptions(max_bytes=1)]
)
def test_encode_to_target_unreachable_target_raises_value_error(options: EncodeOptions) -> None:
    with pytest.raises(ValueError, match=r"cannot be reached|too few"):
        encode_to_target(options, 8, 8, lambda quality: bytes(100), lambda data: 30.0)


@pytest.mark.parametrize("options", [EncodeOptions(bpp=1e308), EncodeOptions(max_bytes=10**400)])
def test_encode_to_target_huge_size_returns_the_highest_quality(options: EncodeOptions) -> None:
    assert encode_to_target(options, 8, 8, lambda quality: bytes(round(100 + quality)), lambda data: 30.0) == bytes(230)
