"""Latent profiles: the parameters that turn symbols into latents.

A profile ships with sdtrt, comes with a model, or lies in the file. This module parses and writes profiles; it knows
nothing of the container around them. `docs/format.md`, section 2, is normative. `engine.format.latent_space` has what
needs no arrays.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.latent_space import (
    ADAPTIVE_PRIOR,
    BUNDLED,
    DIGEST_NBYTES,
    INLINE,
    PRIOR_NAMES,
    PROFILE_NBYTES,
    LatentSpaceInfo,
    check_vectors,
    pack_space_info,
    shipped_profile_fields,
    space_fields,
    unpack_space_info,
)
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.format.container import File


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentProfile(LatentSpaceInfo):
    """How a latent space is quantized.

    The symbol of a latent x of channel c is (x - mean[c]) / (std[c] * step_weight[c] * quant_step), rounded. The file
    gives `quant_step`.

    Arguments:
        mean, std: float32 (channels,), the normalisation of the latents.
        step_weight: float32 (channels,), the step of each channel relative to the file's.
        recon_offset: float32 (channels,), how many steps the reconstruction lies towards zero from the symbol.
        prior: id of the prior.
        id: of the profile.
        masking: number of channels that the encoder's perceptual masking looks at, from the first on. These channels
            hold the low frequencies of luma. 0: no masking.
        preview: the linear decoder of previews, None if the latent space has none.
        prior_file: bytes of the prior's file that comes with a model, None without one.
    """

    mean: F32Array
    std: F32Array
    step_weight: F32Array
    recon_offset: F32Array
    prior: int
    id: int = INLINE
    masking: int = 0
    preview: "Preview | None" = None
    prior_file: bytes | None = None

    def with_prior(self, prior_file: bytes) -> "LatentProfile":
        """Return this profile with the prior of a model. Files then refer to the model's profile and prior."""
        return replace(self, prior=BUNDLED, id=BUNDLED, prior_file=prior_file)


@dataclass(frozen=True, slots=True)
class Preview:
    """A linear decoder: it predicts the mean colour of the pixels that a latent stands for.

    Arguments:
        channels: the channels of the latents that it uses.
        weights: float32 (3, len(channels), 3, 3), a 3x3 convolution from latents to RGB in 8-bit values.
        bias: float32 (3,), added to RGB.
    """

    channels: tuple[int, ...]
    weights: F32Array
    bias: F32Array

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Preview":
        channels = tuple(fields["channels"])
        weights = np.array(fields["weights"], np.float32).reshape(3, len(channels), 3, 3)
        return cls(channels, weights, np.array(fields["bias"], np.float32))

    def render(self, latents: F32Array) -> U8Array:
        """Return RGB pixels, uint8 (h, w, 3), of the latents of `channels`, float32 (len(channels), h, w)."""
        _, height, width = latents.shape
        padded = np.pad(latents, ((0, 0), (1, 1), (1, 1)), mode="edge")
        colours = np.broadcast_to(self.bias[:, None, None], (3, height, width)).astype(np.float32)
        for dy in range(3):
            for dx in range(3):
                neighbours = padded[:, dy : dy + height, dx : dx + width]
                colours += np.tensordot(self.weights[:, :, dy, dx], neighbours, 1)
        return np.clip(np.rint(colours), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def parse_profile(data: bytes) -> LatentProfile:
    """Return the profile that a file contains; `FormatError` if it is malformed."""
    space = unpack_space_info(data)
    check_vectors(data)
    mean, std, step_weight, recon_offset = (
        np.frombuffer(data, "<f4", offset=PROFILE_NBYTES).reshape(4, -1).astype(np.float32)
    )
    return LatentProfile(
        mean=mean, std=std, step_weight=step_weight, recon_offset=recon_offset, prior=ADAPTIVE_PRIOR, **space
    )


@cache
def shipped_profile(identifier: int) -> LatentProfile:
    """Return a profile of the package by its id; `BundleError` if there is none."""
    return profile_from_json(shipped_profile_fields(identifier), identifier)


def profile_from_json(fields: dict[str, Any], identifier: int = INLINE) -> LatentProfile:
    """Return the profile in the fields of a profile's JSON file. The keys are part of the format."""
    return LatentProfile(
        **space_fields(fields),
        mean=np.array(fields["mean"], np.float32),
        std=np.array(fields["spread"], np.float32),
        step_weight=np.array(fields["weight"], np.float32),
        recon_offset=np.array(fields["offset"], np.float32),
        prior=fields["prior"],
        id=identifier,
        masking=fields.get("masking", 0),
        preview=Preview.from_json(fields["preview"]) if "preview" in fields else None,
    )


def serialize_profile(profile: LatentProfile) -> bytes:
    """Return the bytes of a file that describe its profile, besides the id; empty for a shipped profile."""
    return {INLINE: pack_profile, BUNDLED: model_reference}.get(profile.id, lambda _: b"")(profile)


def pack_profile(profile: LatentProfile) -> bytes:
    """Return a profile as files contain it. The latent space's name is `x-` and 8 hexadecimal digits."""
    vectors = np.stack([profile.mean, profile.std, profile.step_weight, profile.recon_offset])
    return pack_space_info(profile) + vectors.astype("<f4").tobytes()


def model_reference(profile: LatentProfile) -> bytes:
    """Return a file's reference to the profile of its model: the space info, and a digest of profile and prior."""
    assert profile.prior_file is not None
    digest = hashlib.sha256(pack_profile(profile) + profile.prior_file).digest()
    return pack_space_info(profile) + digest[:DIGEST_NBYTES]


def prior_label(profile: LatentProfile) -> str:
    """Return the name of the prior that codes a profile's files, or the digest of a model's prior."""
    if profile.id == BUNDLED:
        return model_reference(profile)[PROFILE_NBYTES:].hex()
    return PRIOR_NAMES.get(profile.prior, "none of its own")


def resolve_profile(file: "File", model_profile: LatentProfile | None = None) -> LatentProfile:
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
    if file.header.profile == INLINE:
        return parse_profile(file.profile)
    if file.header.profile != BUNDLED:
        return shipped_profile(file.header.profile)
    if model_profile is None or model_profile.id != BUNDLED or model_reference(model_profile) != file.profile:
        digest = file.profile[PROFILE_NBYTES:].hex()
        raise BundleError(
            f"the latents need the prior {digest} of a model of latent space {space.latent_space}"
            + ("; no model is given" if model_profile is None else f"; this model has {prior_label(model_profile)}")
        )
    return model_profile
