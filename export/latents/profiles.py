"""Which latent profile a new bundle writes its files with: a shipped one, checked, or numbers of its own, measured."""

from pathlib import Path
from typing import Any

import numpy as np

from sdtrt.engine.format.profile import profile_from_json, shipped_profile
from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import name_in_files, shipped_profile_id
from sdtrt.export.latents.calibrate import Networks, disagreement, measure, profile_fields
from sdtrt.export.latents.picture import made_picture, photos_in
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
        learned, judged = divided(photos_in(photos))
        statistics = measure(networks, learned, quiet=quiet)
        fields = profile_fields(statistics, name_in_files(space), networks.downscale)
        scale = scale_of(networks, profile_from_json(fields), held_out_crops(judged, networks.downscale), quiet=quiet)
        return fields | {"step_codes": [*scale]}, []
    profile = shipped_profile(identifier)
    latents = networks.encode(made_picture(MADE_SIDE, MADE_SIDE))
    found, expected = (len(latents), networks.downscale), (profile.channels, profile.downscale)
    if found != expected:
        raise BundleError(
            f"latents have {found[0]} channels and are {found[1]} pixels wide; those of {space} have {expected[0]} and "
            f"are {expected[1]}"
        )
    if photos is not None:
        warning = disagreement(measure(networks, photos_in(photos), quiet=quiet), profile)
        return identifier, [warning or f"latents of the photos agree with those of {space}"]
    size = float(np.sqrt(np.mean(latents**2) / np.mean(profile.mean**2 + profile.spread**2)))
    if 1 / ODD_SIZE <= size <= ODD_SIZE:
        return identifier, []
    return identifier, [f"latents of a made picture are {size:.2g} times as large as {space}'s; is the scale right?"]


def require_photos(space: str) -> None:
    """Raise `BundleError` if a bundle of this space cannot be made without photos."""
    if shipped_profile_id(space) is None:
        raise BundleError(NO_PROFILE.format(space))
