"""What a quality means: the step of latents, that of the residual, and what a bit may cost.

At the knee a bit buys as much in both layers. Up to it a quality is that of latents, and the residual, which from the
start on there may be, holds only what networks fail at. Beyond it the latents gain little more, since what networks
cannot hold no step of theirs brings back. The residual's step goes with the square root of what a bit may cost. How
this was measured: `docs/quality.md`.
"""

from dataclasses import dataclass
from math import log2, sqrt

from sdtrt.engine.format.profile import Outline

UNIT = 16  # residual steps are in 1/16 level
START = 50.0  # the quality from which there may be a residual
KNEE, KNEE_PRICE = 65.0, 272.0  # the quality at which a bit buys as much in both, and that: error, in squared levels
KNEE_STEP = 36.0  # levels, of a residual there
OCTAVE = 10.6  # of quality beyond the knee, for which the step of a residual halves
LATENTS_OCTAVE = 12.5  # of quality, for which a bit of latents may cost half
SHARE = 0.2  # of the change of quality beyond the knee that concerns latents
PRICE = 0.12  # squared error, in squared steps of a residual, for a bit


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the dial: the quality of latents, the step of a residual in levels, and what a bit may cost.

    `price` is squared error, in squared levels.
    """

    latents: float
    residual: float
    price: float


def setting(quality: float, *, layers: int) -> Setting:
    """Return the setting of a quality; with a single layer latents have all of it."""
    beyond = quality - KNEE
    if layers == 1 or beyond <= 0:
        latents, price = quality, KNEE_PRICE * 2 ** (-beyond / LATENTS_OCTAVE)
    else:
        latents, price = KNEE + SHARE * beyond, KNEE_PRICE * 4 ** (-beyond / OCTAVE)
    return Setting(latents, KNEE_STEP * sqrt(price / KNEE_PRICE), price)


def weighted(quality: float, weight: float, *, layers: int) -> float:
    """Return the quality of what counts `weight` times as much as at a quality: a bit may cost so much less."""
    return _priced(setting(quality, layers=layers).price / weight, layers)


def vividness(residual: int) -> float:
    """Return how much of a vivid look a file has beside a residual of this step, in 1/16 level, or 0 for none: 1 to 0.

    A residual mends a faithful look. Where it first comes in it mends failures alone, and vividness is whole; from the
    knee on nothing is left of it.
    """
    return min(max((KNEE - _of_step(residual)) / (KNEE - START), 0.0), 1.0) if residual else 1.0


def quality_of(profile: Outline, step_code: int, residual: int) -> float:
    """Return the quality of a file whose residual has this step, in 1/16 level, or which has none, 0."""
    return _of_step(residual) if residual else profile.quality(step_code)


def _of_step(residual: int) -> float:
    return _priced(KNEE_PRICE * (residual / UNIT / KNEE_STEP) ** 2, 2)


def _priced(price: float, layers: int) -> float:
    """Return the quality at which a bit may cost so much."""
    octaves = log2(KNEE_PRICE / price)
    return KNEE + octaves * (LATENTS_OCTAVE if layers == 1 or octaves <= 0 else OCTAVE / 2)
