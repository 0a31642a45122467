"""Latents of a folder of photos, for training."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sdtrt.engine.codec import EngineCodec


def latents_of_photos(folder: Path, model: str, smallest: int) -> list[np.ndarray]:
    """Return normalised latents, float32 (C, h, w), of several views of each photo.

    Views with fewer than `smallest` latents along a side are left out.
    """
    codec = EngineCodec(model)
    profile = codec.profile
    unit = (profile.std * profile.step_weight)[:, None, None]
    all_latents = []
    for path in sorted(p for p in folder.iterdir() if p.suffix != ".tsv"):
        for view in views(Image.open(path).convert("RGB")):
            latents = codec.analyse(np.asarray(view))
            if min(latents.shape[1:]) >= smallest:
                all_latents.append((latents - profile.mean[:, None, None]) / unit)
    return all_latents


def views(photo: Image.Image) -> list[Image.Image]:
    """Return a photo, its mirror image, both shifted against the grid of latents, and a smaller copy."""
    mirrored = ImageOps.mirror(photo)
    moved = photo.crop((3, 5, photo.width, photo.height))
    smaller = photo.resize((photo.width * 3 // 4, photo.height * 3 // 4), Image.Resampling.LANCZOS)
    return [photo, mirrored, moved, mirrored.crop((4, 4, photo.width, photo.height)), smaller]
