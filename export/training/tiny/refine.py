"""Third stage of training `tiny`: all of it once more, longer, on larger crops, with an eye to structure.

    python -m sdtrt.export.training.tiny.refine PHOTOS --start runs/tiny-finished --run runs/tiny-refined

The loss is the first stage's, with part of the squared error exchanged for what MS-SSIM would miss. One crop in eight
is encoded by the model that the stage starts from, so that the new decoder shows files of the old encoder no worse
than the old decoder did: the latent space stays the same. A run goes on from its last checkpoint.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdtrt.export.training.run import Run, averaged_weights
from sdtrt.export.training.tiny.finish import GRID_WEIGHT, grid_penalty
from sdtrt.export.training.tiny.loop import Recipe, crops_at_steps
from sdtrt.export.training.tiny.model import LATENT_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos

RECIPE = Recipe(
    iterations=16_000, learning_rate=4e-4, warmup=200, batch=3, crop=192, steps=(0.3, 4.5), ema_decay=0.9995
)
STRUCTURE_SHARE = 0.15
STRUCTURE_SCALE = 1200.0  # squared error, in levels, per lost structure: about their ratio at 0.2 bits per pixel
OF_THE_OLD = 1 / 8


def refine(folder: Path, start: Path, run: Path, recipe: Recipe) -> None:
    """Train to the end of `recipe`, from the checkpoint in `run`, or else the averaged model in `start`."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    photos = load_photos(folder, recipe.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: residual blocks, silent at first, may be younger than the checkpoint.
    model.load_state_dict(averaged_weights(start), strict=False)
    old = copy.deepcopy(model)

    def loss_of(crops: Tensor, step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        latents, bits = model.latents_and_bits(crops, step, dead_zone)
        of_old = torch.rand(len(crops)) < OF_THE_OLD
        if of_old.any():
            latents = torch.where(of_old[:, None, None, None], old.quantized(crops, step, dead_zone), latents)
        decoded = model.decoder(latents, step)
        distortion, figures = distortion_of(decoded, crops)
        bpp = bits.sum((1, 2, 3)) / recipe.crop**2
        grid = grid_penalty(decoded, crops)
        loss = (step * (bpp + recipe.lambda_at_step_1 / step.square() * distortion)).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "bpp": bpp.mean(), **figures, "grid": grid}

    Run(run, model, model, recipe, rng).train(crops_at_steps(photos, recipe), loss_of)


def distortion_of(decoded: Tensor, original: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each picture's squared error, in levels, part of it exchanged for lost structure; and figures."""
    error = (decoded - original).mul(127.5).square().mean((1, 2, 3))
    lost = lost_structure(decoded, original)
    distortion = (1 - STRUCTURE_SHARE) * error + STRUCTURE_SHARE * STRUCTURE_SCALE * lost
    return distortion, {"mse": error.mean(), "lost": lost.mean()}


def lost_structure(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the share of structure lost, float32 (N,): 0 where MS-SSIM's contrast-structure term is 1 at all scales.

    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", 2003; with windows of
    8x8 in place of their Gaussian, the first four of their weights, and the mean in place of the product.
    """
    weights = (0.0448, 0.2856, 0.3001, 0.2363)
    lost = decoded.new_zeros(len(decoded))
    for weight in weights:
        error_variance = local_variance(decoded - original)
        energy = local_variance(decoded) + local_variance(original)
        lost = lost + weight / sum(weights) * (error_variance / (energy + (0.03 * 2) ** 2)).mean((1, 2, 3))
        decoded, original = F.avg_pool2d(decoded, 2), F.avg_pool2d(original, 2)
    return lost


def local_variance(planes: Tensor) -> Tensor:
    """Return the variance of each window of 8x8, every 4 pixels."""
    mean = F.avg_pool2d(planes, 8, 4)
    return (F.avg_pool2d(planes.square(), 8, 4) - mean.square()).clamp_min(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train `tiny` on, after its first two stages.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument(
        "--start", type=Path, default=Path("runs/tiny-finished"), help="folder of the second stage's checkpoint"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-refined"), help="folder of this stage's checkpoint")
    arguments = parser.parse_args()
    refine(arguments.photos, arguments.start, arguments.run, RECIPE)


if __name__ == "__main__":
    main()
