"""Second stage of training `tiny`: the decoder alone, without a grid.

    python -P -m sdtrt.export.tiny.finish PHOTOS --start runs/tiny --run runs/tiny-finished

Encoder and steps stay as the first stage left them, and so do latents, profile and prior. To the squared error a
penalty is added: in flat places, the mean step between neighbouring pixels should be the same at every position of a
block. A run goes on from its last checkpoint.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdtrt.export.tiny.model import DOWNSCALE, LATENT_CHANNELS, Autoencoder
from sdtrt.export.tiny.photos import load_photos, random_crops
from sdtrt.export.tiny.train import Recipe, learning_rate, restore, save

FLAT = 3 / 127.5  # a step of fewer than 3 levels, in brightness, counts as flat


@dataclass(frozen=True, kw_only=True)
class FinishRecipe(Recipe):
    """As the first stage's, but for these."""

    iterations: int = 3500
    learning_rate: float = 5e-4
    warmup: int = 200
    grid_weight: float = 4.0


def finish(photos_folder: Path, start: Path, run: Path, recipe: FinishRecipe) -> None:
    """Train the decoder to the end of `recipe`, from `run`'s checkpoint or else from the averaged model in `start`."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    photos = load_photos(photos_folder, recipe.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: the deblocking branch, silent at first, may be younger than the first stage's checkpoint.
    model.load_state_dict(torch.load(start / "checkpoint.pt", weights_only=True)["average"], strict=False)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=recipe.learning_rate)
    first = restore(run, model, average, optimizer, rng)
    weights = torch.exp(model.log_weight.detach())
    low, high = map(math.log, recipe.steps)
    started, totals = time.monotonic(), torch.zeros(2)
    for iteration in range(first, recipe.iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(iteration, recipe)
        crops = random_crops(photos, recipe.batch, recipe.crop, rng).to(memory_format=torch.channels_last)
        step = torch.from_numpy(np.exp(rng.uniform(low, high, recipe.batch)).astype(np.float32))
        dead_zone = torch.from_numpy(rng.uniform(*recipe.dead_zones, recipe.batch).astype(np.float32))
        with torch.no_grad():
            deltas = (step[:, None] * weights)[:, :, None, None]
            exact = model.encoder(crops) / deltas
            rounded = torch.sign(exact) * torch.floor(exact.abs() + 0.5 - dead_zone[:, None, None, None])
        decoded = model.decoder(rounded * deltas, step)
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        grid = grid_penalty(decoded, crops)
        loss = (recipe.lambda_at_step_1 / step * error).mean() + recipe.grid_weight * grid
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - min(recipe.ema_decay, iteration / (iteration + 10)))

        totals += torch.stack([error.detach().mean(), grid.detach()])
        done = iteration + 1
        if done % 50 == 0:
            mean_error, mean_grid = (totals / 50).tolist()
            pace = (time.monotonic() - started) / (done - first)
            print(f"{done} mse {mean_error:.2f} grid {mean_grid:.4f} {pace:.2f} s/iteration", flush=True)
            totals.zero_()
        if done % 250 == 0 or done == recipe.iterations:
            save(run, done, recipe, model, average, optimizer, rng)


def grid_penalty(decoded: Tensor, original: Tensor) -> Tensor:
    """Return how uneven the mean step in flat places is over the positions of a block: 0 is no grid.

    The variance over positions of the mean absolute step, relative to its squared mean; rows and columns summed.
    """
    penalty = decoded.new_zeros(())
    for axis in (2, 3):
        steps = decoded.mean(1, keepdim=True).diff(dim=axis).abs().movedim(axis, 0)
        flat = original.mean(1, keepdim=True).diff(dim=axis).abs().movedim(axis, 0) < FLAT
        means = torch.stack(
            [
                (steps[p::DOWNSCALE] * flat[p::DOWNSCALE]).sum() / flat[p::DOWNSCALE].sum().clamp_min(1)
                for p in range(DOWNSCALE)
            ]
        )
        penalty = penalty + (means / means.mean() - 1).square().mean()
    return penalty


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the decoder of `tiny` alone, after the first stage.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--start", type=Path, default=Path("runs/tiny"), help="folder of the first stage's checkpoint")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/tiny-finished"), help="folder of this stage's checkpoint"
    )
    parser.add_argument("--iterations", type=int, default=FinishRecipe.iterations)
    arguments = parser.parse_args()
    finish(arguments.photos, arguments.start, arguments.run, FinishRecipe(iterations=arguments.iterations))


if __name__ == "__main__":
    main()
