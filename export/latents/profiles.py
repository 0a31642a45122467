"""The latent profile of a new bundle: a shipped one, which is checked, or a new one, which is measured."""

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
MAX_SIZE_RATIO = 4.0  # latents larger or smaller than the profile's by more give a warning
NO_PROFILE = (
    "latent space {} has no shipped profile, so its statistics must be measured: add --calibrate FOLDER with some "
    "dozens of photos, or name a known space with --latent-space"
)


def choose_profile(
    space: str, pair: CodecPair, photos: Path | None, *, quiet: bool
) -> tuple[int | dict[str, Any], list[str]]:
    """Return the manifest's field `profile`, and messages for the user.

    Arguments:
        space: Name of the latent space.
        pair: The networks. For a space with a shipped profile they are checked against it.
        photos: Folder of photos; None without one.
        quiet: Whether progress is not printed.

    Raises:
        BundleError: The space has no shipped profile and there are no photos, or the networks do not fit the profile.
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
    actual, expected = (len(latents), pair.downscale), (profile.channels, profile.downscale)
    if actual != expected:
        raise BundleError(
            f"latents have {actual[0]} channels and are {actual[1]} pixels wide; expected {expected[0]} channels and "
            f"{expected[1]} pixels for {space}"
        )
    if photos is not None:
        warning = disagreement(measure_statistics(pair, list_photos(photos), quiet=quiet), profile)
        return identifier, [warning or f"latents of the photos agree with those of {space}"]
    size = float(np.sqrt(np.mean(latents**2) / np.mean(profile.mean**2 + profile.std**2)))
    if 1 / MAX_SIZE_RATIO <= size <= MAX_SIZE_RATIO:
        return identifier, []
    return identifier, [f"latents of a test image are {size:.2g} times as large as {space}'s; check the latent scale"]


@dataclass(frozen=True, slots=True)
class CalibratedSpace:
    """A measured latent space, before its quality range is known.

    Attributes:
        profile_fields: The profile's JSON fields.
        training_photos: The photos that were measured, which a prior is trained on.
        eval_crops: Crops for evaluation, uint8 (H, W, 3) each.
        held_out: Whether the crops are of other photos.
    """

    profile_fields: dict[str, Any]
    training_photos: list[Path]
    eval_crops: list[U8Array]
    held_out: bool


def calibrate_space(pair: CodecPair, photos: Path, name: str, *, quiet: bool) -> CalibratedSpace:
    """Measure a latent space on the photos in a folder; `BundleError` if no photo is usable."""
    learned, judged = split_holdout(list_photos(photos))
    crops = load_eval_crops(judged, pair.downscale)
    fields = profile_fields(measure_statistics(pair, learned, quiet=quiet), name, pair.downscale)
    return CalibratedSpace(fields, learned, crops, held_out=learned != judged)


def require_photos(space: str) -> None:
    """Raise `BundleError` if this space has no shipped profile, so that a bundle needs photos."""
    if shipped_profile_id(space) is None:
        raise BundleError(NO_PROFILE.format(space))
