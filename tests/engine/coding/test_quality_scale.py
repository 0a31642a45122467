"""The dial: from qualities to steps of latents and residuals, evenly, and back."""

from itertools import pairwise

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.coding.quality_scale import (
    KNEE,
    KNEE_LAMBDA,
    RESIDUAL_START,
    STEP_UNIT,
    operating_point,
    quality_for_weight,
    quality_of,
    vivid_weight,
)
from sdtrt.engine.coding.rate_control import MAX_QUALITY, MIN_QUALITY
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import shipped_profile

QUALITIES = np.arange(MIN_QUALITY, MAX_QUALITY + 0.1, 0.1).tolist()


def test_the_knee() -> None:
    """Up to it latents have all of a quality, and beyond 0.2 of it, unless they are alone."""
    for quality in (1, 33.3, RESIDUAL_START, KNEE):
        assert (
            operating_point(quality, layers=2).latent_quality
            == operating_point(quality, layers=1).latent_quality
            == quality
        )
    assert operating_point(KNEE + 10, layers=1).latent_quality == KNEE + 10
    assert operating_point(KNEE + 10, layers=2).latent_quality == pytest.approx(KNEE + 2)


@pytest.mark.parametrize(("quality", "step"), [(65, 36), (40, 72), (15, 144), (75.6, 18), (96.8, 4.5)])
def test_steps_that_the_text_gives(quality: float, step: float) -> None:
    assert operating_point(quality, layers=2).residual_step == pytest.approx(step)


def test_more_quality_is_finer_all_along() -> None:
    """Without a leap at the start or the knee."""
    profile = shipped_profile(1)
    for lower, higher in pairwise([operating_point(quality, layers=2) for quality in QUALITIES]):
        assert lower.latent_quality < higher.latent_quality
        assert 0.99 < higher.residual_step / lower.residual_step < 1
        assert 0.98 < higher.lmbda / lower.lmbda < 1
        assert 0 <= profile.step_code(lower.latent_quality) - profile.step_code(higher.latent_quality) <= 2


def test_vividness() -> None:
    """Whole without a residual, and where it first comes in; nothing of it is left from the knee on."""
    assert vivid_weight(0) == 1
    assert vivid_weight(round(STEP_UNIT * operating_point(RESIDUAL_START, layers=2).residual_step)) == pytest.approx(
        1, abs=0.001
    )
    found = [
        vivid_weight(round(STEP_UNIT * operating_point(quality, layers=2).residual_step))
        for quality in (52, 57.5, 63, KNEE, 90)
    ]
    assert found == sorted(found, reverse=True)
    assert found[1] == pytest.approx(0.5, abs=0.01)
    assert found[3:] == pytest.approx([0, 0], abs=0.01)


def test_prices() -> None:
    """Below the knee those of latents; all along they are in proportion to the square of the residual's step."""
    assert operating_point(KNEE, layers=2).lmbda == KNEE_LAMBDA
    assert operating_point(KNEE - 12.5, layers=2).lmbda == pytest.approx(2 * KNEE_LAMBDA)
    assert operating_point(KNEE + 10.6, layers=2).lmbda == pytest.approx(KNEE_LAMBDA / 4)
    settings = [operating_point(quality, layers=2) for quality in QUALITIES]
    assert [one.lmbda / one.residual_step**2 for one in settings] == pytest.approx(
        [KNEE_LAMBDA / 36**2] * len(settings)
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_weights_are_ratios_of_prices(layers: int) -> None:
    """Across the knee, too."""
    for quality in (5, 40, KNEE, 80):
        assert quality_for_weight(quality, 1, layers=layers) == pytest.approx(quality)
        for weight in (2, 16, 64):
            there = operating_point(quality_for_weight(quality, weight, layers=layers), layers=layers)
            assert there.lmbda == pytest.approx(operating_point(quality, layers=layers).lmbda / weight)


@pytest.mark.parametrize("profile", [1, 2])
def test_there_and_back(profile: int) -> None:
    """A file tells the quality that it was made with, as near as its whole steps do."""
    known = shipped_profile(profile)
    for quality in QUALITIES:
        one = operating_point(quality, layers=2)
        step = round(STEP_UNIT * one.residual_step)
        if RESIDUAL_START < quality <= 100:
            assert quality_of(known, known.step_code(one.latent_quality), step) == pytest.approx(quality, abs=0.13)
        elif step <= 65535 and quality <= RESIDUAL_START:
            assert quality_of(known, known.step_code(one.latent_quality), step) == pytest.approx(quality, abs=0.02)
            assert quality_of(known, known.step_code(one.latent_quality), 0) == pytest.approx(quality, abs=0.07)


@pytest.mark.parametrize("quality", [1, 30, 50, 50.5, 51, 70, 85, 100])
@pytest.mark.parametrize("layers", [1, 2])
def test_what_files_say(codec: sdtrt.Codec, quality: float, layers: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 33, 3), np.uint8)
    data = codec.encode(pixels, quality=quality, layers=layers)
    layout = container.read(data).layout
    assert (layout.residual_step > 0) == (layers == 2 and quality > RESIDUAL_START)
    assert sdtrt.info(data).quality == pytest.approx(quality, abs=0.15)
    assert ("residual" in sdtrt.info(data).bytes_by_section) == (layout.residual_step > 0)
