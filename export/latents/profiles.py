"""Which latent profile a new bundle writes its files with: a shipped one, checked, or numbers of its own, measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.format.profile import profile_from_json, shipped_profile
from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import name_in_files, shipped_profile_id
from sdtrt.export.latents.calibrate import Networks, disagreement, measure, profile_fields
from sdtrt.export.latents.sample_images import made_image, photos_in
from sdtrt.export.latents.scale import divided, held_out_crops, scale_of

MADE_SIDE = 256  # pixels
ODD_SIZE = 4.0  # how far from 1 the size of latents may be without a word
NO_PROFILE = (
    "latent space {} has no shipped profile, so its numbers must be measured: add --calibrate FOLDER with some dozens "
    "of photos, or name the space if it is a known one: --latent-space"
)


def decide_profile(
    space: str, networks: Networks, photos: Path | None, *, quiet: bool
) -> tuple[int | dict[str, Any], list[str]]:
    """Return a manifest's `profile` and what there is to warn of.

    For a space with a shipped profile, photos serve to check that the networks are of that space. For another,
    `BundleError` if there are no photos to measure.
    """
    identifier = shipped_profile_id(space)
    if identifier is None:
        if photos is None:
            raise BundleError(NO_PROFILE.format(space))
        measured = measured_space(networks, photos, name_in_files(space), quiet=quiet)
        scale = scale_of(networks, profile_from_json(measured.fields), measured.crops, quiet=quiet)
        return measured.fields | {"step_codes": [*scale]}, []
    profile = shipped_profile(identifier)
    latents = networks.encode(made_image(MADE_SIDE, MADE_SIDE))
    found, expected = (len(latents), networks.downscale), (profile.channels, profile.downscale)
    if found != expected:
        raise BundleError(
            f"latents have {found[0]} channels and are {found[1]} pixels wide; those of {space} have {expected[0]} and "
            f"are {expected[1]}"
        )
    if photos is not None:
        warning = disagreement(measure(networks, photos_in(photos), quiet=quiet), profile)
        return identifier, [warning or f"latents of the photos agree with those of {space}"]
    size = float(np.sqrt(np.mean(latents**2) / np.mean(profile.mean**2 + profile.std**2)))
    if 1 / ODD_SIZE <= size <= ODD_SIZE:
        return identifier, []
    return identifier, [f"latents of a made image are {size:.2g} times as large as {space}'s; is the scale right?"]


@dataclass(frozen=True, slots=True)
class MeasuredSpace:
    """A profile's fields, without a scale of qualities yet; the photos that they are of, and crops to judge by.

    Those are of other photos if `apart`.
    """

    fields: dict[str, Any]
    learned: list[Path]
    crops: list[U8Array]
    apart: bool


def measured_space(networks: Networks, photos: Path, name: str, *, quiet: bool) -> MeasuredSpace:
    """Measure a latent space on the photos in a folder; `BundleError` if they say nothing of it."""
    learned, judged = divided(photos_in(photos))
    crops = held_out_crops(judged, networks.downscale)
    fields = profile_fields(measure(networks, learned, quiet=quiet), name, networks.downscale)
    return MeasuredSpace(fields, learned, crops, apart=learned != judged)


def require_photos(space: str) -> None:
    """Raise `BundleError` if a bundle of this space cannot be made without photos."""
    if shipped_profile_id(space) is None:
        raise BundleError(NO_PROFILE.format(space))
