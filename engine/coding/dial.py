"""What a quality means: the step of latents, and that of the residual, where a bit buys as much in both.

Up to the knee, quality is a matter of the latents alone. Beyond it the residual's step falls faster than theirs: what
networks cannot hold no step of theirs brings back. Both were measured on ten photos (`docs/quality.md`).
"""

from dataclasses import dataclass
from math import log2

from sdtrt.engine.format.profile import LatentProfile

UNIT = 16  # residual steps are in 1/16 level
KNEE = 50  # the quality from which a residual may be worth its bits
KNEE_STEP = 68.0  # levels: the step of a residual whose bits are worth as much as the latents' at the knee
OCTAVE_BELOW, OCTAVE = 26.0, 13.25  # of quality, for which the step of a residual halves, below and above the knee
SHARE = 0.4  # of the change of quality beyond the knee that concerns latents
PRICE = 0.12  # squared error, in squared steps of a residual, for a bit


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the dial: the quality of latents, and the step of a residual in levels."""

    latents: float
    residual: float

    def step_code(self, profile: LatentProfile) -> int:
        return profile.step_code(self.latents)

    @property
    def price(self) -> float:
        """What a bit may cost in squared error, in squared levels."""
        return PRICE * self.residual**2


def setting(quality: float, *, layers: int) -> Setting:
    """Return the setting of a quality; with a single layer latents have all of it."""
    beyond = quality - KNEE
    step = KNEE_STEP * 2 ** (-beyond / (OCTAVE if beyond > 0 else OCTAVE_BELOW))
    return Setting(quality if layers == 1 or beyond <= 0 else KNEE + SHARE * beyond, step)


def quality_of(profile: LatentProfile, step_code: int, residual: int) -> float:
    """Return the quality of a file whose residual has this step, in 1/16 level, or which has none, 0."""
    if not residual:
        return profile.quality(step_code)
    octaves = log2(UNIT * KNEE_STEP / residual)
    return KNEE + octaves * (OCTAVE if octaves > 0 else OCTAVE_BELOW)
