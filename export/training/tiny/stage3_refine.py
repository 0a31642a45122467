"""Third stage of training `tiny`: all of it once more, longer, on larger crops and on pages, with an eye to structure.

    python -m sdtrt.export.training.tiny.stage3_refine PHOTOS PAGES --start runs/tiny-finished --run runs/tiny-refined

The loss is the first stage's, with part of the squared error exchanged for the structure that eyes miss first; see
`appearance`. A run goes on from its last checkpoint.
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
UNLIKENESS_SHARE = 0.3
UNLIKENESS_SCALE = 6.0  # squared error, in levels, per unlikeness: about their ratio at 0.2 bits per pixel


def train_refined(folder: Path, pages_folder: Path, start: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train to the end of `config`, from the checkpoint in `run`, or else the averaged model in `start`."""
    torch.manual_seed(config.seed)
    photos, pages = load_photos(folder, config.crop), load_photos(pages_folder, config.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: residual blocks, silent at first, may be younger than the checkpoint.
    model.load_state_dict(averaged_weights(start), strict=False)
    model = model.to(device)

    def loss_of(crops: Tensor, step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        latents, bits = model.latents_and_bits(crops, step, dead_zone)
        decoded = model.decoder(latents, step)
        distortion, figures = distortion_of(decoded, crops)
        bpp = bits.sum((1, 2, 3)) / config.crop**2
        grid = grid_penalty(decoded, crops, step)
        loss = (step * (bpp + config.lambda_at_step_1 / step.square() * distortion)).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "bpp": bpp.mean(), **figures, "grid": grid}

    TrainingRun(run, model, model, config).train(make_crop_drawer(photos, config, pages), loss_of)


def squared_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Return each image's mean squared error, in levels."""
    return (decoded - original).mul(127.5).square().mean((1, 2, 3))


def distortion_of(decoded: Tensor, original: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each image's squared error, in levels, part of it exchanged for unlikeness; and figures."""
    error = squared_error(decoded, original)
    unlike = ssimulacra2_loss(decoded, original)
    distortion = (1 - UNLIKENESS_SHARE) * error + UNLIKENESS_SHARE * UNLIKENESS_SCALE * unlike
    return distortion, {"mse": error.mean(), "unlike": unlike.mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train `tiny` on, after its first two stages.")
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
