"""Fourth stage of training `tiny`: all of it together with the prior that codes its files.

    python -m sdtrt.export.training.tiny.stage4_joint PHOTOS PAGES --start runs/tiny-refined --prior runs/prior

The stages before it estimate bits by a model of their own; here the prior's networks say them, on symbols chosen as the
codec chooses them, and gradients reach the encoder through what is coded, straight through the rounding, not through
what it is foretold from. It runs on a GPU if there is one (`--device`). A run goes on from its last checkpoint.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.coding import perceptual_masking
from sdtrt.export.prior.architectures import PRIOR_CONFIGS, build_architecture
from sdtrt.export.prior.coding import PassIndexer, code_batch, features_of
from sdtrt.export.prior.network import TrainablePassNetwork
from sdtrt.export.training.tiny.common import StageConfig, use_bfloat16
from sdtrt.export.training.tiny.model import DOWNSCALE, LATENT_CHANNELS, MASKING_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos, mixed_crops, pixels_to_planes
from sdtrt.export.training.tiny.stage2_decoder import GRID_WEIGHT, grid_penalty
from sdtrt.export.training.tiny.stage3_refine import distortion_of
from sdtrt.export.training_loop import Batch, Draw, Figures, Report, TrainingRun, add_device_option, averaged_weights

CONFIG = StageConfig(
    iterations=15_000, learning_rate=4e-4, warmup=500, batch=4, crop=192, steps=(0.25, 4.7), ema_decay=0.9995
)
LINEAR_RATE = 0.05  # of the linear transforms, beside 1 of the rest: as fast as that, they lead all astray at once
LAMBDA_RANGE = 0.05, 0.15  # of bits against squared error, where symbols are chosen


class AutoencoderWithPrior(nn.Module):
    """An autoencoder, and the networks of its prior."""

    def __init__(self) -> None:
        super().__init__()
        config = PRIOR_CONFIGS["tiny"]
        self.architecture = build_architecture(config)
        self.autoencoder = Autoencoder(torch.ones(LATENT_CHANNELS))
        self.prior = nn.ModuleList([TrainablePassNetwork(step, config) for step in self.architecture.passes])
        order = torch.tensor(self.architecture.order)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("natural", order.argsort(), persistent=False)

    def latents_and_bits(
        self, pixels: Tensor, step: Tensor, features: Tensor, lmbdas: Tensor, indexer: PassIndexer
    ) -> tuple[Tensor, Tensor]:
        """Return latents as a decoder would get them, float32 (N, 40, h, w), and bits of each image, float32 (N,).

        Rounding passes gradients straight through. `features` are those of the steps' codes, `lmbdas` weights of
        bits against squared error where symbols are chosen and nothing is masked, float32 (N,).
        """
        channel_steps = self.autoencoder.channel_steps(step)
        exact = self.autoencoder.encoder(pixels) / channel_steps
        with torch.no_grad():
            lmbdas = lmbdas[:, None, None, None] * masking_weights(exact * step[:, None, None, None])
        exact = exact.index_select(1, self.order)
        bits, coded = torch.zeros_like(step), indexer.zeros(exact)
        codes = 2048 + 256 * torch.log2(step)
        for target, left, spent in code_batch(self.prior, indexer, exact, codes, features, lmbdas):
            coded[:, target] = left
            bits = bits + spent
        rounded = exact + (indexer.unpadded(coded) - exact).detach()
        return rounded.index_select(1, self.natural) * channel_steps, bits


def masking_weights(latents: Tensor) -> Tensor:
    """Return `engine.coding.masking` of latents in steps at step 1, (N, 40, h, w): float32 (N, 1, h, w)."""
    low = latents[:, :MASKING_CHANNELS]
    activity = (windowed(low.square()) - windowed(low).square()).clamp_min(0).sum(1, keepdim=True)
    price = (
        (activity + float(perceptual_masking.ACTIVITY_FLOOR)) / float(perceptual_masking.REFERENCE_ACTIVITY)
    ) ** 0.25
    return price.clamp(float(perceptual_masking.MIN_WEIGHT), float(perceptual_masking.MAX_WEIGHT))


def windowed(planes: Tensor) -> Tensor:
    padded = nn.functional.pad(planes, (perceptual_masking.RADIUS,) * 4, mode="replicate")
    return nn.functional.avg_pool2d(padded, 2 * perceptual_masking.RADIUS + 1, 1)


def train_jointly(
    folder: Path,
    pages_folder: Path,
    start: Path,
    prior: Path,
    run: Path,
    config: StageConfig,
    device: str,
    report: Report | None = None,
) -> None:
    """Train to the end of `config`, from the checkpoint in `run`, or else what `start` and `prior` hold."""
    torch.manual_seed(config.seed)
    photos, pages = load_photos(folder, config.crop), load_photos(pages_folder, config.crop)
    model = AutoencoderWithPrior()
    model.autoencoder.load_state_dict(averaged_weights(start, "autoencoder"))
    model.prior.load_state_dict(averaged_weights(prior, "prior"))
    model = model.to(device)
    use_bfloat16(model.autoencoder, device)
    indexer = PassIndexer(model.architecture, config.crop // DOWNSCALE, device)

    def loss_of(pixels: Tensor, step: Tensor, features: Tensor, lmbdas: Tensor) -> tuple[Tensor, Figures]:
        crops = pixels_to_planes(pixels)
        latents, bits = model.latents_and_bits(crops, step, features, lmbdas, indexer)
        decoded = model.autoencoder.decoder(latents, step)
        distortion, figures = distortion_of(decoded, crops)
        bpp = bits / config.crop**2
        grid = grid_penalty(decoded, crops, step)
        loss = (step * (bpp + config.lambda_at_step_1 / step.square() * distortion)).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "bpp": bpp.mean(), **figures, "grid": grid}

    def keep_exact() -> None:
        for network, step in zip(model.prior, model.architecture.passes, strict=True):
            network.keep_exact(step)

    networks = model.autoencoder
    linear = [networks.encoder.linear.weight, networks.decoder.linear]
    training = TrainingRun(run, model, model, config, [(linear, LINEAR_RATE)])
    training.train(make_drawer(photos, pages, config), loss_of, keep_exact, report)


def make_drawer(photos: list[np.ndarray], pages: list[np.ndarray], config: StageConfig) -> Draw:
    """Return what draws crops, uint8 (N, H, W, 3), with steps, features of their codes, and multipliers."""

    fine, coarse = (round(2048 + 256 * math.log2(step)) for step in config.steps)

    def draw(rng: np.random.Generator) -> Batch:
        crops = torch.from_numpy(mixed_crops(photos, pages, config.batch, config.crop, rng))
        codes = rng.integers(fine, coarse, config.batch)
        steps = torch.from_numpy(np.exp2((codes - 2048) / 256).astype(np.float32))
        lmbdas = torch.from_numpy(rng.uniform(*LAMBDA_RANGE, config.batch).astype(np.float32))
        return crops, steps, features_of(codes.tolist()), lmbdas

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description="Train `tiny` together with its prior.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("pages", type=Path, help="folder of training pages and screens, as `make pages` makes them")
    parser.add_argument("--start", type=Path, default=Path("runs/tiny-refined"), help="folder of refine's checkpoint")
    parser.add_argument("--prior", type=Path, default=Path("runs/prior"), help="folder of the prior's checkpoint")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-joint"), help="folder of this stage's checkpoint")
    parser.add_argument("--iterations", type=int, default=CONFIG.iterations)
    parser.add_argument("--batch", type=int, default=CONFIG.batch, help="crops in an iteration")
    parser.add_argument("--crop", type=int, default=CONFIG.crop, help="pixels of a crop's side, a multiple of 8")
    parser.add_argument("--rate", type=float, default=CONFIG.learning_rate, help="the learning rate at its peak")
    add_device_option(parser)
    options = parser.parse_args()
    config = replace(
        CONFIG,
        iterations=options.iterations,
        batch=options.batch,
        crop=options.crop,
        learning_rate=options.rate,
    )
    train_jointly(options.photos, options.pages, options.start, options.prior, options.run, config, options.device)


if __name__ == "__main__":
    main()
