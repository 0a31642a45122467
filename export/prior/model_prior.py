"""Training of a prior for one model, which can be resumed: latents and checkpoints are kept in a folder meanwhile."""

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
from sdtrt.progress import ProgressBar

MIN_CROP = 8  # latents along a side; smaller crops are useless for training


@dataclass(frozen=True, slots=True)
class PriorTrainingOptions:
    """How a model's prior is trained.

    Attributes:
        crops: Number of crops of photos that are encoded.
        side: Side of these crops, in pixels.
        iterations: Iterations of training; 0 stands for `default_iterations`.
        crop: Side of the training samples, in latents.
        table_crops: Number of samples that tables are fitted to.
    """

    crops: int = 512
    side: int = 512
    iterations: int = 0
    crop: int = 32
    table_crops: int = 1500


def default_iterations(channels: int) -> int:
    """Return the number of iterations for a prior: more for fewer channels, whose iterations take less time."""
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

    Latents and checkpoints are kept in a folder beside the bundle until the `with` block ends without an error. After
    an interruption the same call resumes.

    Arguments:
        bundle: The bundle.
        networks: Its networks.
        profile: Its profile.
        photos: Photos for training.
        prior_options: How to train.
        quiet: Whether progress is not printed.

    Raises:
        BundleError: No photo is large enough.
    """
    config = config_for([*np.argsort(profile.step_weight, kind="stable")])
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
    """Return the file of a prior trained on normalised latents, float32 (C, h, w) each.

    Latents smaller than a sample are skipped; if all are smaller, samples shrink to the largest of them.
    """
    crop = min(prior_options.crop, max((min(plane.shape[1:]) for plane in latents), default=0))
    if crop < MIN_CROP:
        raise BundleError(f"no photo can be read and is {MIN_CROP} latents wide and high")
    training = PriorTrainingConfig(
        iterations=prior_options.iterations, crop=crop, table_crops=prior_options.table_crops
    )
    large = [plane for plane in latents if min(plane.shape[1:]) >= crop]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads do not speed up such small networks, and slow them on busy cores
    try:
        return train(large, config, step_codes, run, training, report=ProgressBar(quiet=quiet))
    finally:
        torch.set_num_threads(threads)


def cache_key(
    bundle: Bundle,
    profile: LatentProfile,
    photos: Sequence[Path],
    prior_options: PriorTrainingOptions,
    config: PriorConfig,
) -> str:
    """Return a digest of everything that determines a prior; photos count by name and size, code by version."""
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
    """Yield normalised latents, float32 (C, h, w), of crops of photos; the folder caches them."""
    rate, unit = ProgressBar(quiet=quiet), (profile.std * profile.step_weight)[:, None, None]
    for number, crop in enumerate(random_crops(photos, prior_options.crops, prior_options.side, networks.downscale)):
        rate(min(number, prior_options.crops), prior_options.crops, "crops encoded")
        path = folder / f"{number:05d}.npy"
        if not path.is_file():
            with replacing(path) as file:
                np.save(file, (networks.encode(crop) - profile.mean[:, None, None]) / unit)
        yield np.load(path)
