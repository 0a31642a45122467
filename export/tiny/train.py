"""Train `tiny`: one set of weights for every rate.

    python -m sdtrt.export.tiny.train PHOTOS --run runs/tiny

The loss is bits per pixel + lambda * mean squared error (8-bit scale). The step is drawn at random for each crop,
log-uniform, and lambda goes with its inverse square, as it does for a uniform quantizer at high rate
(T. Wiegand and B. Girod, "Lagrange multiplier selection in hybrid video coder control", 2001).
A run can be stopped at any time and goes on from its last checkpoint.
"""

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdtrt.export.tiny.model import Autoencoder, linear_analysis
from sdtrt.export.tiny.photos import load_photos, random_crops


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the outcome of a training run besides the photos."""

    iterations: int = 14000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 8e-4
    warmup: int = 400
    lambda_at_step_1: float = 0.006
    steps: tuple[float, float] = (0.3, 3.5)
    dead_zones: tuple[float, float] = (0.0, 0.2)
    ema_decay: float = 0.998
    seed: int = 1


def train(folder: Path, run: Path, recipe: Recipe, *, report_every: int = 50, save_every: int = 250) -> None:
    """Train to the end of `recipe`, from the checkpoint in `run` if there is one; log to stdout."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    photos = load_photos(folder, recipe.crop)
    model = Autoencoder(linear_spread(random_crops(photos, 256, recipe.crop, rng)))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    first = restore(run, model, average, optimizer, rng)

    low, high = map(math.log, recipe.steps)
    started, totals = time.monotonic(), torch.zeros(3)
    for iteration in range(first, recipe.iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(iteration, recipe)
        crops = random_crops(photos, recipe.batch, recipe.crop, rng).to(memory_format=torch.channels_last)
        step = torch.from_numpy(np.exp(rng.uniform(low, high, recipe.batch)).astype(np.float32))
        dead_zone = torch.from_numpy(rng.uniform(*recipe.dead_zones, recipe.batch).astype(np.float32))
        decoded, bits = model(crops, step, dead_zone)
        bpp = bits.sum((1, 2, 3)) / recipe.crop**2
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        # Multiplied by the step, since the loss falls about so: every rate pulls as hard.
        loss = (step * (bpp + recipe.lambda_at_step_1 / step.square() * error)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - min(recipe.ema_decay, iteration / (iteration + 10)))

        totals += torch.stack([loss.detach(), bpp.detach().mean(), error.detach().mean()])
        done = iteration + 1
        if done % report_every == 0:
            mean_loss, mean_bpp, mean_error = (totals / report_every).tolist()
            pace = (time.monotonic() - started) / (done - first)
            print(
                f"{done} loss {mean_loss:.4f} bpp {mean_bpp:.4f} mse {mean_error:.2f} {pace:.2f} s/iteration",
                flush=True,
            )
            totals.zero_()
        if done % save_every == 0 or done == recipe.iterations:
            save(run, done, recipe, model, average, optimizer, rng)


def linear_spread(crops: Tensor) -> Tensor:
    """Return the standard deviation of each linear latent channel over `crops`, float32 (40,)."""
    latents = torch.nn.functional.conv2d(crops, linear_analysis(), stride=8)
    return latents.std((0, 2, 3))


def learning_rate(iteration: int, recipe: Recipe) -> float:
    """Return the rate of an iteration: a linear warm-up, then half a cosine down to 1 % of the peak."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * iteration / recipe.iterations)
    return recipe.learning_rate * min(1, (iteration + 1) / recipe.warmup) * (0.01 + 0.99 * cosine)


def save(
    run: Path,
    iteration: int,
    recipe: Recipe,
    model: Autoencoder,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> None:
    """Write `run/checkpoint.pt`, whole or not at all."""
    run.mkdir(parents=True, exist_ok=True)
    state = {
        "iteration": iteration,
        "recipe": asdict(recipe),
        "model": model.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": rng.bit_generator.state,
    }
    torch.save(state, run / "checkpoint.tmp")
    (run / "checkpoint.tmp").replace(run / "checkpoint.pt")


def restore(
    run: Path,
    model: Autoencoder,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> int:
    """Load `run/checkpoint.pt` into the arguments; return the iteration to go on with, 0 where there is none."""
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.update(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["torch_rng"])
    rng.bit_generator.state = state["numpy_rng"]
    return int(state["iteration"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the built-in model `tiny`.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of the checkpoint")
    parser.add_argument("--iterations", type=int, default=Recipe.iterations)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.photos, arguments.run, Recipe(iterations=arguments.iterations))


if __name__ == "__main__":
    main()
