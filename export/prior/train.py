"""Train the prior of a latent space: one small network per pass, for every step at once.

    python -m sdtrt.export.prior.train PHOTOS --model tiny --run runs/prior --out engine/data/priors/tiny-1.npz

Networks are trained in floating point on symbols chosen as an encoder chooses them (rounded, or at a cost in bits),
and rounded to integers at the end; tables and reconstruction points are then fitted to what the integer networks see.
A run goes on from its last checkpoint; a new one may start from the networks of another (`--start`), such as those of
the latent space's last version.
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
from sdtrt.engine.coding.priors.network_prior import PassNetwork
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
    """All that decides the outcome besides the photos; a `crop` is so many latents wide."""

    iterations: int = 20000
    learning_rate: float = 0.01
    warmup: int = 1
    batch: int = 8
    crop: int = 32
    ema_decay: float = 0.0  # the last weights are kept
    max_grad_norm: float | None = None
    finer: int = 128  # step codes beyond that of quality 100
    coarser: int = 512  # and beyond that of quality 1
    fitted_crops: int = 3000  # that tables are fitted to
    multiplier: float = 0.15  # largest weight of bits against squared error, in squared steps

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
    """Return a prior's file, trained to the end of `training`, from the checkpoint in `run`, or the networks in `start`.

    `latents` are normalised, float32 (C, h, w) each; `step_codes` are those of qualities 1 and 100. `masking` is as in
    a profile.
    """
    torch.manual_seed(training.seed)
    arch = build_architecture(config)
    networks = nn.ModuleList([TrainablePassNetwork(coding_pass, config) for coding_pass in arch.passes])
    indexer = PassIndexer(arch, training.crop, device)
    if start:
        networks.load_state_dict(averaged_weights(start, "prior"))
    networks = networks.to(device)

    def loss_of(planes: Tensor, codes: Tensor, features: Tensor, multipliers: Tensor) -> tuple[Tensor, Figures]:
        exact = planes / quant_steps(codes)[:, None, None, None]
        passes = code_batch(networks, indexer, exact, codes, features, multipliers)
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
    """Return what draws crops in coding order, (N, C, h, w), step codes, their features and multipliers, float32."""

    def draw(rng: np.random.Generator) -> Batch:
        drawn = (random_crop(latents, step_codes, masking, training, rng) for _ in range(training.batch))
        crops, codes, multipliers = zip(*drawn, strict=True)
        planes = torch.from_numpy(np.stack(crops)[:, list(arch.order)])
        prices = torch.from_numpy(np.stack(multipliers)[:, None])
        return planes, torch.tensor(codes, dtype=torch.float32), features_of(codes), prices

    return draw


def random_crop(
    latents: list[np.ndarray],
    step_codes: tuple[int, int],
    masking: int,
    training: PriorTrainingConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return a random crop of normalised latents, float32 (C, crop, crop), a random step's code, and multipliers.

    Multipliers, float32 (crop, crop), are random, but for what masks errors.
    """
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - training.crop + 1)) for n in plane.shape[1:])
    fine, coarse = sorted(step_codes)
    code = int(rng.integers(fine - training.finer, coarse + training.coarser + 1))
    crop = plane[:, top : top + training.crop, left : left + training.crop]
    multiplier = np.full((training.crop, training.crop), rng.uniform(0, training.multiplier), np.float32)
    return crop, code, multiplier * masking_weights(crop[:masking]) if masking else multiplier


def random_crops(
    latents: list[np.ndarray],
    step_codes: tuple[int, int],
    masking: int,
    training: PriorTrainingConfig,
    report: Report | None = None,
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield the crops that tables and reconstruction points are fitted to, with step codes and multipliers."""
    rng = np.random.default_rng(training.seed + 1)
    for number in range(training.fitted_crops):
        if report:
            report(number, training.fitted_crops, "crops that tables are fitted to")
        yield random_crop(latents, step_codes, masking, training, rng)


def pack_prior(
    config: PriorConfig,
    arch: Architecture,
    networks: list[PassNetwork],
    crops: Iterable[tuple[np.ndarray, int, np.ndarray]],
) -> bytes:
    """Return a prior's file, its tables and reconstruction points fitted to what its contexts see of the crops."""
    tables, centroids = fit_tables_and_offsets(arch, networks, crops, config.points)
    arrays: dict[str, Any] = {
        f"{field}{n}": smallest_integers(getattr(network, field))
        for n, network in enumerate(networks)
        for field in PassNetwork.__slots__
    }
    if centroids is not None:
        arrays["centroids"] = centroids
    stream = io.BytesIO()
    np.savez_compressed(stream, architecture=np.frombuffer(arch.to_json().encode(), np.uint8), tables=tables, **arrays)
    return stream.getvalue()


def smallest_integers(weights: np.ndarray) -> np.ndarray:
    """Return whole numbers in the smallest type that holds them."""
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
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
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
