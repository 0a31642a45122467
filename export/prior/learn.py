"""A model's own prior: latents of photos, kept as they come, and training that goes on where it was cut short."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sdtrt.atomic import replacing
from sdtrt.engine.format.profile import LatentProfile, pack
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.picture import crops_of
from sdtrt.export.prior.architectures import plan_for
from sdtrt.export.prior.train import Recipe, train
from sdtrt.progress import Rate


@dataclass(frozen=True, slots=True)
class Lesson:
    """How much a prior learns from: so many crops, so many pixels wide, for so many iterations."""

    crops: int = 512
    side: int = 512
    iterations: int = 4000
    crop: int = 32  # latents, of those crops, at a time
    fitted_crops: int = 1500


def learned_prior(
    bundle: Bundle, networks: Networks, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson, *, quiet: bool
) -> bytes:
    """Return the file of a prior for a bundle's latents, trained on photos.

    What is done is kept in a folder beside the bundle until the end, so that the same call goes on after an
    interruption. Raises `BundleError` if no photo is large enough.
    """
    folder = bundle.folder.resolve().parent / f".{bundle.folder.name}.calibration"
    begin(folder, key_of(bundle, profile, photos, lesson))
    latents = [*normalised_latents(folder, networks, profile, photos, lesson, quiet=quiet)]
    crop = min(lesson.crop, *(min(plane.shape[1:]) for plane in latents)) if latents else 0
    if not crop:
        raise BundleError(f"none of {len(photos)} photos can be read and is {networks.downscale} pixels wide and high")
    recipe = Recipe(iterations=lesson.iterations, crop=crop, fitted_crops=lesson.fitted_crops)
    plan = plan_for([*np.argsort(profile.weight, kind="stable")])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks so small gain nothing by more, and lose much where cores are busy
    try:
        prior = train(latents, plan, profile.step_codes, folder / "run", recipe, report=Rate(quiet=quiet))
    finally:
        torch.set_num_threads(threads)
    shutil.rmtree(folder)
    return prior


def key_of(bundle: Bundle, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson) -> str:
    """Return a digest of all that a prior depends on; of photos of their names and sizes."""
    names = "\n".join(f"{path} {path.stat().st_size}" for path in photos)
    text = f"{bundle.files['encoder.onnx']} {pack(profile).hex()} {lesson} {names}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def begin(folder: Path, key: str) -> None:
    """Make the folder of a calibration, empty unless it is of the same one."""
    file = folder / "key"
    if not file.is_file() or file.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        file.write_text(key)


def normalised_latents(
    folder: Path, networks: Networks, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson, *, quiet: bool
) -> Iterator[NDArray[np.float32]]:
    """Yield normalised latents, float32 (C, h, w), of crops of photos; those that the folder has are not made again."""
    rate, unit = Rate(quiet=quiet), (profile.spread * profile.weight)[:, None, None]
    for number, crop in enumerate(crops_of(photos, lesson.crops, lesson.side, networks.downscale)):
        rate(min(number, lesson.crops), lesson.crops, "crops encoded")
        path = folder / f"{number:05d}.npy"
        if not path.is_file():
            with replacing(path) as file:
                np.save(file, (networks.encode(crop) - profile.mean[:, None, None]) / unit)
        yield np.load(path)
