"""What is asked for, and rate control: never above the bytes nor below the PSNR, and near them where possible."""

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


def sizes(quality: float) -> bytes:
    """Files that grow with quality, unevenly."""
    notches = round((quality - MIN_QUALITY) / QUALITY_GRID)
    return bytes(20 + notches * 3 + notches % 2)


@pytest.mark.parametrize("nbytes", [21, 22, 25, 400, 1000, 3000])
def test_sizes_are_met_soon(nbytes: int) -> None:
    trials = []

    def code_file(quality: float) -> bytes:
        trials.append(quality)
        return sizes(quality)

    found = len(highest_quality_within(nbytes, 100, code_file))
    assert nbytes - max(5, SIZE_TOLERANCE * nbytes) <= found <= nbytes
    assert len(trials) <= 12


def test_too_few_bytes_tell_the_smallest() -> None:
    with pytest.raises(ValueError, match=r"19 bytes are too few.*has 2[01]"):
        highest_quality_within(19, 100, sizes)


def test_more_bytes_than_quality_100_takes() -> None:
    assert highest_quality_within(1 << 20, 100, sizes) == sizes(100)


@pytest.mark.parametrize("nbytes", [150, 300, 700, 1400])
def test_pictures(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], nbytes: int) -> None:
    data = codec.encode(photo(160, 120), max_bytes=nbytes)
    assert 0.97 * nbytes <= len(data) <= nbytes
    assert codec.decode(data).size == (160, 120)


def test_bits_per_pixel(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]) -> None:
    data = codec.encode(photo(160, 120), bpp=0.5)
    assert 0.97 * 0.5 <= 8 * len(data) / (160 * 120) <= 0.5


def likeness(data: bytes) -> float:
    """A PSNR that rises with quality, unevenly, of the files of `sizes`."""
    notches = (len(data) - 20) // 3
    return 36 - ((2000 - notches) / 200) ** 1.5 / 2


@pytest.mark.parametrize("wanted", [25.0, 30.0, 33.25])
def test_interpolation(wanted: float) -> None:
    trials = []

    def measure(data: bytes) -> float:
        trials.append(data)
        return likeness(data)

    found = likeness(lowest_quality_above(wanted, MAX_QUALITY, sizes, measure))
    assert wanted <= found < wanted + PSNR_TOLERANCE
    assert len(trials) <= 8


def test_too_many_decibels_tell_the_most() -> None:
    with pytest.raises(ValueError, match=r"60 dB cannot be reached.*has 3\d\.\d\d"):
        lowest_quality_above(60, MAX_QUALITY, sizes, likeness)


def test_fewer_decibels_than_the_coarsest_step_has() -> None:
    assert lowest_quality_above(1, MAX_QUALITY, sizes, likeness) == sizes(MIN_QUALITY)


@pytest.mark.parametrize("wanted", [26.0, 28.0])
def test_psnr_of_pictures(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], wanted: float) -> None:
    pixels = photo(160, 120)
    data = codec.encode(pixels, target_psnr=wanted)
    found = psnr(pixels, np.asarray(codec.decode(data)))
    assert wanted <= found < wanted + 0.3
    assert len(data) < len(codec.encode(pixels, target_psnr=wanted + 3))


def test_psnr_of_pictures_that_are_better_when_coarse(codec: sdtrt.Codec) -> None:
    """Black has more decibels at coarse steps than at fine ones, a single pixel may even be exact."""
    black = np.zeros((64, 64, 3), np.uint8)
    assert psnr(black, np.asarray(codec.decode(codec.encode(black, quality=100, layers=1)))) < 51
    assert psnr(black, np.asarray(codec.decode(codec.encode(black, target_psnr=51)))) >= 51
    codec.encode(np.array([[[241, 129, 61]]], np.uint8), target_psnr=30)


def test_a_search_for_psnr_ends_soon() -> None:
    """However PSNR falls: here hardly, and then at once."""
    trials: list[float] = []

    def code_file(quality: float) -> bytes:
        trials.append(quality)
        return round(1000 + quality / QUALITY_GRID).to_bytes(2, "big")

    def cliff(data: bytes) -> float:
        notches = int.from_bytes(data, "big")
        return 60 - 1e-5 * (4000 - notches) if notches >= 1550 else 20

    assert lowest_quality_above(59.9, MAX_QUALITY, code_file, cliff) == (1550).to_bytes(2, "big")
    assert len(trials) <= 24


def test_psnr_of_grey_pictures_is_that_of_grey(codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]) -> None:
    grey = photo(96, 96)[:, :, 0]
    found = psnr(grey, np.asarray(codec.decode(codec.encode(grey, target_psnr=38))))
    assert 38 <= found < 38.5


def test_latents_have_no_psnr() -> None:
    with pytest.raises(ValueError, match="no image"):
        encode_latents(
            np.zeros((40, 2, 2), np.float32), 16, 16, EngineCodec("tiny").profile, EncodeOptions(target_psnr=30)
        )


def test_palette_is_not_for_every_latent_space(codec: sdtrt.Codec) -> None:
    with pytest.raises(ValueError, match="4 channels"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), method="palette")


@pytest.mark.parametrize(
    ("asked", "words"),
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
def test_wishes_that_make_no_sense(codec: sdtrt.Codec, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncodeOptions(**asked)
    with pytest.raises(ValueError, match=words):
        codec.encode(np.zeros((8, 8, 3), np.uint8), **asked)


@pytest.mark.parametrize(
    "options", [EncodeOptions(target_psnr=1e307), EncodeOptions(bpp=1e-4), EncodeOptions(max_bytes=1)]
)
def test_wishes_that_nobody_can_grant(options: EncodeOptions) -> None:
    with pytest.raises(ValueError, match=r"cannot be reached|too few"):
        encode_to_target(options, 8, 8, lambda quality: bytes(100), lambda data: 30.0)


@pytest.mark.parametrize("options", [EncodeOptions(bpp=1e308), EncodeOptions(max_bytes=10**400)])
def test_wishes_for_more_than_there_is(options: EncodeOptions) -> None:
    assert encode_to_target(options, 8, 8, lambda quality: bytes(round(100 + quality)), lambda data: 30.0) == bytes(230)
