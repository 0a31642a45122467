"""Known latent spaces, and the identification of a checkpoint's latent space.

Networks in bundles use latents at unit scale, as diffusers' pipelines pass them to transformers and UNets.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sdtrt.engine.format.latent_space import PROFILE_NAMES
from sdtrt.engine.format.profile import shipped_profile


@dataclass(frozen=True, slots=True)
class Factors:
    """Latents at unit scale are (raw - shift) * scale; each factor is one number, or one for each channel."""

    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0

    @classmethod
    def of_statistics(cls, mean: Sequence[float], spread: Sequence[float]) -> "Factors":
        """Return the factors that normalise channels of these means and spreads to mean 0 and spread 1."""
        return cls(tuple(1 / float(value) for value in spread), tuple(map(float, mean)))

    def near(self, other: "Factors") -> bool:
        """Return whether both are equal up to rounding."""
        ours, theirs = np.atleast_1d(self.scale, self.shift), np.atleast_1d(other.scale, other.shift)
        return all(
            a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(ours, theirs, strict=True)
        )

    def __str__(self) -> str:
        if isinstance(self.scale, float) and isinstance(self.shift, float):
            return f"scaling factor {self.scale}, shift {self.shift}"
        return "factors for each channel"


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """A row of `KNOWN`: a latent space.

    Attributes:
        name: Its name.
        channels: Number of channels.
        downscale: Pixels for each latent along a side.
        factors: Factors to unit scale; None if they differ between checkpoints, which `kind` then identifies.
        marks: Substrings that occur in the names of its models.
        models: Its models, for messages.
        kind: The class of diffusers that identifies the space; None if factors or names do.
    """

    name: str
    channels: int
    downscale: int
    factors: Factors | None
    marks: tuple[str, ...]
    models: str
    kind: str | None = None


# fmt: off
WAN21 = Factors.of_statistics(
    mean=(
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ),
    spread=(
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ),
)
WAN22 = Factors.of_statistics(
    mean=(
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
        0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
        -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
        -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
    ),
    spread=(
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
        0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
        0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
        0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
    ),
)
# fmt: on
# Among rows with equal channels, later rows have the more specific marks.
KNOWN = {
    space.name: space
    for space in (
        LatentSpace("sd1", 4, 8, Factors(0.18215), ("sd",), "Stable Diffusion 1.x and 2.x, TAESD"),
        LatentSpace("sdxl", 4, 8, Factors(0.13025), ("xl",), "SDXL, TAESDXL"),
        LatentSpace("sd3", 16, 8, Factors(1.5305, 0.0609), ("sd3", "stable-diffusion-3"), "SD 3 and 3.5, TAESD3"),
        LatentSpace("flux1", 16, 8, Factors(0.3611, 0.1159), ("flux", "taef1"), "FLUX.1, TAEF1"),
        LatentSpace("flux2", 128, 16, None, ("flux2", "flux.2"), "FLUX.2", kind="AutoencoderKLFlux2"),
        LatentSpace("wan21", 16, 8, WAN21, ("wan2.1", "qwen-image"), "Wan 2.1, Wan 2.2 14B, Qwen-Image"),
        LatentSpace("wan22", 48, 16, WAN22, ("wan2.2",), "Wan 2.2 5B"),
        LatentSpace("sana", 32, 32, Factors(0.41407), ("sana",), "Sana (DC-AE)"),
    )
}


def shipped_profile_id(name: str) -> int | None:
    """Return the id of the newest shipped profile of a latent space; None if there is none."""
    identifiers = [identifier for identifier in PROFILE_NAMES if shipped_profile(identifier).latent_space == name]
    return max(identifiers, default=None)


def name_in_files(name: str) -> str:
    """Return the name of a latent space in files.

    It is the name itself if a profile ships, else `x-` and 8 digits of the name's SHA-256. All models of a named space
    thus read each other's files. A name that already has this form is returned unchanged.
    """
    if re.fullmatch(r"x-[0-9a-f]{8}", name) or shipped_profile_id(name) is not None:
        return name
    return f"x-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def valid_name(name: str) -> str:
    """Return `name` if it is a valid name of a latent space; else raise `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name):
        raise ValueError(
            f"latent space {name!r}: expected a word of at most 64 letters, digits, '.', '_' and '-' that begins with "
            "a letter or digit, for example sd1, my-vae or x-taef2"
        )
    return name


def space_of_weights(weights: Iterable[np.ndarray]) -> str:
    """Return `x-` and 8 digits for an encoder without a named space, from its weights in any order."""
    digests = sorted(hashlib.sha256(array.astype(np.float32).tobytes()).digest() for array in weights)
    return f"x-{hashlib.sha256(b''.join(digests)).hexdigest()[:8]}"


def identify(channels: int, factors: Factors | None, hint: str, kind: str = "") -> tuple[str | None, str]:
    """Return the name of a VAE's latent space, None if it is unknown or ambiguous, and the reason.

    Arguments:
        channels: Number of channels of the latents.
        factors: Factors in the config; None without a config.
        hint: Name of the model or file.
        kind: Name of the autoencoder's class.
    """
    candidates = [space for space in KNOWN.values() if space.channels == channels and space.kind in {None, kind}]
    for space in candidates:
        if space.kind:
            return space.name, f"{channels} channels of an {kind}: {space.models}"
        if space.factors and factors and space.factors.near(factors):
            return space.name, f"{channels} channels, {factors}: {space.models}"
    if factors not in {None, Factors()}:
        return None, f"no known latent space has {channels} channels and {factors}"
    text = hint.lower().replace("_", "-")
    for space in reversed(candidates):
        if any(mark in text for mark in space.marks):
            return space.name, f"{channels} channels, and {hint!r} names {space.models}"
    names = " or ".join(space.name for space in candidates)
    return None, f"{channels} channels: {names or 'no known latent space'}; its files do not identify the space"
