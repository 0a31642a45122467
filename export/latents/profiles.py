"""Which latent profile a new bundle writes its files with: a shipped one, checked, or numbers of its own, measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.format.profile import profile_from_json, shipped_profile
from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import name_in_files, shipped_profile_id
from sdtrt.export.latents.quality_range import load_eval_crops, measure_quality_range, split_holdout
from sdtrt.export.latents.sample_images import list_photos, synthetic_image
from sdtrt.export.latents.statistics import CodecPair, disagreement, measure_statistics, profile_fields

SYNTHETIC_SIDE = 256  # pixels
ODD_SIZE = 4.0  # how far from 1 the size of latents may be without a word
NO_PROFILE = (
    "latent space {} has no shipped profile, so its numbers must be measured: add --calibrate FOLDER with some dozens "
    "of photos, or name the space if it is a known one: --latent-space"
)


def choose_profile(
    space: str, pair: CodecPair, photos: Path | None, *, quiet: bool
) -> tuple[int | dict[str, Any], list[str]]:
    """Return a manifest's `profile` and what there is to warn of.

    For a space with a shipped profile, photos serve to check that the networks are of that space. For another,
    `BundleError` if there are no photos to measure.
    """
    identifier = shipped_profile_id(space)
    if identifier is None:
        if photos is None:
            raise BundleError(NO_PROFILE.format(space))
        measured = calibrate_space(pair, photos, name_in_files(space), quiet=quiet)
        scale = measure_quality_range(
            pair, profile_from_json(measured.profile_fields), measured.eval_crops, quiet=quiet
        )
        return measured.profile_fields | {"step_codes": [*scale]}, []
    profile = shipped_profile(identifier)
    latents = pair.encode(synthetic_image(SYNTHETIC_SIDE, SYNTHETIC_SIDE))
    found, expected = (len(latents), pair.downscale), (profile.channels, profile.downscale)
    if found != expected:
        raise BundleError(
            f"latents have {found[0]} channels and are {found[1]} pixels wide; those of {space} have {expected[0]} and "
            f"are {expected[1]}"
        )
    if photos is not None:
        warning = disagreement(measure_statistics(pair, list_photos(photos), quiet=quiet), profile)
        return identifier, [warning or f"latents of the photos agree with those of {space}"]
    size = float(np.sqrt(np.mean(latents**2) / np.mean(profile.mean**2 + profile.spread**2)))
    if 1 / ODD_SIZE <= size <= ODD_SIZE:
        return identifier, []
    return identifier, [f"latents of a made image are {size:.2g} times as large as {space}'s; is the scale right?"]


@dataclass(frozen=True, slots=True)
class CalibratedSpace:
    """A profile's fields, without a scale of qualities yet; the photos that they are of, and crops to judge by.

    Those are of other photos if `held_out`.
    """

    profile_fields: dict[str, Any]
    training_photos: list[Path]
    eval_crops: list[U8Array]
    held_out: bool


def calibrate_space(pair: CodecPair, photos: Path, name: str, *, quiet: bool) -> CalibratedSpace:
    """Measure a latent space on the photos in a folder; `BundleError` if they say nothing of it."""
    learned, judged = split_holdout(list_photos(photos))
    crops = load_eval_crops(judged, pair.downscale)
    fields = profile_fields(measure_statistics(pair, learned, quiet=quiet), name, pair.downscale)
    return CalibratedSpace(fields, learned, crops, held_out=learned != judged)


def require_photos(space: str) -> None:
    """Raise `BundleError` if a bundle of this space cannot be made without photos."""
    if shipped_profile_id(space) is None:
        raise BundleError(NO_PROFILE.format(space))
