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
from sdtrt.export.latents.sample_images import random_crops
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.export.prior.architectures import PriorConfig, config_for
from sdtrt.export.prior.train import PriorTrainingConfig, train
from sdtrt.progress import Rate

MIN_CROP = 8  # latents, of which there is something to be learned


@dataclass(frozen=True, slots=True)
class PriorTrainingOptions:
    """How much a prior learns from: so many crops, so many pixels wide, for so many iterations.

    0 iterations are as many as `default_iterations` says.
    """

    crops: int = 512
    side: int = 512
    iterations: int = 0
    crop: int = 32  # latents, of those crops, at a time
    fitted_crops: int = 1500


def default_iterations(channels: int) -> int:
    """Return for how long a prior of so many channels is trained: with few, an iteration takes less time."""
    return max(4000, 32_000 // channels)


@contextmanager
def trained_prior(
    bundle: Bundle,
    networks: CodecPair,
    profile: LatentProfile,
    photos: Sequence[Path],
    prior_options: PriorTrainingOptions,
    *,
    quiet: bool,
) -> Iterator[bytes]:
    """Yield the file of a prior for a bundle's latents, trained on photos.

    What is done is kept in a folder beside the bundle until all that is done with the prior is done, too, so that the
    same call goes on after an interruption. Raises `BundleError` if no photo is large enough.
    """
    config = config_for([*np.argsort(profile.weight, kind="stable")])
    prior_options = replace(prior_options, iterations=prior_options.iterations or default_iterations(profile.channels))
    key = cache_key(bundle, profile, photos, prior_options, config)
    folder = bundle.folder.resolve().parent / f".sdtrt-calibration-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "prior.npz"
    if not finished.is_file():
        latents = [*normalised_latents(folder, networks, profile, photos, prior_options, quiet=quiet)]
        replace_file(
            finished, train_on_latents(latents, config, profile.step_codes, folder / "run", prior_options, quiet=quiet)
        )
    yield finished.read_bytes()
    shutil.rmtree(folder)


def train_on_latents(
    latents: Sequence[F32Array],
    config: PriorConfig,
    step_codes: tuple[int, int],
    run: Path,
    prior_options: PriorTrainingOptions,
    *,
    quiet: bool,
) -> bytes:
    """Return the file of a prior trained on those latents that are large enough, or on the largest."""
    crop = min(prior_options.crop, max((min(plane.shape[1:]) for plane in latents), default=0))
    if crop < MIN_CROP:
        raise BundleError(f"no photo can be read and is {MIN_CROP} latents wide and high")
    training = PriorTrainingConfig(
        iterations=prior_options.iterations, crop=crop, fitted_crops=prior_options.fitted_crops
    )
    large = [plane for plane in latents if min(plane.shape[1:]) >= crop]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks so small gain nothing by more, and lose much where cores are busy
    try:
        return train(large, config, step_codes, run, training, report=Rate(quiet=quiet))
    finally:
        torch.set_num_threads(threads)


def cache_key(
    bundle: Bundle,
    profile: LatentProfile,
    photos: Sequence[Path],
    prior_options: PriorTrainingOptions,
    config: PriorConfig,
) -> str:
    """Return a digest of all that a prior depends on; of photos of their names and sizes, of code of its version."""
    names = "\n".join(f"{path} {path.stat().st_size}" for path in photos)
    training = f"{__version__} {prior_options} {config} {PriorTrainingConfig(iterations=prior_options.iterations)}"
    text = f"{bundle.folder.name} {bundle.files['encoder.onnx']} {pack_profile(profile).hex()} {training} {names}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def normalised_latents(
    folder: Path,
    networks: CodecPair,
    profile: LatentProfile,
    photos: Sequence[Path],
    prior_options: PriorTrainingOptions,
    *,
    quiet: bool,
) -> Iterator[F32Array]:
    """Yield normalised latents, float32 (C, h, w), of crops of photos; those that the folder has are not made again."""
    rate, unit = Rate(quiet=quiet), (profile.spread * profile.weight)[:, None, None]
    for number, crop in enumerate(random_crops(photos, prior_options.crops, prior_options.side, networks.downscale)):
        rate(min(number, prior_options.crops), prior_options.crops, "crops encoded")
        path = folder / f"{number:05d}.npy"
        if not path.is_file():
            with replacing(path) as file:
                np.save(file, (networks.encode(crop) - profile.mean[:, None, None]) / unit)
        yield np.load(path)
