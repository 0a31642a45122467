"""The scale of qualities of a latent space: at which steps a bit buys as much as it does in others."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.coding.quality_scale import operating_point
from sdtrt.engine.format.profile import MAX_STEP_CODE, LatentProfile
from sdtrt.errors import BundleError
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.sample_images import crops_of
from sdtrt.progress import ProgressBar

OCTAVE = 256  # step codes that halve a step
CODES = (2560, 2368, 2176, 1984, 1792, 1600, 1408, 1216)  # at which rate and error are measured: from coarse to fine
MIDDLE = 50  # the quality that means the same in every space
CODES_PER_QUALITY = 2 * OCTAVE / 25  # a quality of 12.5 more halves what a bit may cost, and so a step's square
MIN_SHARE = 0.5  # of these, where the networks' own error makes finer steps useless
USELESS = 0.02  # the share of the networks' own error below which that of steps is of no account
MIN_ERROR = 1e-6  # squared, in levels: none

HELD_OUT = 8  # of so many photos one is for this alone, where there are twice as many
CROPS, SIDE = 12, 256
FINEST_STEP = 0.25  # what networks that want to know are told of latents as they are


@dataclass(frozen=True, slots=True)
class Point:
    """What crops take and lose at a step: bits, and squared error in levels, both per value of a pixel."""

    code: int
    bits: float
    error: float


def divided(photos: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the photos to learn from and those to judge by: different ones, if there are enough."""
    if len(photos) < 2 * HELD_OUT:
        return [*photos], [*photos]
    return [p for n, p in enumerate(photos) if n % HELD_OUT], [*photos[::HELD_OUT]]


def held_out_crops(photos: Sequence[Path], multiple: int) -> list[U8Array]:
    """Return the crops to judge by, uint8 (H, W, 3) each; `BundleError` if no photo can be used."""
    crops = [*islice(crops_of(photos, CROPS, SIDE, multiple), CROPS)]
    if not crops:
        raise BundleError(
            f"none of the {len(photos)} photos to judge by, such as {photos[0]}, can be read and is {multiple} pixels "
            "wide and high"
        )
    return crops


def measured_curve(
    networks: Networks, profile: LatentProfile, crops: Sequence[U8Array], codes: Sequence[int], *, quiet: bool
) -> list[Point]:
    """Return what crops, uint8 (H, W, 3) each, take and lose at step codes."""
    rate, latents = ProgressBar(quiet=quiet), [networks.encode(crop) for crop in crops]
    points, values = [], sum(crop.size for crop in crops)
    for number, code in enumerate(codes):
        bits, error = 0, 0.0
        for done, (crop, plane) in enumerate(zip(crops, latents, strict=True)):
            rate(number * len(crops) + done, len(codes) * len(crops), "crops coded and decoded")
            height, width = crop.shape[:2]
            file = encode_latents_to_file(plane, width, height, profile, code)
            bits += 8 * sum(map(len, file.segments))
            decoded = networks.decode(decode_latents(file, model_profile=profile), file.header.step)
            error += squared_error(decoded, crop)
        points.append(Point(code, bits / values, error / values))
    return points


def own_error(networks: Networks, crops: Sequence[U8Array]) -> float:
    """Return the squared error of the networks alone, in levels, per value of a pixel."""
    total = sum(squared_error(networks.decode(networks.encode(crop), FINEST_STEP), crop) for crop in crops)
    return total / sum(crop.size for crop in crops)


def squared_error(planes: F32Array, pixels: U8Array) -> float:
    found = np.clip(np.rint(planes.transpose(1, 2, 0)), 0, 255)
    return float(np.square(found - pixels, dtype=np.float64).sum())


def scale_of(networks: Networks, profile: LatentProfile, crops: Sequence[U8Array], *, quiet: bool) -> tuple[int, int]:
    """Return the step codes of qualities 1 and 100, as crops say."""
    return step_codes(measured_curve(networks, profile, crops, CODES, quiet=quiet), own_error(networks, crops))


def step_codes(points: Sequence[Point], own: float) -> tuple[int, int]:
    """Return the step codes of qualities 1 and 100.

    At quality 50 a bit buys as much less error as it does in `tiny`, and so it is at the others by the theory of fine
    steps, whose error is as their square (Gersho & Gray 1992, section 5.6), unless finer steps are of no use.
    """
    middle = code_of_slope(points, operating_point(MIDDLE, layers=1).lmbda)
    finest = code_of_error(points, own, max(USELESS * own, MIN_ERROR))
    per_quality = CODES_PER_QUALITY
    if finest > middle - per_quality * (100 - MIDDLE):
        per_quality = max(MIN_SHARE * per_quality, (middle - finest) / (100 - MIDDLE))
    ends = (round(middle + per_quality * (MIDDLE - quality)) for quality in (1, 100))
    coarse, fine = (min(max(code, 0), MAX_STEP_CODE) for code in ends)
    return coarse, fine


def code_of_slope(points: Sequence[Point], lmbda: float) -> float:
    """Return the step code at which a bit buys so much error; beyond those measured by the theory of fine steps."""
    codes, slopes = [], []
    for coarse, fine in pairwise(points):
        bits, gain = fine.bits - coarse.bits, coarse.error - fine.error
        if bits > 0 and gain > 0:
            codes.append((coarse.code + fine.code) / 2)
            slopes.append(np.log2(gain / bits))
    if not codes:
        return float(points[len(points) // 2].code)  # nothing is gained anywhere: any scale is as good
    slopes = list(np.minimum.accumulate(slopes))  # a finer step never buys more
    wanted = np.log2(lmbda)
    if wanted >= slopes[0] or wanted <= slopes[-1]:
        end = 0 if wanted >= slopes[0] else -1
        return float(codes[end] + OCTAVE / 2 * (wanted - slopes[end]))
    return float(np.interp(-wanted, -np.array(slopes), codes))


def code_of_error(points: Sequence[Point], own: float, wanted: float) -> float:
    """Return the step code at which steps add so much to the networks' own error, by the theory of fine steps."""
    nearest = min(points, key=lambda p: abs(np.log2(max(p.error - own, MIN_ERROR) / wanted)))
    return float(nearest.code - OCTAVE / 2 * np.log2(max(nearest.error - own, MIN_ERROR) / wanted))
