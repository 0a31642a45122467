"""Images for checks: photos of a folder, or one made by formula where there are none."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sdtrt._arrays import U8Array
from sdtrt.errors import BundleError

SUFFIXES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def synthetic_image(width: int, height: int) -> U8Array:
    """Return RGB pixels, uint8 (height, width, 3), with what photos have: shading, edges, texture, saturated colour.

    Texture has the amplitude spectrum 1/f of natural images (D. J. Field, J. Opt. Soc. Am. A 4, 1987).
    """
    rng = np.random.default_rng(1)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(width, height))
    texture = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(height, width))
    planes = np.repeat((texture / texture.std() * 35 + 120)[:, :, None], 3, axis=2)
    y, x = np.mgrid[:height, :width] / max(width, height)
    for _ in range(12):
        inside = np.hypot(y - rng.random(), x - rng.random()) < rng.uniform(0.03, 0.2)
        planes[inside] = 0.4 * planes[inside] + 0.6 * rng.choice([0, 255], 3)
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)


def list_photos(folder: Path) -> list[Path]:
    """Return the image files in a folder, sorted; `BundleError` if there are none."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; calibration wants one with some dozens of photos")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise BundleError(f"{folder} holds no images; calibration wants a folder of some dozens of photos")
    return found


def random_crops(photos: Sequence[Path], count: int, side: int, multiple: int) -> Iterator[U8Array]:
    """Yield about `count` random crops of photos, RGB pixels, uint8 (H, W, 3), the same ones each time.

    They are `side` pixels wide and high, or as many as a smaller photo has, a multiple of `multiple`. Of many photos
    some are taken, evenly; of few several crops each, as far as there are several. What cannot be read, has more than
    8 bits or is smaller than `multiple` is passed over.
    """
    rng = np.random.default_rng(1)
    taken = photos if len(photos) <= count else [photos[n * len(photos) // count] for n in range(count)]
    for path in taken:
        pixels = load_pixels(path)
        if pixels is None:
            continue
        height, width = (min(n, side) // multiple * multiple for n in pixels.shape[:2])
        if not height or not width:
            continue
        down, across = pixels.shape[0] - height + 1, pixels.shape[1] - width + 1
        for place in np.unique(rng.integers(down * across, size=-(-count // len(taken)))):
            top, left = divmod(int(place), across)
            yield pixels[top : top + height, left : left + width].copy()  # a view would keep the whole photo


def centre_crop(path: Path, largest: int, multiple: int) -> U8Array | None:
    """Return the middle of a photo as RGB pixels, uint8 (H, W, 3).

    At most `largest` on a side and a multiple of `multiple`; None if the photo is smaller than that, or cannot be used.
    """
    pixels = load_pixels(path)
    if pixels is None:
        return None
    height, width = (min(n, largest) // multiple * multiple for n in pixels.shape[:2])
    if not height or not width:
        return None
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def load_pixels(path: Path) -> U8Array | None:
    """Return a photo's RGB pixels; None if it cannot be read, or has more than 8 bits, which nothing is measured on."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", "")):
                return None
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # of Pillow's readers, which raise whatever they stumble over
        return None
