"""The quality scale: quality to quantization steps of latents and residuals, evenly, and back."""

import math
from itertools import pairwise

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.coding.quality_scale import (
    KNEE,
    KNEE_LAMBDA,
    RESIDUAL_START,
    STEP_UNIT,
    allows_fast,
    allows_int8,
    operating_point,
    quality_for_weight,
    quality_of,
    structure_weight,
)
from sdtrt.engine.coding.rate_control import MAX_QUALITY, MIN_QUALITY
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import shipped_profile

QUALITIES = np.arange(MIN_QUALITY, MAX_QUALITY + 0.1, 0.1).tolist()


def test_operating_point_at_the_knee_splits_quality_between_layers() -> None:
    """Above the knee, latents take 0.2 of the additional quality beside a residual, and all of it without one."""
    for quality in (1, 33.3, RESIDUAL_START, KNEE):
        assert (
            operating_point(quality, layers=2).latent_quality
            == operating_point(quality, layers=1).latent_quality
            == quality
        )
    assert operating_point(KNEE + 10, layers=1).latent_quality == KNEE + 10
    assert operating_point(KNEE + 10, layers=2).latent_quality == pytest.approx(KNEE + 2)


@pytest.mark.parametrize(("quality", "residual_step"), [(65, 36), (40, 72), (15, 144), (75.6, 18), (96.8, 4.5)])
def test_operating_point_residual_step_matches_the_documentation(quality: float, residual_step: float) -> None:
    assert operating_point(quality, layers=2).residual_step == pytest.approx(residual_step)


def test_operating_point_higher_quality_has_smaller_quant_steps() -> None:
    """The steps and lambda fall without jumps, also at the start of the residual and at the knee."""
    profile = shipped_profile(1)
    for lower, higher in pairwise([operating_point(quality, layers=2) for quality in QUALITIES]):
        assert lower.latent_quality < higher.latent_quality
        assert 0.99 < higher.residual_step / lower.residual_step < 1
        assert 0.98 < higher.lmbda / lower.lmbda < 1
        assert 0 <= profile.step_code(lower.latent_quality) - profile.step_code(higher.latent_quality) <= 2


def test_structure_weight_falls_from_1_at_the_residual_start_to_0_at_the_knee() -> None:
    """The weight is 1 without a residual and at the residual start, and 0 from the knee on."""
    assert structure_weight(0) == 1
    assert structure_weight(
        round(STEP_UNIT * operating_point(RESIDUAL_START, layers=2).residual_step)
    ) == pytest.approx(1, abs=0.001)
    weights = [
        structure_weight(round(STEP_UNIT * operating_point(quality, layers=2).residual_step))
        for quality in (52, 57.5, 63, KNEE, 90)
    ]
    assert weights == sorted(weights, reverse=True)
    assert weights[1] == pytest.approx(0.5, abs=0.01)
    assert weights[3:] == pytest.approx([0, 0], abs=0.01)


def test_allows_fast_while_the_residual_is_as_coarse_as_at_the_knee() -> None:
    allowed = [
        allows_fast(math.floor(STEP_UNIT * operating_point(quality, layers=2).residual_step))
        for quality in (RESIDUAL_START, 60, KNEE, KNEE + 1, 100)
    ]
    assert allowed == [True, True, True, False, False]
    assert allows_fast(0)


def test_allows_int8_without_a_residual_or_beside_a_coarse_one() -> None:
    assert [allows_int8(step) for step in (0, 1, 383, 384, 4000)] == [True, False, False, True, True]


def test_operating_point_lambda_is_proportional_to_the_squared_residual_step() -> None:
    """Below the knee, lambda is the lambda of latents."""
    assert operating_point(KNEE, layers=2).lmbda == KNEE_LAMBDA
    assert operating_point(KNEE - 12.5, layers=2).lmbda == pytest.approx(2 * KNEE_LAMBDA)
    assert operating_point(KNEE + 10.6, layers=2).lmbda == pytest.approx(KNEE_LAMBDA / 4)
    points = [operating_point(quality, layers=2) for quality in QUALITIES]
    assert [point.lmbda / point.residual_step**2 for point in points] == pytest.approx(
        [KNEE_LAMBDA / 36**2] * len(points)
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_quality_for_weight_divides_lambda_by_the_weight(layers: int) -> None:
    """The relation also holds across the knee."""
    for quality in (5, 40, KNEE, 80):
        assert quality_for_weight(quality, 1, layers=layers) == pytest.approx(quality)
        for weight in (2, 16, 64):
            point = operating_point(quality_for_weight(quality, weight, layers=layers), layers=layers)
            assert point.lmbda == pytest.approx(operating_point(quality, layers=layers).lmbda / weight)


@pytest.mark.parametrize("profile_id", [1, 2])
def test_quality_of_inverts_operating_point(profile_id: int) -> None:
    """The quality is restored from the step codes, up to their rounding."""
    profile = shipped_profile(profile_id)
    for quality in QUALITIES:
        point = operating_point(quality, layers=2)
        residual_step = round(STEP_UNIT * point.residual_step)
        if RESIDUAL_START < quality <= 100:
            assert quality_of(profile, profile.step_code(point.latent_quality), residual_step) == pytest.approx(
                quality, abs=0.13
            )
        elif residual_step <= 65535 and quality <= RESIDUAL_START:
            assert quality_of(profile, profile.step_code(point.latent_quality), residual_step) == pytest.approx(
                quality, abs=0.02
            )
            assert quality_of(profile, profile.step_code(point.latent_quality), 0) == pytest.approx(quality, abs=0.07)


@pytest.mark.parametrize("quality", [1, 30, 50, 50.5, 51, 70, 85, 100])
@pytest.mark.parametrize("layers", [1, 2])
def test_info_reports_the_encoded_quality_and_layers(codec: sdtrt.Codec, quality: float, layers: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 33, 3), np.uint8)
    data = codec.encode(pixels, quality=quality, layers=layers)
    layout = container.read(data).layout
    assert (layout.residual_step > 0) == (layers == 2 and quality > RESIDUAL_START)
    assert sdtrt.info(data).quality == pytest.approx(quality, abs=0.15)
    assert ("residual" in sdtrt.info(data).bytes_by_section) == (layout.residual_step > 0)
