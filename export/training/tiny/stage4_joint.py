"""Stage 4 of training `tiny`: encoder and decoder together with the prior that codes files.

    python -m sdtrt.export.training.tiny.stage4_joint PHOTOS PAGES --start runs/tiny-refined --prior runs/prior

Earlier stages estimate the rate with a separate model. Here the prior's networks give the rate of symbols chosen by
RDOQ, as in the codec. Gradients reach the encoder straight through the rounding of the coded symbols, but not through
contexts. The stage runs on a GPU if there is one (`--device`). A run resumes from its last checkpoint.
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
LINEAR_RATE = 0.05  # factor of the linear transforms' learning rate; with 1 the training diverges at once
LAMBDA_RANGE = 0.05, 0.15  # lambda of RDOQ, in squared steps per bit


class AutoencoderWithPrior(nn.Module):
    """An autoencoder and the networks of its prior."""

    def __init__(self) -> None:
        super().__init__()
        config = PRIOR_CONFIGS["tiny"]
        self.architecture = build_architecture(config)
        self.autoencoder = Autoencoder(torch.ones(LATENT_CHANNELS))
        self.prior = nn.ModuleList(
            [TrainablePassNetwork(quant_step, config) for quant_step in self.architecture.passes]
        )
        order = torch.tensor(self.architecture.order)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("natural", order.argsort(), persistent=False)

    def latents_and_bits(
        self, pixels: Tensor, quant_step: Tensor, features: Tensor, lmbdas: Tensor, indexer: PassIndexer
    ) -> tuple[Tensor, Tensor]:
        """Return the latents that a decoder would get, float32 (N, 40, h, w), and the bits of each image, float32 (N,).

        Rounding passes gradients straight through.

        Arguments:
            pixels: Images, float32 (N, 3, H, W) in [-1, 1].
            quant_step: Quantization steps, float32 (N,).
            features: Embeddings of the step codes, float32 (N, KNOTS).
            lmbdas: Lambda of RDOQ without masking, in squared steps per bit, float32 (N,).
            indexer: The indices for crops of this size.
        """
        channel_steps = self.autoencoder.channel_steps(quant_step)
        exact = self.autoencoder.encoder(pixels) / channel_steps
        with torch.no_grad():
            lmbdas = lmbdas[:, None, None, None] * masking_weights(exact * quant_step[:, None, None, None])
        exact = exact.index_select(1, self.order)
        bits, coded = torch.zeros_like(quant_step), indexer.zeros(exact)
        codes = 2048 + 256 * torch.log2(quant_step)
        for target, left, spent in code_batch(self.prior, indexer, exact, codes, features, lmbdas):
            coded[:, target] = left
            bits = bits + spent
        rounded = exact + (indexer.unpadded(coded) - exact).detach()
        return rounded.index_select(1, self.natural) * channel_steps, bits


def masking_weights(latents: Tensor) -> Tensor:
    """Return `engine.coding.perceptual_masking` in torch: float32 (N, 1, h, w) for latents (N, 40, h, w)."""
    low = latents[:, :MASKING_CHANNELS]
    activity = (windowed(low.square()) - windowed(low).square()).clamp_min(0).sum(1, keepdim=True)
    weights = (
        (activity + float(perceptual_masking.ACTIVITY_FLOOR)) / float(perceptual_masking.REFERENCE_ACTIVITY)
    ) ** 0.25
    return weights.clamp(float(perceptual_masking.MIN_WEIGHT), float(perceptual_masking.MAX_WEIGHT))


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
    """Train the stage.

    Arguments:
        folder: Folder of training photos.
        pages_folder: Folder of training pages and screens.
        start: Folder of the checkpoint of stage 3, or of this stage.
        prior: Folder of the checkpoint of a prior for `start`.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
        device: Name of a PyTorch device.
        report: Called with the progress; None prints it.
    """
    torch.manual_seed(config.seed)
    photos, pages = load_photos(folder, config.crop), load_photos(pages_folder, config.crop)
    model = AutoencoderWithPrior()
    model.autoencoder.load_state_dict(averaged_weights(start, "autoencoder"))
    model.prior.load_state_dict(averaged_weights(prior, "prior"))
    model = model.to(device)
    use_bfloat16([model.autoencoder.encoder, model.autoencoder.decoder], device)
    indexer = PassIndexer(model.architecture, config.crop // DOWNSCALE, device)

    def loss_of(pixels: Tensor, quant_step: Tensor, features: Tensor, lmbdas: Tensor) -> tuple[Tensor, Figures]:
        crops = pixels_to_planes(pixels)
        latents, bits = model.latents_and_bits(crops, quant_step, features, lmbdas, indexer)
        decoded = model.autoencoder.decoder(latents, quant_step)
        distortion, figures = distortion_of(decoded, crops)
        bpp = bits / config.crop**2
        grid = grid_penalty(decoded, crops, quant_step)
        loss = (
            quant_step * (bpp + config.lambda_at_step_1 / quant_step.square() * distortion)
        ).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "bpp": bpp.mean(), **figures, "grid": grid}

    def keep_exact() -> None:
        for network, quant_step in zip(model.prior, model.architecture.passes, strict=True):
            network.keep_exact(quant_step)

    networks = model.autoencoder
    linear = [networks.encoder.linear.weight, networks.decoder.linear]
    training = TrainingRun(run, model, model, config, [(linear, LINEAR_RATE)])
    training.train(make_drawer(photos, pages, config), loss_of, keep_exact, report)


def make_drawer(photos: list[np.ndarray], pages: list[np.ndarray], config: StageConfig) -> Draw:
    """Return a function that draws crops, uint8 (N, H, W, 3), quantization steps, their embeddings, and lambdas."""

    fine, coarse = (round(2048 + 256 * math.log2(quant_step)) for quant_step in config.steps)

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
