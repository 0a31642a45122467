"""Stage 1 of training `tiny`: encoder, decoder and rate model, with one set of weights for every rate.

    python -m sdtrt.export.training.tiny.stage1_autoencoder PHOTOS --run runs/tiny

The loss is R + lambda D: bits per pixel + lambda * mean squared error on the 8-bit scale. The quantization step of each
crop is drawn log-uniformly. Lambda is inversely proportional to its square, as for a uniform quantizer at high rate
(T. Wiegand and B. Girod, "Lagrange multiplier selection in hybrid video coder control", 2001). A run can be stopped at
any time and resumes from its last checkpoint.
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
    """Train the stage.

    Arguments:
        folder: Folder of training photos.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
        device: Name of a PyTorch device.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    photos = load_photos(folder, config.crop)
    model = Autoencoder(linear_spread(pixels_to_planes(random_crops(photos, 256, config.crop, rng))))
    model = model.to(device)

    def loss_of(crops: Tensor, quant_step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        decoded, bits = model(crops, quant_step, dead_zone)
        bpp = bits.sum((1, 2, 3)) / config.crop**2
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        # The loss is about inversely proportional to the step, so multiplying by it gives all rates equal weight.
        loss = (quant_step * (bpp + config.lambda_at_step_1 / quant_step.square() * error)).mean()
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
