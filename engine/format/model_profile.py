"""The profile of a file's latents: its own, a shipped one, or the profile of its model."""

from sdtrt.engine.format.container import File
from sdtrt.engine.format.profile import BUNDLED, PROFILE_NBYTES, LatentProfile, model_reference, prior_label
from sdtrt.errors import BundleError


def resolve_profile(file: File, model_profile: LatentProfile | None = None) -> LatentProfile:
    """Return the profile of a file's latents.

    Arguments:
        file: it contains a profile, names a shipped one, or refers to the profile of its model.
        model_profile: the profile of the model in use; None without a model.

    Raises:
        FormatError: the profile is unknown or malformed.
        BundleError: the file needs the profile of another model.
    """
    space = file.space
    if model_profile is not None and (model_profile.channels, model_profile.downscale) != (
        space.channels,
        space.downscale,
    ):
        raise BundleError(
            f"latents of {space.channels} channels at 1/{space.downscale} of the image, "
            f"the model's are {model_profile.channels} at 1/{model_profile.downscale}"
        )
    if isinstance(space, LatentProfile):
        return space
    if model_profile is None or model_profile.id != BUNDLED or model_reference(model_profile) != file.profile:
        digest = file.profile[PROFILE_NBYTES:].hex()
        raise BundleError(
            f"the latents need the prior {digest} of a model of latent space {space.latent_space}"
            + ("; no model is given" if model_profile is None else f"; this model has {prior_label(model_profile)}")
        )
    return model_profile
