"""Latent profiles: all that turns symbols into latents. They ship with sdtrt, or with a model, or lie in the file."""

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.container import BUNDLED, DIGEST_NBYTES, INLINE, PROFILE_NBYTES, STEP_BITS, File
from sdtrt.errors import BundleError, FormatError
from sdtrt.kernels.reference import SYMBOL_LIMIT

ADAPTIVE_PRIOR = 0  # prior id of the adaptive one
PALETTE = 255  # in place of a prior: no symbols but palette indices
PROFILE_NAMES = {1: "tiny-1", 2: "sd1-1"}
PRIOR_NAMES = {1: "tiny-1", 2: "sd1-1"}
MAX_STEP = 1 << 8
MAX_STEP_CODE = 4095


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpaceInfo:
    """What every file tells of its latent space: name, channels, pixels a latent is wide, and the scale of qualities.

    `step_codes` are those of qualities 1 and 100.
    """

    latent_space: str
    channels: int
    downscale: int
    step_codes: tuple[int, int]

    def step_code(self, quality: float) -> int:
        """Return the step code of a quality, 1 to 100 or somewhat beyond: the step itself runs on a log scale."""
        first, last = self.step_codes
        code = round(first + (last - first) * (quality - 1) / 99)
        return min(max(code, 0), MAX_STEP_CODE)

    def quality(self, step_code: int) -> float:
        """Return the quality whose step is nearest, the inverse of `step_code`; below 1 or above 100 for odd files."""
        first, last = self.step_codes
        return 1 + 99 * (step_code - first) / (last - first)

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Return the shape (channels, rows, columns) of the latents of an image."""
        return self.channels, -(-height // self.downscale), -(-width // self.downscale)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentProfile(LatentSpaceInfo):
    """How a latent space is quantized.

    A latent x of channel c is coded as the symbol of (x - mean[c]) / (spread[c] * weight[c] * step), where the file
    gives the step. `offset[c]` is how far towards zero, in steps, reconstruction points lie off the centre.
    Vectors are float32 (channels,). `masking` is how many channels, the first ones, tell encoders what masks errors:
    those of low frequencies of brightness, or none. `preview` tells the colours of blocks, None if the profile knows no
    way to them.
    `prior_file` is the file of the prior that comes with a model, None where there is none.
    """

    mean: F32Array
    spread: F32Array
    weight: F32Array
    offset: F32Array
    prior: int
    id: int = INLINE
    masking: int = 0
    preview: "Preview | None" = None
    prior_file: bytes | None = None

    def with_prior(self, trained: bytes) -> "LatentProfile":
        """Return the same profile with a model's own prior, to which files then refer."""
        return replace(self, prior=BUNDLED, id=BUNDLED, prior_file=trained)


@dataclass(frozen=True, slots=True)
class Preview:
    """The linear part of a latent space's way to images: the mean colour of the block that a latent stands for.

    RGB, in levels of 8 bits, is `bias` and the sum of `weights`, float32 (3, len(channels), 3, 3), times the latents of
    `channels` at and around the position, row by row.
    """

    channels: tuple[int, ...]
    weights: F32Array
    bias: F32Array  # float32 (3,)

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
                seen = padded[:, dy : dy + height, dx : dx + width]
                colours += np.tensordot(self.weights[:, :, dy, dx], seen, 1)
        return np.clip(np.rint(colours), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def read_space_info(file: File) -> LatentSpaceInfo:
    """Return what a file tells of its latent space; `FormatError` if that is unknown or malformed."""
    header = file.header
    if (header.profile == BUNDLED) != (header.prior == BUNDLED):
        raise FormatError(f"malformed file: latent profile {header.profile} with prior {header.prior}")
    if header.profile == BUNDLED:
        return LatentSpaceInfo(**unpack_space_info(file.profile, PROFILE_NBYTES + DIGEST_NBYTES))
    if header.profile == INLINE:
        if header.prior != ADAPTIVE_PRIOR:
            raise FormatError(f"malformed file: prior {header.prior} with a latent profile of its own")
        return parse_profile(file.profile)
    if header.profile not in PROFILE_NAMES:
        raise FormatError(f"latent profile {header.profile} is unknown; a later sdtrt may read this file")
    return shipped_profile(header.profile)


def resolve_profile(file: File, model_profile: LatentProfile | None = None) -> LatentProfile:
    """Return the profile that a file names, carries, or shares with its model, whose `model_profile` is at hand.

    Raises `FormatError` if it is unknown or malformed, `BundleError` if it is another model's than that at hand.
    """
    space = read_space_info(file)
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
        wanted = file.profile[PROFILE_NBYTES:].hex()
        raise BundleError(
            f"latents are by the prior {wanted} of a model of latent space {space.latent_space}"
            + (", which is not at hand" if model_profile is None else f"; this model has {prior_label(model_profile)}")
        )
    return model_profile


def prior_label(profile: LatentProfile) -> str:
    """Return in a word which prior a profile's files are coded by."""
    if profile.id == BUNDLED:
        return model_reference(profile)[PROFILE_NBYTES:].hex()
    return PRIOR_NAMES.get(profile.prior, "none of its own")


@cache
def shipped_profile(identifier: int) -> LatentProfile:
    """Return a profile of the package by its id; `BundleError` if there is none."""
    if identifier not in PROFILE_NAMES:
        raise BundleError(f"latent profile {identifier} is not part of this version; a later sdtrt may have it")
    path = resources.files("sdtrt.engine") / "data" / "profiles" / f"{PROFILE_NAMES[identifier]}.json"
    return profile_from_json(json.loads(path.read_text()), identifier)


def profile_from_json(fields: dict[str, Any], identifier: int = INLINE) -> LatentProfile:
    """Return the profile that the fields of a profile's JSON file describe."""
    vectors: dict[str, Any] = {
        name: np.array(fields[name], np.float32) for name in ("mean", "spread", "weight", "offset")
    }
    return LatentProfile(
        latent_space=fields["latent_space"],
        channels=fields["channels"],
        downscale=fields["downscale"],
        step_codes=(fields["step_codes"][0], fields["step_codes"][1]),
        prior=fields["prior"],
        id=identifier,
        masking=fields.get("masking", 0),
        preview=Preview.from_json(fields["preview"]) if "preview" in fields else None,
        **vectors,
    )


_FIXED = struct.Struct("<4sBBHH")  # hash, channels, downscale, step codes of qualities 1 and 100


def pack_profile(profile: LatentProfile) -> bytes:
    """Return a profile as files carry it, for a latent space named `x-` and 8 hexadecimal digits."""
    vectors = np.stack([profile.mean, profile.spread, profile.weight, profile.offset])
    return pack_space_info(profile) + vectors.astype("<f4").tobytes()


def model_reference(profile: LatentProfile) -> bytes:
    """Return what files have of a profile that is their model's: the outline, and a digest of it and the prior."""
    assert profile.prior_file is not None
    digest = hashlib.sha256(pack_profile(profile) + profile.prior_file).digest()
    return pack_space_info(profile) + digest[:DIGEST_NBYTES]


def serialize_profile(profile: LatentProfile) -> bytes:
    """Return what a file has of its profile besides the id."""
    return {INLINE: pack_profile, BUNDLED: model_reference}.get(profile.id, lambda _: b"")(profile)


def pack_space_info(space: LatentSpaceInfo) -> bytes:
    name = bytes.fromhex(space.latent_space.removeprefix("x-"))
    return _FIXED.pack(name, space.channels, space.downscale, *space.step_codes)


def unpack_space_info(data: bytes, nbytes: int | None = None) -> dict[str, Any]:
    """Return the fields of an `LatentSpaceInfo` at the start of `nbytes` bytes, by default as many as a whole profile has."""
    if len(data) < PROFILE_NBYTES:
        raise FormatError(f"latent profile of {len(data)} bytes, expected at least {PROFILE_NBYTES}")
    name, channels, downscale, first, last = _FIXED.unpack_from(data)
    expected = PROFILE_NBYTES + 16 * channels if nbytes is None else nbytes
    if len(data) != expected or not channels or not downscale:
        raise FormatError(f"latent profile of {len(data)} bytes, {channels} channels need {expected}")
    if max(first, last) >= 1 << STEP_BITS or first == last:
        raise FormatError(f"latent profile has step codes {first} and {last}")
    return {
        "latent_space": f"x-{name.hex()}",
        "channels": channels,
        "downscale": downscale,
        "step_codes": (first, last),
    }


def parse_profile(data: bytes) -> LatentProfile:
    """Return the profile that a file carries; `FormatError` if it is malformed."""
    space = unpack_space_info(data)
    vectors = np.frombuffer(data, "<f4", offset=PROFILE_NBYTES).reshape(4, -1).astype(np.float32)
    if not np.isfinite(vectors).all() or (vectors[1:3] <= 0).any():
        raise FormatError("latent profile has values that are not finite, or spreads or weights that are not positive")
    mean, spread, weight, offset = vectors
    with np.errstate(over="ignore"):
        largest = np.abs(mean) + spread * weight * MAX_STEP * (SYMBOL_LIMIT + 1 + np.abs(offset))
    if not np.isfinite(largest).all():
        raise FormatError("latent profile has values so large that latents would overflow")
    return LatentProfile(mean=mean, spread=spread, weight=weight, offset=offset, prior=ADAPTIVE_PRIOR, **space)
