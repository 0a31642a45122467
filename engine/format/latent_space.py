"""Latent spaces as files describe them, without arrays: the module imports no NumPy, so that `sdtrt info` starts fast.

`engine.format.profile` has the parameters that turn symbols into latents. `docs/format.md`, section 2, is normative.
"""

import json
import math
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sdtrt.errors import BundleError, FormatError
from sdtrt.kernels import SYMBOL_LIMIT

PROFILES = Path(__file__).parents[1] / "data" / "profiles"
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


_FIXED = struct.Struct("<4sBBHH")  # hash, channels, downscale, step codes of qualities 1 and 100


def parse_space_info(profile_id: int, prior_id: int, data: bytes) -> LatentSpaceInfo:
    """Return the latent space of a file.

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
        space = LatentSpaceInfo(**unpack_space_info(data))
        check_vectors(data)
        return space
    if profile_id not in PROFILE_NAMES:
        raise FormatError(f"latent profile {profile_id} is unknown; a later sdtrt may read this file")
    return LatentSpaceInfo(**space_fields(shipped_profile_fields(profile_id)))


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


def check_vectors(data: bytes) -> None:
    """Check the vectors of a whole profile, whose length is right; `FormatError` if latents could overflow float32."""
    count = (len(data) - PROFILE_NBYTES) // 16
    values = struct.unpack_from(f"<{4 * count}f", data, PROFILE_NBYTES)
    mean, std, step_weight, recon_offset = (values[start : start + count] for start in range(0, 4 * count, count))
    if not all(map(math.isfinite, values)) or min(*std, *step_weight) <= 0:
        raise FormatError("latent profile has values that are not finite, or spreads or weights that are not positive")
    for channel in zip(mean, std, step_weight, recon_offset, strict=True):
        if not _latents_fit_float32(*channel):
            raise FormatError("latent profile has values so large that latents would overflow")


def _latents_fit_float32(mean: float, std: float, step_weight: float, recon_offset: float) -> bool:
    """Return whether the largest latent of a channel is finite, with each operation rounded to float32.

    A product or sum of two float32 numbers, computed in float64 and then rounded to float32, is rounded correctly
    (Figueroa, "When is double rounding innocuous?", 1995). `struct` rounds, and refuses numbers that would be infinite.
    """
    try:
        step = _float32(_float32(std * step_weight) * MAX_STEP)
        _float32(abs(mean) + _float32(step * _float32(SYMBOL_LIMIT + 1 + abs(recon_offset))))
    except OverflowError:
        return False
    return True


def _float32(value: float) -> float:
    """Round to float32; `OverflowError` if the result would be infinite."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


@cache
def shipped_profile_fields(identifier: int) -> dict[str, Any]:
    """Return the fields of the JSON file of a shipped profile by its id; `BundleError` if there is none."""
    if identifier not in PROFILE_NAMES:
        raise BundleError(f"latent profile {identifier} is not part of this version; a later sdtrt may have it")
    fields: dict[str, Any] = json.loads((PROFILES / f"{PROFILE_NAMES[identifier]}.json").read_text())
    return fields


def space_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `LatentSpaceInfo` in those of a profile's JSON file. The keys are part of the format."""
    return {
        "latent_space": fields["latent_space"],
        "channels": fields["channels"],
        "downscale": fields["downscale"],
        "step_codes": (fields["step_codes"][0], fields["step_codes"][1]),
    }


def pack_space_info(space: LatentSpaceInfo) -> bytes:
    name = bytes.fromhex(space.latent_space.removeprefix("x-"))
    return _FIXED.pack(name, space.channels, space.downscale, *space.step_codes)
