"""Latent spaces that are known by name, and which of them a checkpoint belongs to.

Networks in bundles speak of latents at unit scale, (raw - shift) * scale, with the factors of diffusers' configs.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sdtrt.engine.format.profile import PROFILE_NAMES, shipped_profile


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """What encoder and decoder agree on; every known one is 8 pixels a latent wide."""

    name: str
    channels: int
    scale: float
    shift: float
    models: str


KNOWN = {
    space.name: space
    for space in (
        LatentSpace("sd1", 4, 0.18215, 0.0, "Stable Diffusion 1.x and 2.x, TAESD"),
        LatentSpace("sdxl", 4, 0.13025, 0.0, "SDXL, TAESDXL"),
        LatentSpace("sd3", 16, 1.5305, 0.0609, "Stable Diffusion 3 and 3.5, TAESD3"),
        LatentSpace("flux1", 16, 0.3611, 0.1159, "FLUX.1, TAEF1"),
    )
}


def shipped_profile_id(name: str) -> int | None:
    """Return the id of the newest shipped profile of a latent space; None if there is none."""
    found = [identifier for identifier in PROFILE_NAMES if shipped_profile(identifier).latent_space == name]
    return max(found, default=None)


def name_in_files(name: str) -> str:
    """Return the name under which files refer to a latent space.

    That is the name itself where a profile of it ships, else `x-` and 8 digits of the name's SHA-256, so that every
    model of a space known by name reads what the others write.
    """
    if name.startswith("x-") or shipped_profile_id(name) is not None:
        return name
    return f"x-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def valid_name(name: str) -> str:
    """Return the name of a latent space if it may be one; `ValueError` if not."""
    if not re.fullmatch(r"x-[0-9a-f]{8}|(?!x-)[A-Za-z0-9][\w.-]{0,63}", name):
        raise ValueError(f"latent space {name!r}: expected a short word, or x- and 8 hexadecimal digits")
    return name


def space_of_weights(weights: Iterable[np.ndarray]) -> str:
    """Return the name `x-` and 8 digits of an encoder known by its weights alone, whatever their order and names."""
    digests = sorted(hashlib.sha256(array.astype(np.float32).tobytes()).digest() for array in weights)
    return f"x-{hashlib.sha256(b''.join(digests)).hexdigest()[:8]}"


def identify(channels: int, scale: float | None, shift: float | None, hint: str) -> tuple[str | None, str]:
    """Return the name of the known space that a VAE belongs to, None if unknown or not to be told, and the reason.

    `scale` and `shift` are those of its config, None where it has none; `hint` is the name of the model or file.
    """
    candidates = [space for space in KNOWN.values() if space.channels == channels]
    exact = [s for s in candidates if scale is not None and abs(s.scale - scale) < 1e-6 and s.shift == (shift or 0)]
    if exact:
        return exact[0].name, f"{channels} channels, scaling factor {scale}, shift {shift or 0}: {exact[0].models}"
    if scale not in {None, 1.0}:
        return None, f"no known latent space has {channels} channels and scaling factor {scale}"
    named = _named(candidates, hint)
    if named:
        return named.name, f"{channels} channels, and {hint!r} names {named.models}"
    names = " or ".join(space.name for space in candidates)
    return None, f"{channels} channels: {names if candidates else 'no known latent space'}; its files do not say which"


def _named(candidates: list[LatentSpace], hint: str) -> LatentSpace | None:
    marks = {"sd3": ("sd3", "stable-diffusion-3"), "flux1": ("flux", "taef1"), "sdxl": ("xl",), "sd1": ("sd",)}
    text = hint.lower().replace("_", "-")
    for name, words in marks.items():
        for space in candidates:
            if space.name == name and any(word in text for word in words):
                return space
    return None
