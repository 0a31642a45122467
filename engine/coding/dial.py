"""What a quality means: the step of latents, that of the residual, and what a bit may cost.

Up to the start quality is a matter of the latents alone. From there on a residual comes in, at first so coarse that it
holds only what networks fail at. At the knee a bit buys as much in both layers; beyond it the latents gain little more,
since what networks cannot hold no step of theirs brings back. How this was measured: `docs/quality.md`.
"""

from dataclasses import dataclass
from math import log2

from sdtrt.engine.format.profile import Outline

UNIT = 16  # residual steps are in 1/16 level
START, START_STEP = 50.0, 96.0  # the quality from which there may be a residual, and its step there, in levels
OCTAVE = 10.6  # of quality, for which the step of a residual halves
KNEE, KNEE_PRICE = 65.0, 272.0  # the quality at which a bit buys as much in both, and that: error, in squared levels
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
    return Setting(latents, START_STEP * 2 ** ((START - quality) / OCTAVE), price)


def weighted(quality: float, weight: float, *, layers: int) -> float:
    """Return the quality of what counts `weight` times as much as at a quality: a bit may cost so much less."""
    octaves = log2(weight * KNEE_PRICE / setting(quality, layers=layers).price)
    return KNEE + octaves * (LATENTS_OCTAVE if layers == 1 or octaves <= 0 else OCTAVE / 2)


def vividness(residual: int) -> float:
    """Return how much of a vivid look a file has beside a residual of this step, in 1/16 level, or 0 for none: 1 to 0.

    A residual mends a faithful look. Where it first comes in it mends failures alone, and vividness is whole; from the
    knee on nothing is left of it.
    """
    if not residual:
        return 1.0
    knee = setting(KNEE, layers=2).residual
    return min(max(log2(residual / UNIT / knee) / log2(START_STEP / knee), 0.0), 1.0)


def quality_of(profile: Outline, step_code: int, residual: int) -> float:
    """Return the quality of a file whose residual has this step, in 1/16 level, or which has none, 0."""
    return START + OCTAVE * log2(UNIT * START_STEP / residual) if residual else profile.quality(step_code)
