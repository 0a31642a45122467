"""Which latent profile a new bundle writes its files with: a shipped one, checked, or numbers of its own, measured."""

from pathlib import Path
from typing import Any

from sdtrt.engine.profile import shipped_profile
from sdtrt.errors import BundleError
from sdtrt.export.calibrate import Networks, disagreement, measure, profile_fields
from sdtrt.export.picture import photos_in
from sdtrt.export.spaces import name_in_files, shipped_profile_id


def decide_profile(
    space: str, networks: Networks, photos: Path | None, *, quiet: bool
) -> tuple[int | dict[str, Any], list[str]]:
    """Return a manifest's `profile` and what there is to warn of.

    For a space with a shipped profile, photos serve to check that the networks are of that space. For another,
    `BundleError` if there are no photos to measure.
    """
    identifier = shipped_profile_id(space)
    if photos is None:
        require_photos(space)
        assert identifier is not None
        return identifier, []
    statistics = measure(networks, photos_in(photos), quiet=quiet)
    if identifier is None:
        return profile_fields(statistics, name_in_files(space), networks.downscale), []
    profile = shipped_profile(identifier)
    if (profile.channels, profile.downscale) != (len(statistics.mean), networks.downscale):
        raise BundleError(f"{space} has {profile.channels} channels, the encoder gives {len(statistics.mean)}")
    warning = disagreement(statistics, profile)
    return identifier, [warning] if warning else []


def require_photos(space: str) -> None:
    """Raise `BundleError` if a bundle of this space cannot be made without photos."""
    if shipped_profile_id(space) is None:
        raise BundleError(
            f"latent space {space} has no shipped profile, so its numbers must be measured: "
            "add --calibrate FOLDER with some dozens of photos"
        )
