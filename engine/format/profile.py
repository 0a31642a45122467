"""Latent profiles: the parameters that turn symbols into latents.

A profile ships with sdtrt, comes with a model, or lies in the file. This module parses and writes profiles; it knows
nothing of the container around them. `docs/format.md`, section 2, is normative.
"""

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.errors import BundleError, FormatError
from sdtrt.kernels.reference import SYMBOL_LIMIT

if TYPE_CHECKING:
    from sdtrt.engine.format.container import File

INLINE = 0  # profile id of a file that contains its profile: 10 bytes, and 16 for each channel
BUNDLED = 254  # profile and prior id of a file that refers to its model's: 10 bytes, and 8 of a digest
PROFILE_NBYTES, DIGEST_NBYTES = 10, 8
ADAPTIVE_PRIOR = 0  # prior id
PALETTE = 255  # prior id of files that hold palette indices instead of symbols
PROFILE_NAMES = {1: "tiny-1", 2: "sd1-1"}
PRIOR_NAMES = {1: "tiny-1", 2: "sd1-1"}
MAX_STEP = 1 << 8  # quantization step of the largest step code
MAX_STEP_CODE = 4095


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpaceInfo:
    """The facts about its latent space that every file gives, directly or by a profile id.

    Arguments:
        latent_space: the name, such as `sd1`.
        channels: of the latents.
        downscale: width and height of a latent in pixels.
        step_codes: the step codes of qualities 1 and 100.
    """

    latent_space: str
    channels: int
    downscale: int
    step_codes: tuple[int, int]

    def step_code(self, quality: float) -> int:
        """Return the step code of a quality, clamped to 0 … 4095.

        The quality is nominally 1 to 100. Step codes are linear in it, so steps are exponential.
        """
        first, last = self.step_codes
        code = round(first + (last - first) * (quality - 1) / 99)
        return min(max(code, 0), MAX_STEP_CODE)

    def quality(self, step_code: int) -> float:
        """Return the quality of a step code: the inverse of `step_code`. It may lie outside of 1 to 100."""
        first, last = self.step_codes
        return 1 + 99 * (step_code - first) / (last - first)

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Return the shape (channels, rows, columns) of the latents of an image."""
        return self.channels, -(-height // self.downscale), -(-width // self.downscale)


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


def parse_space_info(profile_id: int, prior_id: int, data: bytes) -> LatentSpaceInfo:
    """Return the latent space of a file: a `LatentProfile`, unless the profile is that of the file's model.

    Arguments:
        profile_id, prior_id: of the file's header.
        data: bytes of the profile in the file.

    Raises `FormatError` if the profile is unknown or malformed.
    """
    if (profile_id == BUNDLED) != (prior_id == BUNDLED):
        raise FormatError(f"malformed file: latent profile {profile_id} with prior {prior_id}")
    if profile_id == BUNDLED:
        return LatentSpaceInfo(**unpack_space_info(data, PROFILE_NBYTES + DIGEST_NBYTES))
    if profile_id == INLINE:
        if prior_id != ADAPTIVE_PRIOR:
            raise FormatError(f"malformed file: prior {prior_id} with a latent profile of its own")
        return parse_profile(data)
    if profile_id not in PROFILE_NAMES:
        raise FormatError(f"latent profile {profile_id} is unknown; a later sdtrt may read this file")
    return shipped_profile(profile_id)


def parse_profile(data: bytes) -> LatentProfile:
    """Return the profile that a file contains; `FormatError` if it is malformed."""
    space = unpack_space_info(data)
    vectors = np.frombuffer(data, "<f4", offset=PROFILE_NBYTES).reshape(4, -1).astype(np.float32)
    if not np.isfinite(vectors).all() or (vectors[1:3] <= 0).any():
        raise FormatError("latent profile has values that are not finite, or spreads or weights that are not positive")
    mean, std, step_weight, recon_offset = vectors
    with np.errstate(over="ignore"):
        max_latents = np.abs(mean) + std * step_weight * MAX_STEP * (SYMBOL_LIMIT + 1 + np.abs(recon_offset))
    if not np.isfinite(max_latents).all():
        raise FormatError("latent profile has values so large that latents would overflow")
    return LatentProfile(
        mean=mean, std=std, step_weight=step_weight, recon_offset=recon_offset, prior=ADAPTIVE_PRIOR, **space
    )


def unpack_space_info(data: bytes, nbytes: int | None = None) -> dict[str, Any]:
    """Return the fields of a `LatentSpaceInfo`, from the start of a profile's bytes.

    Arguments:
        data: the profile as the file contains it.
        nbytes: the length that `data` must have, None: that of a whole profile.

    Raises `FormatError` if the length or a field is wrong.
    """
    if len(data) < PROFILE_NBYTES:
        raise FormatError(f"latent profile of {len(data)} bytes, expected at least {PROFILE_NBYTES}")
    name, channels, downscale, first, last = _FIXED.unpack_from(data)
    expected = PROFILE_NBYTES + 16 * channels if nbytes is None else nbytes
    if len(data) != expected or not channels or not downscale:
        raise FormatError(
            f"latent profile of {len(data)} bytes, {channels} channels and downscale {downscale}; "
            f"expected {expected} bytes, and neither of the two to be 0"
        )
    if max(first, last) > MAX_STEP_CODE or first == last:
        raise FormatError(
            f"latent profile has step codes {first} and {last}, expected two different ones up to {MAX_STEP_CODE}"
        )
    return {
        "latent_space": f"x-{name.hex()}",
        "channels": channels,
        "downscale": downscale,
        "step_codes": (first, last),
    }


@cache
def shipped_profile(identifier: int) -> LatentProfile:
    """Return a profile of the package by its id; `BundleError` if there is none."""
    if identifier not in PROFILE_NAMES:
        raise BundleError(f"latent profile {identifier} is not part of this version; a later sdtrt may have it")
    path = resources.files("sdtrt.engine") / "data" / "profiles" / f"{PROFILE_NAMES[identifier]}.json"
    return profile_from_json(json.loads(path.read_text()), identifier)


def profile_from_json(fields: dict[str, Any], identifier: int = INLINE) -> LatentProfile:
    """Return the profile in the fields of a profile's JSON file. The keys are part of the format."""
    return LatentProfile(
        latent_space=fields["latent_space"],
        channels=fields["channels"],
        downscale=fields["downscale"],
        step_codes=(fields["step_codes"][0], fields["step_codes"][1]),
        mean=np.array(fields["mean"], np.float32),
        std=np.array(fields["spread"], np.float32),
        step_weight=np.array(fields["weight"], np.float32),
        recon_offset=np.array(fields["offset"], np.float32),
        prior=fields["prior"],
        id=identifier,
        masking=fields.get("masking", 0),
        preview=Preview.from_json(fields["preview"]) if "preview" in fields else None,
    )


_FIXED = struct.Struct("<4sBBHH")  # hash, channels, downscale, step codes of qualities 1 and 100


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


def pack_space_info(space: LatentSpaceInfo) -> bytes:
    name = bytes.fromhex(space.latent_space.removeprefix("x-"))
    return _FIXED.pack(name, space.channels, space.downscale, *space.step_codes)


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
    if isinstance(space, LatentProfile):
        return space
    if model_profile is None or model_profile.id != BUNDLED or model_reference(model_profile) != file.profile:
        digest = file.profile[PROFILE_NBYTES:].hex()
        raise BundleError(
            f"the latents need the prior {digest} of a model of latent space {space.latent_space}"
            + ("; no model is given" if model_profile is None else f"; this model has {prior_label(model_profile)}")
        )
    return model_profile
