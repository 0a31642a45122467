"""Latent spaces by name: their profiles, without networks, and the scaling factors of their VAEs."""

from collections.abc import Iterator

from sdtrt.engine.format.latent_space import PROFILE_NAMES
from sdtrt.engine.format.profile import LatentProfile, shipped_profile
from sdtrt.engine.networks.bundle import Bundle, bundle_folders
from sdtrt.errors import BundleError


def profile_of_space(name: str) -> LatentProfile:
    """Return the profile with which files of a latent space are written.

    The profile ships with sdtrt, or comes from the first bundle of the space under `$SDTRT_MODELS`; its networks are
    not needed. Raises `BundleError`, which lists the known names, if there is no profile.
    """
    from sdtrt.export.checkpoints.spaces import name_in_files, shipped_profile_id

    if not isinstance(name, str):
        raise TypeError(f"latent_space is a {type(name).__name__}, expected the name of one, such as 'sd1'")
    identifier = shipped_profile_id(name)
    if identifier is not None:
        return shipped_profile(identifier)
    for bundle in bundles():
        if bundle.latent_space == name_in_files(name):
            return bundle.latent_profile
    raise BundleError(
        f"no profile of latent space {name[:64]!r}; there are: {', '.join(space_names())}. "
        "Another space needs a bundle: put it under $SDTRT_MODELS (see: sdtrt models)"
    )


def bundles() -> Iterator[Bundle]:
    """Yield the bundles that open without an error."""
    for folder in bundle_folders():
        try:
            yield Bundle.open(folder)
        except BundleError:
            continue  # commands that open it report the error


def space_names() -> list[str]:
    """Return the names, as users know them, of all latent spaces with a profile."""
    shipped = {shipped_profile(identifier).latent_space for identifier in PROFILE_NAMES}
    return sorted(shipped | {known_name(bundle.latent_space) or bundle.latent_space for bundle in bundles()})


def known_name(name: str) -> str | None:
    """Return the users' name of the latent space that files call `name`; None if it has no other name."""
    from sdtrt.export.checkpoints.spaces import KNOWN, name_in_files

    return next((known for known in KNOWN if name in (known, name_in_files(known))), None)


def scaling_of_space(name: str) -> tuple[float, float] | None:
    """Return the scaling factor and the shift of a latent space: latents at unit scale are (raw - shift) * factor.

    Returns None if they are unknown or differ between channels.
    """
    from sdtrt.export.checkpoints.spaces import KNOWN

    known = known_name(name)
    factors = KNOWN[known].factors if known else None
    if factors is None or not isinstance(factors.scale, float) or not isinstance(factors.shift, float):
        return None
    return factors.scale, factors.shift
