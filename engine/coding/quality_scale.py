"""What a quality means: the step of latents, that of the residual, and what a bit may cost.

At the knee a bit buys as much in both layers. Up to it a quality is that of latents, and the residual, which from the
start on there may be, holds only what networks fail at. Beyond it the latents gain little more, since what networks
cannot hold no step of theirs brings back. The residual's step goes with the square root of what a bit may cost. How
this was measured: `docs/quality.md`.
"""

from dataclasses import dataclass
from math import log2, sqrt

from sdtrt.engine.format.profile import LatentSpaceInfo

STEP_UNIT = 16  # residual steps are in 1/16 level
RESIDUAL_START = 50.0  # the quality from which there may be a residual
KNEE, KNEE_LAMBDA = 65.0, 272.0  # the quality at which a bit buys as much in both, and that: error, in squared levels
KNEE_STEP = 36.0  # levels, of a residual there
QUALITY_PER_STEP_HALVING = 10.6  # of quality beyond the knee, for which the step of a residual halves
QUALITY_PER_LAMBDA_HALVING = 12.5  # of quality, for which a bit of latents may cost half
LATENT_SHARE = 0.2  # of the change of quality beyond the knee that concerns latents
RESIDUAL_LAMBDA = 0.12  # squared error, in squared steps of a residual, for a bit


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A setting of the dial: the quality of latents, the step of a residual in levels, and what a bit may cost.

    `lmbda` is squared error, in squared levels.
    """

    latent_quality: float
    residual_step: float
    lmbda: float


def operating_point(quality: float, *, layers: int) -> OperatingPoint:
    """Return the setting of a quality; with a single layer latents have all of it."""
    beyond = quality - KNEE
    if layers == 1 or beyond <= 0:
        latent_quality, lmbda = quality, KNEE_LAMBDA * 2 ** (-beyond / QUALITY_PER_LAMBDA_HALVING)
    else:
        latent_quality, lmbda = KNEE + LATENT_SHARE * beyond, KNEE_LAMBDA * 4 ** (-beyond / QUALITY_PER_STEP_HALVING)
    return OperatingPoint(latent_quality, KNEE_STEP * sqrt(lmbda / KNEE_LAMBDA), lmbda)


def quality_for_weight(quality: float, weight: float, *, layers: int) -> float:
    """Return the quality of what counts `weight` times as much as at a quality: a bit may cost so much less."""
    return _quality_at_lambda(operating_point(quality, layers=layers).lmbda / weight, layers)


def vivid_weight(residual_step: int) -> float:
    """Return how much of a vivid look a file has beside a residual of this step, in 1/16 level, or 0 for none: 1 to 0.

    A residual mends a faithful look. Where it first comes in it mends failures alone, and vividness is whole; from the
    knee on nothing is left of it.
    """
    return (
        min(max((KNEE - _quality_at_residual_step(residual_step)) / (KNEE - RESIDUAL_START), 0.0), 1.0)
        if residual_step
        else 1.0
    )


def quality_of(profile: LatentSpaceInfo, step_code: int, residual_step: int) -> float:
    """Return the quality of a file whose residual has this step, in 1/16 level, or which has none, 0."""
    return _quality_at_residual_step(residual_step) if residual_step else profile.quality(step_code)


def _quality_at_residual_step(residual_step: int) -> float:
    return _quality_at_lambda(KNEE_LAMBDA * (residual_step / STEP_UNIT / KNEE_STEP) ** 2, 2)


def _quality_at_lambda(lmbda: float, layers: int) -> float:
    """Return the quality at which a bit may cost so much."""
    octaves = log2(KNEE_LAMBDA / lmbda)
    return KNEE + octaves * (
        QUALITY_PER_LAMBDA_HALVING if layers == 1 or octaves <= 0 else QUALITY_PER_STEP_HALVING / 2
    )
