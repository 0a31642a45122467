"""Stage 3 of training `tiny`: all networks again, on larger crops and on pages, with a perceptual loss.

    python -m sdtrt.export.training.tiny.stage3_refine PHOTOS PAGES --start runs/tiny-finished --run runs/tiny-refined

The loss is that of stage 1, with a part of the squared error replaced by a perceptual loss (`ssimulacra2_loss`). A run
resumes from its last checkpoint.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from sdtrt.export.training.tiny.common import StageConfig, make_crop_drawer
from sdtrt.export.training.tiny.model import LATENT_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos
from sdtrt.export.training.tiny.ssimulacra2_loss import ssimulacra2_loss
from sdtrt.export.training.tiny.stage2_decoder import GRID_WEIGHT, grid_penalty
from sdtrt.export.training_loop import TrainingRun, add_device_option, averaged_weights

CONFIG = StageConfig(
    iterations=9_000, learning_rate=4e-4, warmup=200, batch=3, crop=192, steps=(0.3, 4.5), ema_decay=0.9995
)
PERCEPTUAL_SHARE = 0.3
PERCEPTUAL_SCALE = 6.0  # squared 8-bit levels per unit of the perceptual loss: about their ratio at 0.2 bpp


def train_refined(folder: Path, pages_folder: Path, start: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train the stage.

    Arguments:
        folder: Folder of training photos.
        pages_folder: Folder of training pages and screens.
        start: Folder of stage 2's checkpoint.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
        device: Name of a PyTorch device.
    """
    torch.manual_seed(config.seed)
    photos, pages = load_photos(folder, config.crop), load_photos(pages_folder, config.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: residual blocks, which start at zero, may be newer than the checkpoint.
    model.load_state_dict(averaged_weights(start), strict=False)
    model = model.to(device)

    def loss_of(crops: Tensor, quant_step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        latents, bits = model.latents_and_bits(crops, quant_step, dead_zone)
        decoded = model.decoder(latents, quant_step)
        distortion, figures = distortion_of(decoded, crops)
        bpp = bits.sum((1, 2, 3)) / config.crop**2
        grid = grid_penalty(decoded, crops, quant_step)
        loss = (
            quant_step * (bpp + config.lambda_at_step_1 / quant_step.square() * distortion)
        ).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "bpp": bpp.mean(), **figures, "grid": grid}

    TrainingRun(run, model, model, config).train(make_crop_drawer(photos, config, pages), loss_of)


def squared_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Return each image's mean squared error, in squared 8-bit levels."""
    return (decoded - original).mul(127.5).square().mean((1, 2, 3))


def distortion_of(decoded: Tensor, original: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each image's distortion, a mix of squared error and perceptual loss, and figures."""
    error = squared_error(decoded, original)
    perceptual = ssimulacra2_loss(decoded, original)
    distortion = (1 - PERCEPTUAL_SHARE) * error + PERCEPTUAL_SHARE * PERCEPTUAL_SCALE * perceptual
    return distortion, {"mse": error.mean(), "perceptual": perceptual.mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train `tiny` further, after its first two stages.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("pages", type=Path, help="folder of training pages and screens, as `make pages` makes them")
    parser.add_argument(
        "--start", type=Path, default=Path("runs/tiny-finished"), help="folder of the second stage's checkpoint"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-refined"), help="folder of this stage's checkpoint")
    add_device_option(parser)
    arguments = parser.parse_args()
    train_refined(arguments.photos, arguments.pages, arguments.start, arguments.run, CONFIG, arguments.device)


if __name__ == "__main__":
    main()
