"""Train the prior of a latent space: one small network for each pass, for all quantization steps.

    python -m sdtrt.export.prior.train PHOTOS --model tiny --run runs/prior --out engine/data/priors/tiny-1.npz

Networks are trained in floating point on symbols chosen as an encoder chooses them (rounding or RDOQ). At the end they
are rounded to integers, and tables and reconstruction offsets are fitted to the contexts of the integer networks. A run
resumes from its last checkpoint. A new run may start from the networks of another run (`--start`), for example of the
previous version of the latent space.
"""

import argparse
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.atomic import replace_file
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.perceptual_masking import masking_weights
from sdtrt.engine.coding.priors.network_prior import ARRAY_NAMES, PassNetwork
from sdtrt.engine.coding.priors.prior_layout import Architecture
from sdtrt.export.latents.photo_latents import latents_of_photos
from sdtrt.export.prior.architectures import PRIOR_CONFIGS, PriorConfig, build_architecture
from sdtrt.export.prior.coding import PassIndexer, code_batch, features_of
from sdtrt.export.prior.integerize import fit_tables_and_offsets, integerize_networks
from sdtrt.export.prior.network import TrainablePassNetwork, quant_steps
from sdtrt.export.training_loop import (
    Batch,
    Draw,
    Figures,
    Report,
    TrainingConfig,
    TrainingRun,
    add_device_option,
    averaged_weights,
)


@dataclass(frozen=True, kw_only=True)
class PriorTrainingConfig(TrainingConfig):
    """The hyperparameters of a prior's training; `crop` is in latents.

    Attributes:
        extra_fine: Step codes finer than quality 100 that are trained, too.
        extra_coarse: Step codes coarser than quality 1 that are trained, too.
        table_crops: Number of samples that tables are fitted to.
        max_lmbda: Largest lambda of RDOQ, in squared steps per bit.
    """

    iterations: int = 20000
    learning_rate: float = 0.01
    warmup: int = 1
    batch: int = 8
    crop: int = 32
    ema_decay: float = 0.0  # no averaging: the last weights are used
    max_grad_norm: float | None = None
    extra_fine: int = 128
    extra_coarse: int = 512
    table_crops: int = 3000
    max_lmbda: float = 0.15

    def rate(self, iteration: int) -> float:
        return self.learning_rate * (1 - iteration / self.iterations)


def train(
    latents: list[np.ndarray],
    config: PriorConfig,
    step_codes: tuple[int, int],
    run: Path,
    training: PriorTrainingConfig,
    *,
    masking: int = 0,
    start: Path | None = None,
    report: Report | None = None,
    device: str = "cpu",
) -> bytes:
    """Train a prior and return its file.

    Arguments:
        latents: Normalised latents, float32 (C, h, w) each.
        config: The prior's configuration.
        step_codes: Step codes of qualities 1 and 100.
        run: Folder of the checkpoint, from which training resumes.
        training: The hyperparameters.
        masking: Number of channels for perceptual masking, as in a profile.
        start: Folder of another run whose networks a new run starts from.
        report: Called with the progress; None prints it.
        device: Name of a PyTorch device.
    """
    torch.manual_seed(training.seed)
    arch = build_architecture(config)
    networks = nn.ModuleList([TrainablePassNetwork(coding_pass, config) for coding_pass in arch.passes])
    indexer = PassIndexer(arch, training.crop, device)
    if start:
        networks.load_state_dict(averaged_weights(start, "prior"))
    networks = networks.to(device)

    def loss_of(planes: Tensor, codes: Tensor, features: Tensor, lmbdas: Tensor) -> tuple[Tensor, Figures]:
        exact = planes / quant_steps(codes)[:, None, None, None]
        passes = code_batch(networks, indexer, exact, codes, features, lmbdas)
        loss = torch.stack([bits for _, _, bits in passes]).sum() / planes.numel()
        return loss, {"bits per symbol": loss}

    def keep_exact() -> None:
        for network, coding_pass in zip(networks, arch.passes, strict=True):
            network.keep_exact(coding_pass)

    draw = make_crop_drawer(latents, step_codes, masking, training, arch)
    TrainingRun(run, networks, networks, training).train(draw, loss_of, keep_exact, report)
    crops = random_crops(latents, step_codes, masking, training, report)
    return pack_prior(config, arch, integerize_networks(networks.cpu()), crops)


def make_crop_drawer(
    latents: list[np.ndarray],
    step_codes: tuple[int, int],
    masking: int,
    training: PriorTrainingConfig,
    arch: Architecture,
) -> Draw:
    """Return a function that draws a batch: crops in coding order, (N, C, h, w), step codes, features and lambdas."""

    def draw(rng: np.random.Generator) -> Batch:
        drawn = (random_crop(latents, step_codes, masking, training, rng) for _ in range(training.batch))
        crops, codes, lmbdas = zip(*drawn, strict=True)
        planes = torch.from_numpy(np.stack(crops)[:, list(arch.order)])
        lmbda_planes = torch.from_numpy(np.stack(lmbdas)[:, None])
        return planes, torch.tensor(codes, dtype=torch.float32), features_of(codes), lmbda_planes

    return draw


def random_crop(
    latents: list[np.ndarray],
    step_codes: tuple[int, int],
    masking: int,
    training: PriorTrainingConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return a random crop of normalised latents, float32 (C, crop, crop), a random step code, and a random lambda.

    Lambda, float32 (crop, crop), is constant except for perceptual masking.
    """
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - training.crop + 1)) for n in plane.shape[1:])
    fine, coarse = sorted(step_codes)
    code = int(rng.integers(fine - training.extra_fine, coarse + training.extra_coarse + 1))
    crop = plane[:, top : top + training.crop, left : left + training.crop]
    lmbda = np.full((training.crop, training.crop), rng.uniform(0, training.max_lmbda), np.float32)
    return crop, code, lmbda * masking_weights(crop[:masking]) if masking else lmbda


def random_crops(
    latents: list[np.ndarray],
    step_codes: tuple[int, int],
    masking: int,
    training: PriorTrainingConfig,
    report: Report | None = None,
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield the crops that tables and reconstruction offsets are fitted to, with step codes and lambdas."""
    rng = np.random.default_rng(training.seed + 1)
    for number in range(training.table_crops):
        if report:
            report(number, training.table_crops, "crops that tables are fitted to")
        yield random_crop(latents, step_codes, masking, training, rng)


def pack_prior(
    config: PriorConfig,
    arch: Architecture,
    networks: list[PassNetwork],
    crops: Iterable[tuple[np.ndarray, int, np.ndarray]],
) -> bytes:
    """Return a prior's file, with tables and reconstruction offsets fitted to crops."""
    tables, centroids = fit_tables_and_offsets(arch, networks, crops, config.fit_offsets)
    arrays: dict[str, Any] = {
        f"{field}{n}": smallest_integers(getattr(network, field))
        for n, network in enumerate(networks)
        for field in ARRAY_NAMES
    }
    if centroids is not None:
        arrays["centroids"] = centroids
    stream = io.BytesIO()
    np.savez_compressed(stream, architecture=np.frombuffer(arch.to_json().encode(), np.uint8), tables=tables, **arrays)
    return stream.getvalue()


def smallest_integers(weights: np.ndarray) -> np.ndarray:
    """Return integer-valued weights in the smallest integer type that holds them."""
    kind = next(k for k in (np.int8, np.int16, np.int32) if np.abs(weights).max(initial=0) <= np.iinfo(k).max)
    return weights.astype(kind)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the prior of a latent space that ships with sdtrt.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of a run whose networks a new run starts from")
    parser.add_argument("--iterations", type=int, default=PriorTrainingConfig.iterations)
    parser.add_argument("--learning-rate", type=float, default=PriorTrainingConfig.learning_rate)
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    add_device_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = PriorTrainingConfig(iterations=options.iterations, learning_rate=options.learning_rate)
    latents = latents_of_photos(options.photos, options.model, training.crop)
    profile = EngineCodec(options.model).profile
    prior = train(
        latents,
        PRIOR_CONFIGS[profile.latent_space],
        profile.step_codes,
        options.run,
        training,
        masking=profile.masking,
        start=options.start,
        device=options.device,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(options.out, prior)
    print(f"{options.out}: {len(prior)} bytes")


if __name__ == "__main__":
    main()
