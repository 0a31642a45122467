"""The quality range of a latent space: the step codes of qualities 1 and 100.

They are chosen such that quality 50 has the same lambda in every latent space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.coding.quality_scale import operating_point
from sdtrt.engine.format.latent_space import MAX_STEP_CODE
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import random_crops
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.progress import ProgressBar

OCTAVE = 256  # step codes; a step code lower by this halves the quantization step
CODES = (2560, 2368, 2176, 1984, 1792, 1600, 1408, 1216)  # step codes of the measured points, from coarse to fine
MIDDLE = 50  # the quality with the same lambda in every space
CODES_PER_QUALITY = 2 * OCTAVE / 25  # 12.5 more quality halve lambda, and so the square of the quantization step
MIN_SHARE = 0.5  # the least share of `CODES_PER_QUALITY`, where the networks' error makes finer steps useless
USELESS = 0.02  # quantization error below this share of the networks' error is negligible
MIN_ERROR = 1e-6  # squared 8-bit levels; treated as no error

HELD_OUT = 8  # one of this many photos is held out, if there are at least twice as many
CROPS, SIDE = 12, 256
FINEST_STEP = 0.25  # quantization step passed to decoders that take it, for latents that are not quantized


@dataclass(frozen=True, slots=True)
class RatePoint:
    """ProgressBar and distortion at a step code: bits, and squared error in 8-bit levels, both per pixel value."""

    step_code: int
    bits: float
    error: float


def split_holdout(photos: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the photos for training and for evaluation: disjoint lists if there are enough photos, else equal."""
    if len(photos) < 2 * HELD_OUT:
        return [*photos], [*photos]
    return [p for n, p in enumerate(photos) if n % HELD_OUT], [*photos[::HELD_OUT]]


def load_eval_crops(photos: Sequence[Path], multiple: int) -> list[U8Array]:
    """Return the crops for evaluation, uint8 (H, W, 3) each; `BundleError` if no photo can be used."""
    crops = [*islice(random_crops(photos, CROPS, SIDE, multiple), CROPS)]
    if not crops:
        raise BundleError(
            f"none of the {len(photos)} photos for evaluation, such as {photos[0]}, can be read and is at least "
            f"{multiple} pixels wide and high"
        )
    return crops


def rate_distortion_curve(
    pair: CodecPair, profile: LatentProfile, crops: Sequence[U8Array], codes: Sequence[int], *, quiet: bool
) -> list[RatePoint]:
    """Return rate and distortion of crops, uint8 (H, W, 3) each, at the step codes `codes`."""
    rate, latents = ProgressBar(quiet=quiet), [pair.encode(crop) for crop in crops]
    points, values = [], sum(crop.size for crop in crops)
    for number, code in enumerate(codes):
        bits, error = 0, 0.0
        for done, (crop, plane) in enumerate(zip(crops, latents, strict=True)):
            rate(number * len(crops) + done, len(codes) * len(crops), "crops coded and decoded")
            height, width = crop.shape[:2]
            file = encode_latents_to_file(plane, width, height, profile, code)
            bits += 8 * sum(map(len, file.segments))
            decoded = pair.decode(decode_latents(file, model_profile=profile), file.header.quant_step)
            error += squared_error(decoded, crop)
        points.append(RatePoint(code, bits / values, error / values))
    return points


def network_error(pair: CodecPair, crops: Sequence[U8Array]) -> float:
    """Return the squared error of the networks without quantization, in 8-bit levels, per pixel value."""
    total = sum(squared_error(pair.decode(pair.encode(crop), FINEST_STEP), crop) for crop in crops)
    return total / sum(crop.size for crop in crops)


def squared_error(planes: F32Array, pixels: U8Array) -> float:
    """Return the summed squared error of planes, float32 (3, H, W), against pixels, uint8 (H, W, 3)."""
    decoded = np.clip(np.rint(planes.transpose(1, 2, 0)), 0, 255)
    return float(np.square(decoded - pixels, dtype=np.float64).sum())


def measure_quality_range(
    pair: CodecPair, profile: LatentProfile, crops: Sequence[U8Array], *, quiet: bool
) -> tuple[int, int]:
    """Return the step codes of qualities 1 and 100, measured on crops, uint8 (H, W, 3) each."""
    return step_codes(rate_distortion_curve(pair, profile, crops, CODES, quiet=quiet), network_error(pair, crops))


def step_codes(points: Sequence[RatePoint], network_error: float) -> tuple[int, int]:
    """Return the step codes of qualities 1 and 100.

    At quality 50 lambda equals that of `tiny`. Other qualities follow from high-rate theory, in which the error is
    proportional to the squared quantization step (Gersho & Gray 1992, section 5.6). The range ends earlier where finer
    steps are useless because of the networks' error.
    """
    middle = step_code_at_slope(points, operating_point(MIDDLE, layers=1).lmbda)
    finest = step_code_at_error(points, network_error, max(USELESS * network_error, MIN_ERROR))
    per_quality = CODES_PER_QUALITY
    if finest > middle - per_quality * (100 - MIDDLE):
        per_quality = max(MIN_SHARE * per_quality, (middle - finest) / (100 - MIDDLE))
    ends = (round(middle + per_quality * (MIDDLE - quality)) for quality in (1, 100))
    coarse, fine = (min(max(code, 0), MAX_STEP_CODE) for code in ends)
    return coarse, fine


def step_code_at_slope(points: Sequence[RatePoint], lmbda: float) -> float:
    """Return the step code at which one bit more reduces the squared error by `lmbda`.

    Beyond the measured points the slope is extrapolated by high-rate theory.
    """
    codes, slopes = [], []
    for coarse, fine in pairwise(points):
        bits, gain = fine.bits - coarse.bits, coarse.error - fine.error
        if bits > 0 and gain > 0:
            codes.append((coarse.step_code + fine.step_code) / 2)
            slopes.append(np.log2(gain / bits))
    if not codes:
        return float(points[len(points) // 2].step_code)  # finer steps gain nothing: any range is as good
    slopes = list(np.minimum.accumulate(slopes))  # slopes fall towards finer steps; this removes noise
    target = np.log2(lmbda)
    if target >= slopes[0] or target <= slopes[-1]:
        end = 0 if target >= slopes[0] else -1
        return float(codes[end] + OCTAVE / 2 * (target - slopes[end]))
    return float(np.interp(-target, -np.array(slopes), codes))


def step_code_at_error(points: Sequence[RatePoint], network_error: float, target: float) -> float:
    """Return the step code at which quantization adds a squared error of `target`, by high-rate theory."""
    nearest = min(points, key=lambda p: abs(np.log2(max(p.error - network_error, MIN_ERROR) / target)))
    return float(nearest.step_code - OCTAVE / 2 * np.log2(max(nearest.error - network_error, MIN_ERROR) / target))
