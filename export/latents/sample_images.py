"""Images for measurements and checks: photos of a folder, or a synthetic image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sdtrt._arrays import U8Array
from sdtrt.errors import BundleError

SUFFIXES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def synthetic_image(width: int, height: int) -> U8Array:
    """Return RGB pixels, uint8 (height, width, 3), with texture, shading, edges and saturated colours, as photos have.

    The texture has the amplitude spectrum 1/f of natural images (D. J. Field, J. Opt. Soc. Am. A 4, 1987).
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
        raise BundleError(f"{folder} is not a folder; calibration needs a folder of some dozens of photos")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise BundleError(f"{folder} holds no images; calibration needs a folder of some dozens of photos")
    return paths


def random_crops(photos: Sequence[Path], count: int, side: int, multiple: int) -> Iterator[U8Array]:
    """Yield about `count` random crops of photos, RGB pixels, uint8 (H, W, 3); every call yields the same crops.

    Photos that cannot be read, have more than 8 bits or are smaller than `multiple` are skipped.

    Arguments:
        photos: Paths. Of more than `count` photos an even selection is used, of fewer several crops each.
        count: Number of crops.
        side: Width and height in pixels; smaller photos give smaller crops.
        multiple: Width and height are rounded down to a multiple of it.
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
    """Return the centre of a photo as RGB pixels, uint8 (H, W, 3); None if it cannot be read or is too small.

    A side has at most `largest` pixels and is a multiple of `multiple`.
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
    """Return a photo's RGB pixels, uint8 (H, W, 3); None if it cannot be read or has more than 8 bits."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", "")):
                return None
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # Pillow's readers raise exceptions of many classes for damaged files
        return None
