"""The spread of latents, compared with their latent space: finds latents that were scaled twice or not at all.

The latents of a flat image spread far less than those of an image with hard edges. A warning therefore needs a spread
that no image has. The constants were set on photos and on images made to be extreme.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import F32Array
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.latents.spaces import known_name, scaling_of_space

MAX_POSITIONS = 1 << 12  # positions that are sampled, evenly spaced
MIN_POSITIONS = 256  # fewer positions are not enough for a judgement
USUAL_RATIO = 0.75  # spread of an image's latents / spread of the profile, median of photos
USUAL_RATIOS = 0.35, 1.5  # the range of nearly all photos
LARGE, ALL_LARGE = 4.2, 1.6  # ratios above those of any image: the mean of all channels, and the least
LARGE_VAE, ALL_LARGE_VAE = 2.4, 1.8  # the same where a VAE has a scaling factor: it keeps its latents near normal
SMALL = 0.25  # mean ratio below which latents may have been scaled down
UNIFORM = 5.0  # largest / least ratio of the channels of a photo, at most
CENTRED = 0.6  # distance of channel means from the profile's, in its spread, of a photo at unit scale, at most
BUSY = 0.4  # spread of the middle 80 % of values / spread of all, above which an image has detail everywhere
FACTORS = 0.18215, 0.13025  # scaling factors of pipelines whose code is also used with other VAEs
OF_OTHERS = "the scaling factor of another space, such as sd1 (0.18215) or sdxl (0.13025)"


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of latents, relative to their profile.

    `ratio` is the geometric mean, over channels, of the standard deviation divided by the profile's. `least` and `most`
    are the smallest and largest of these quotients. `busy` is the spread of the middle 80 % of values, relative to all.
    """

    ratio: float
    least: float
    most: float
    busy: float


def spread_of(values: NDArray[np.floating], profile: LatentProfile) -> Spread:
    """Return the spread of latents, (C, n)."""
    deviation = np.maximum(values.std(1), 1e-12)
    low, high = np.quantile(values, (0.1, 0.9), axis=1)
    ratios = deviation / profile.std
    busy = float(np.median((high - low) / 2.563 / deviation))  # 1 for a normal distribution
    return Spread(float(np.exp(np.log(ratios).mean())), float(ratios.min()), float(ratios.max()), busy)


def warning_of_spread(latents: F32Array, profile: LatentProfile) -> str | None:
    """Return a warning about latents, finite float32 (C, h, w); None if an image may have them.

    Latents with fewer than `MIN_POSITIONS` positions are not judged.
    """
    positions = latents[0].size
    if positions < MIN_POSITIONS:
        return None
    values = latents.reshape(len(latents), -1)[:, :: -(-positions // MAX_POSITIONS)].astype(np.float64)
    space, scaling = known_name(profile.latent_space) or profile.latent_space, scaling_of_space(profile.latent_space)
    if values.min() >= 0 and 60 < values.max() <= 255 and values.std() > 10:
        return f"these latents look like 8-bit values, 0 to 255; {space} expects latents at unit scale, around 0"
    spread = spread_of(values, profile)
    if is_large(spread, scaling):
        return f"these latents have {spread.ratio:.2g} times the usual spread of {space}; " + too_large(
            spread.ratio, space, scaling
        )
    factor = shrinking_factor(spread.ratio, scaling)
    if is_small(spread) and is_centred(values / factor, profile):
        return f"these latents have {spread.ratio:.2g} times the usual spread of {space}; " + too_small(
            factor, space, scaling
        )
    return None


def is_large(spread: Spread, scaling: tuple[float, float] | None) -> bool:
    """Return whether the spread is larger than that of any image."""
    if scaling is not None and scaling[0] < 1:
        return spread.ratio > LARGE_VAE and spread.least > ALL_LARGE_VAE
    return spread.ratio > LARGE and spread.least > ALL_LARGE


def is_small(spread: Spread) -> bool:
    """Return whether the spread is small, although the latents vary like those of a photo."""
    return spread.ratio < SMALL and spread.most < UNIFORM * spread.least and spread.busy > BUSY


def is_centred(values: NDArray[np.floating], profile: LatentProfile) -> bool:
    """Return whether the means of latents, (C, n), are near the profile's. Those of a dim or pale image are not."""
    offsets = (values.mean(1) - profile.mean) / profile.std
    return float(np.sqrt(np.square(offsets).mean())) < CENTRED


def is_usual(ratio: float) -> bool:
    return USUAL_RATIOS[0] <= ratio <= USUAL_RATIOS[1]


def likely_factor(ratio: float) -> float | None:
    """Return the factor in `FACTORS` that explains a spread of `ratio` times the usual one; None if none does."""
    factor = min(FACTORS, key=lambda one: abs(np.log(ratio / one / USUAL_RATIO)))
    return factor if is_usual(ratio / factor) else None


def too_large(ratio: float, space: str, scaling: tuple[float, float] | None) -> str:
    """Return the likely mistake behind a spread of `ratio` times the usual one, and its remedy."""
    if scaling is not None and is_usual(ratio * scaling[0]):
        factor, shift = scaling
        raw = f"(latents - {shift}) * {factor}" if shift else f"multiply by {factor}"
        return f"they look like the VAE's output, not multiplied by {factor}; {space} expects unit scale: {raw}"
    if scaling is None and likely_factor(1 / ratio):
        return f"they look divided by {OF_OTHERS}; {space} expects unit scale: multiply by it"
    return f"{space} expects unit scale: multiply by about {USUAL_RATIO / ratio:.2g}"


def shrinking_factor(ratio: float, scaling: tuple[float, float] | None) -> float:
    """Return the factor by which latents of a small spread were probably multiplied."""
    if scaling is None:
        return likely_factor(ratio) or ratio / USUAL_RATIO
    return scaling[0] if is_usual(ratio / scaling[0]) else ratio / USUAL_RATIO


def too_small(factor: float, space: str, scaling: tuple[float, float] | None) -> str:
    """Return the likely mistake behind latents that were multiplied by `factor`, and its remedy."""
    if scaling is not None and factor == scaling[0]:
        return f"they look multiplied by {factor} twice; {space} expects unit scale, multiplied once: divide by it"
    if factor in FACTORS:
        return f"they look multiplied by {OF_OTHERS}; {space} expects unit scale: divide by it"
    return f"{space} expects unit scale: divide by about {factor:.2g}"
