"""The dial: from qualities to steps of latents and residuals, evenly, and back."""

from itertools import pairwise

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.coding.dial import KNEE, KNEE_STEP, PRICE, UNIT, quality_of, setting
from sdtrt.engine.coding.rate import COARSEST, FINEST
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import shipped_profile

QUALITIES = np.arange(COARSEST, FINEST + 0.1, 0.1).tolist()


def test_the_knee() -> None:
    """Up to it latents have all of a quality, and beyond 0.4 of it, unless they are alone."""
    assert setting(KNEE, layers=2).residual == KNEE_STEP
    for quality in (1, 33.3, KNEE):
        assert setting(quality, layers=2).latents == setting(quality, layers=1).latents == quality
    assert setting(60, layers=1).latents == 60
    assert setting(60, layers=2).latents == pytest.approx(54)


@pytest.mark.parametrize(("quality", "step"), [(50, 68), (63.25, 34), (76.5, 17), (24, 136), (-2, 272)])
def test_steps_that_the_text_gives(quality: float, step: float) -> None:
    assert setting(quality, layers=2).residual == pytest.approx(step)


def test_more_quality_is_finer_all_along() -> None:
    """Without a leap at the knee."""
    profile = shipped_profile(1)
    for lower, higher in pairwise([setting(quality, layers=2) for quality in QUALITIES]):
        assert lower.latents < higher.latents
        assert 0.99 < higher.residual / lower.residual < 1
        assert lower.price > higher.price
        assert 0 <= lower.step_code(profile) - higher.step_code(profile) <= 2


def test_prices() -> None:
    assert setting(KNEE, layers=2).price == pytest.approx(PRICE * KNEE_STEP**2)
    assert setting(63.25, layers=2).price == pytest.approx(setting(KNEE, layers=2).price / 4)


@pytest.mark.parametrize("profile", [1, 2])
def test_there_and_back(profile: int) -> None:
    """A file tells the quality that it was made with, as near as its whole steps do."""
    known = shipped_profile(profile)
    for quality in QUALITIES:
        one = setting(quality, layers=2)
        step = round(UNIT * one.residual)
        if KNEE < quality <= 100:
            assert quality_of(known, one.step_code(known), step) == pytest.approx(quality, abs=0.13)
        elif step <= 65535 and quality <= KNEE:
            assert quality_of(known, one.step_code(known), step) == pytest.approx(quality, abs=0.02)
            assert quality_of(known, one.step_code(known), 0) == pytest.approx(quality, abs=0.07)


@pytest.mark.parametrize("quality", [1, 30, 50, 50.5, 51, 70, 85, 100])
@pytest.mark.parametrize("layers", [1, 2])
def test_what_files_say(codec: sdtrt.Codec, quality: float, layers: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 33, 3), np.uint8)
    data = codec.encode(pixels, quality=quality, layers=layers)
    layout = container.read(data).layout
    assert (layout.residual > 0) == (layers == 2 and quality > KNEE)
    assert sdtrt.info(data).quality == pytest.approx(quality, abs=0.15)
    assert ("residual" in sdtrt.info(data).spent) == (layout.residual > 0)
