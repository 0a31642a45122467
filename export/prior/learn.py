"""A model's own prior: latents of photos, kept as they come, and training that goes on where it was cut short."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sdtrt._arrays import F32Array
from sdtrt._version import __version__
from sdtrt.atomic import replace_file, replacing
from sdtrt.engine.format.profile import LatentProfile, pack_profile
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.sample_images import crops_of
from sdtrt.export.prior.architectures import Plan, plan_for
from sdtrt.export.prior.train import Recipe, train
from sdtrt.progress import ProgressBar

MIN_CROP = 8  # latents, of which there is something to be learned


@dataclass(frozen=True, slots=True)
class Lesson:
    """How much a prior learns from: so many crops, so many pixels wide, for so many iterations.

    0 iterations are as many as `iterations_for` says.
    """

    crops: int = 512
    side: int = 512
    iterations: int = 0
    crop: int = 32  # latents, of those crops, at a time
    fitted_crops: int = 1500


def iterations_for(channels: int) -> int:
    """Return for how long a prior of so many channels is trained: with few, an iteration takes less time."""
    return max(4000, 32_000 // channels)


@contextmanager
def learned_prior(
    bundle: Bundle, networks: Networks, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson, *, quiet: bool
) -> Iterator[bytes]:
    """Yield the file of a prior for a bundle's latents, trained on photos.

    What is done is kept in a folder beside the bundle until all that is done with the prior is done, too, so that the
    same call goes on after an interruption. Raises `BundleError` if no photo is large enough.
    """
    plan = plan_for([*np.argsort(profile.weight, kind="stable")])
    lesson = replace(lesson, iterations=lesson.iterations or iterations_for(profile.channels))
    key = key_of(bundle, profile, photos, lesson, plan)
    folder = bundle.folder.resolve().parent / f".sdtrt-calibration-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "prior.npz"
    if not finished.is_file():
        latents = [*normalised_latents(folder, networks, profile, photos, lesson, quiet=quiet)]
        replace_file(finished, trained(latents, plan, profile.step_codes, folder / "run", lesson, quiet=quiet))
    yield finished.read_bytes()
    shutil.rmtree(folder)


def trained(
    latents: Sequence[F32Array], plan: Plan, step_codes: tuple[int, int], run: Path, lesson: Lesson, *, quiet: bool
) -> bytes:
    """Return the file of a prior trained on those latents that are large enough, or on the largest."""
    crop = min(lesson.crop, max((min(plane.shape[1:]) for plane in latents), default=0))
    if crop < MIN_CROP:
        raise BundleError(f"no photo can be read and is {MIN_CROP} latents wide and high")
    recipe = Recipe(iterations=lesson.iterations, crop=crop, fitted_crops=lesson.fitted_crops)
    large = [plane for plane in latents if min(plane.shape[1:]) >= crop]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks so small gain nothing by more, and lose much where cores are busy
    try:
        return train(large, plan, step_codes, run, recipe, report=ProgressBar(quiet=quiet))
    finally:
        torch.set_num_threads(threads)


def key_of(bundle: Bundle, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson, plan: Plan) -> str:
    """Return a digest of all that a prior depends on; of photos of their names and sizes, of code of its version."""
    names = "\n".join(f"{path} {path.stat().st_size}" for path in photos)
    recipe = f"{__version__} {lesson} {plan} {Recipe(iterations=lesson.iterations)}"
    text = f"{bundle.folder.name} {bundle.files['encoder.onnx']} {pack_profile(profile).hex()} {recipe} {names}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def normalised_latents(
    folder: Path, networks: Networks, profile: LatentProfile, photos: Sequence[Path], lesson: Lesson, *, quiet: bool
) -> Iterator[F32Array]:
    """Yield normalised latents, float32 (C, h, w), of crops of photos; those that the folder has are not made again."""
    rate, unit = ProgressBar(quiet=quiet), (profile.spread * profile.weight)[:, None, None]
    for number, crop in enumerate(crops_of(photos, lesson.crops, lesson.side, networks.downscale)):
        rate(min(number, lesson.crops), lesson.crops, "crops encoded")
        path = folder / f"{number:05d}.npy"
        if not path.is_file():
            with replacing(path) as file:
                np.save(file, (networks.encode(crop) - profile.mean[:, None, None]) / unit)
        yield np.load(path)
