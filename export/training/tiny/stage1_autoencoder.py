"""First stage of training `tiny`: all of it, one set of weights for every rate.

    python -m sdtrt.export.training.tiny.stage1_autoencoder PHOTOS --run runs/tiny

The loss is bits per pixel + lambda * mean squared error (8-bit scale). The step is drawn at random for each crop,
log-uniform, and lambda goes with its inverse square, as it does for a uniform quantizer at high rate
(T. Wiegand and B. Girod, "Lagrange multiplier selection in hybrid video coder control", 2001).
A run can be stopped at any time and goes on from its last checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdtrt.export.training.tiny.common import StageConfig, make_crop_drawer
from sdtrt.export.training.tiny.model import DOWNSCALE, Autoencoder, linear_analysis
from sdtrt.export.training.tiny.photos import load_photos, pixels_to_planes, random_crops
from sdtrt.export.training_loop import TrainingRun, add_device_option

CONFIG = StageConfig(iterations=14_000, learning_rate=8e-4, warmup=400)


def train(folder: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train to the end of `config`, from the checkpoint in `run` if there is one."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    photos = load_photos(folder, config.crop)
    model = Autoencoder(linear_spread(pixels_to_planes(random_crops(photos, 256, config.crop, rng))))
    model = model.to(device)

    def loss_of(crops: Tensor, step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        decoded, bits = model(crops, step, dead_zone)
        bpp = bits.sum((1, 2, 3)) / config.crop**2
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        # Multiplied by the step, since the loss falls about so: every rate pulls as hard.
        loss = (step * (bpp + config.lambda_at_step_1 / step.square() * error)).mean()
        return loss, {"loss": loss, "bpp": bpp.mean(), "mse": error.mean()}

    TrainingRun(run, model, model, config).train(make_crop_drawer(photos, config), loss_of)


def linear_spread(crops: Tensor) -> Tensor:
    """Return the standard deviation of each linear latent channel over `crops`, float32 (40,)."""
    latents = torch.nn.functional.conv2d(crops, linear_analysis(), stride=DOWNSCALE)
    return latents.std((0, 2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the built-in model `tiny`.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of the checkpoint")
    add_device_option(parser)
    arguments = parser.parse_args()
    train(arguments.photos, arguments.run, CONFIG, arguments.device)


if __name__ == "__main__":
    main()
