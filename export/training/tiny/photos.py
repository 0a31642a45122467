"""Training photos: they are read into memory once, and random crops are drawn from them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PAGES_SHARE = 1 / 6
SCALED_SHARE, SCALES = 1 / 2, (0.5, 2.0)
GRAINY_SHARE, MAX_GRAIN = 1 / 4, 4.0  # standard deviation, in levels of 8 bits
SUFFIXES = {".png", ".webp", ".jpg", ".jpeg"}


def load_photos(folder: Path, smallest: int) -> list[np.ndarray]:
    """Return the photos of `folder` of at least `smallest` pixels a side, uint8 (H, W, 3) each, by file name."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    photos = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    photos = [p for p in photos if min(p.shape[:2]) >= smallest]
    if not photos:
        raise ValueError(f"no photo of at least {smallest}x{smallest} in {folder}")
    return photos


def mixed_crops(
    photos: list[np.ndarray], pages: list[np.ndarray], count: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Return `count` random crops of photos, and on average the share `PAGES_SHARE` of pages, if there are any."""
    of_pages = int(rng.binomial(count, PAGES_SHARE)) if pages else 0
    crops = [random_crops(pages, of_pages, size, rng)] if of_pages else []
    return np.concatenate([*crops, varied_crops(photos, count - of_pages, size, rng)])[rng.permutation(count)]


def varied_crops(photos: list[np.ndarray], count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return random crops, some of them scaled or with added grain, uint8 (count, size, size, 3).

    The training photos are small, and therefore sharp and free of grain, unlike large photos. Grain is added before
    scaling.
    """
    crops = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        scale = float(np.exp(rng.uniform(*np.log(SCALES)))) if rng.random() < SCALED_SHARE else 1.0
        side = round(size / scale)
        large = [photo for photo in photos if min(photo.shape[:2]) >= side] if side > size else photos
        if not large:
            side, large = size, photos
        (crop,) = random_crops(large, 1, side, rng)
        if rng.random() < GRAINY_SHARE:
            grain = rng.standard_normal(crop.shape, np.float32) * np.float32(rng.uniform(0, MAX_GRAIN))
            crop = (crop + grain + 0.5).clip(0, 255).astype(np.uint8)
        if side != size:
            crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
        crops[index] = crop
    return crops


def random_crops(photos: list[np.ndarray], count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` random crops, randomly flipped and rotated, uint8 (count, size, size, 3).

    The probability of a photo is proportional to its area.
    """
    area = np.array([p.shape[0] * p.shape[1] for p in photos], dtype=np.float64)
    crops = np.empty((count, size, size, 3), np.uint8)
    for place, index in enumerate(rng.choice(len(photos), count, p=area / area.sum())):
        photo = photos[index]
        top, left = (int(rng.integers(n - size + 1)) for n in photo.shape[:2])
        crop = np.rot90(triples(photo)[top : top + size, left : left + size], int(rng.integers(4)))
        triples(crops[place])[:] = crop[:, ::-1] if rng.integers(2) else crop
    return crops


def triples(pixels: np.ndarray) -> np.ndarray:
    """Return a view, (H, W), with one element for each pixel, which is copied faster."""
    return pixels.view("V3")[..., 0]


def pixels_to_planes(pixels: np.ndarray | Tensor) -> Tensor:
    """Convert uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1], with channels last in memory."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
