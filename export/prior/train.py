"""Train the prior of a latent space: one small integer network per pass, for every step at once.

    python -m sdtrt.export.prior.train PHOTOS --model tiny --run runs/prior-tiny --out engine/data/priors/tiny-1.npz

Weights are rounded and activations floored in training as they are at run time (gradients pass straight through,
Y. Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013), so what is exported is what
was trained. The inputs come from the run time's own code. A run goes on from its last checkpoint.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.container import Header
from sdtrt.engine.entropy import count_rows
from sdtrt.engine.latents import deltas
from sdtrt.engine.passes import Pass, Planes
from sdtrt.engine.prior import (
    ACTIVATION_LIMIT,
    HIDDEN_SHIFT,
    OUTPUT_SHIFT,
    STEP_KNOTS,
    Layer,
    NetworkPrior,
    network_inputs,
    network_passes,
)
from sdtrt.engine.profile import LatentProfile
from sdtrt.engine.tables import FRACTIONS, PRECISION, SCALES
from sdtrt.export.prior.groups import GROUPS
from sdtrt.export.prior.tables import INDICES_PER_OCTAVE, SMALLEST_SCALE, integer_weights, logistic_tables
from sdtrt.kernels import reference

WEIGHT_UNIT = 16.0  # one unit of a trained parameter is so many of the integer weight
WEIGHT_LIMIT = 127
TABLE_CROPS = 3000  # what tables are fitted on
PSEUDO_COUNTS = 300  # how much a logistic distribution weighs against counted symbols


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the outcome besides the photos."""

    iterations: int = 4000
    batch: int = 12
    crop: int = 24  # latents a side
    units: int = 40
    learning_rate: float = 0.02
    margin: int = 128  # step codes beyond those of qualities 1 and 100
    dead_zones: tuple[float, float] = (0.05, 0.2)
    seed: int = 1


class PassNetwork(nn.Module):
    """The trainable form of `engine.prior.Layer`."""

    def __init__(self, step: Pass, units: int) -> None:
        super().__init__()
        group = step.stop - step.start
        signed = len(step.own_taps) * group
        inputs = 2 * signed + len(step.previous_taps) * step.start + STEP_KNOTS
        self.group = group
        self.hidden = nn.Parameter(torch.randn(units, inputs) * 0.3)
        self.hidden_bias = nn.Parameter(torch.zeros(units))
        self.direct = nn.Parameter(first_guess(step, inputs))
        self.output = nn.Parameter(torch.zeros(2 * group, units))
        self.output_bias = nn.Parameter(torch.tensor([2.0] * group + [12.0] * group))

    def weights(self) -> dict[str, Tensor]:
        """Return the integer weights, as floats, by the names of `Layer`'s fields."""
        hidden, output = (
            rounded((w * WEIGHT_UNIT).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)) for w in (self.hidden, self.output)
        )
        return {
            "hidden": hidden,
            "hidden_bias": rounded(self.hidden_bias * WEIGHT_UNIT),
            "direct": rounded(self.direct * WEIGHT_UNIT),
            "output": output,
            "output_bias": rounded(self.output_bias * WEIGHT_UNIT),
        }

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (location, scale index), float32 (group, positions), whole numbers."""
        w = self.weights()
        units = floored((w["hidden"] @ inputs + w["hidden_bias"][:, None]) * 2.0**-HIDDEN_SHIFT)
        units = units.clamp(0, ACTIVATION_LIMIT)
        sums = w["direct"] @ inputs + w["output"] @ units + w["output_bias"][:, None]
        outputs = floored(sums * 2.0**-OUTPUT_SHIFT)
        return outputs[: self.group], outputs[self.group :].clamp(0, SCALES - 1)


def first_guess(step: Pass, inputs: int) -> Tensor:
    """Return direct weights that predict each channel from its nearest known neighbours."""
    group = step.stop - step.start
    direct = torch.zeros(2 * group, inputs)
    if not step.own_taps:
        return direct
    distances = [abs(dy) + abs(dx) for dy, dx in step.own_taps]
    nearest = [n for n, d in enumerate(distances) if d == min(distances)]
    shrink = 0.9 if step.start == 0 else 0.0
    for channel in range(group):
        for tap in nearest:
            at = tap * group + channel
            direct[channel, at] = shrink * FRACTIONS * 2**OUTPUT_SHIFT / len(nearest) / WEIGHT_UNIT
            magnitude = at + len(step.own_taps) * group
            direct[group + channel, magnitude] = 3 / 16 * 2**OUTPUT_SHIFT / len(nearest) / WEIGHT_UNIT / 2
    return direct


def bits_of(symbols: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of symbols under logistic distributions."""
    width = SMALLEST_SCALE * torch.exp2(scale / INDICES_PER_OCTAVE)
    far = -(symbols - location / FRACTIONS).abs()
    probability = torch.sigmoid((far + 0.5) / width) - torch.sigmoid((far - 0.5) / width)
    return -torch.log2(probability.clamp_min(2.0**-22))


def train(latents: list[np.ndarray], profile: LatentProfile, run: Path, recipe: Recipe, out: Path) -> None:
    """Train to the end of `recipe`, from the checkpoint in `run` if there is one; write the prior to `out`."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    groups = GROUPS[profile.latent_space]
    passes = network_passes(groups)
    networks = nn.ModuleList([PassNetwork(step, recipe.units) for step in passes])
    optimizer = torch.optim.Adam(networks.parameters(), lr=recipe.learning_rate)
    first = resume(run, networks, optimizer, rng)
    started, total = time.monotonic(), 0.0
    for iteration in range(first, recipe.iterations):
        for parameters in optimizer.param_groups:
            parameters["lr"] = recipe.learning_rate * (1 - iteration / recipe.iterations) ** 1.5
        batch = [draw(latents, profile, recipe, rng) for _ in range(recipe.batch)]
        optimizer.zero_grad()
        bits = 0.0
        for (inputs, symbols), network in zip(collate(batch, groups, passes), networks, strict=True):
            loss = bits_of(symbols, *network(inputs)).sum()
            loss.backward()
            bits += loss.item()
        pixels = recipe.batch * (recipe.crop * profile.downscale) ** 2
        for parameter in networks.parameters():
            parameter.grad /= pixels
        optimizer.step()
        total += bits / pixels
        done = iteration + 1
        if done % 50 == 0:
            pace = (time.monotonic() - started) / (done - first)
            print(f"{done} bpp {total / 50:.4f} {pace:.2f} s/iteration", flush=True)
            total = 0.0
        if done % 200 == 0 or done == recipe.iterations:
            save(run, done, networks, optimizer, rng)
    write_prior(out, groups, networks, latents, profile, recipe)


def draw(
    latents: list[np.ndarray], profile: LatentProfile, recipe: Recipe, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return the symbols of a random crop at a random step, int16 (C, crop, crop), and the step's code."""
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - recipe.crop + 1)) for n in plane.shape[1:])
    low, high = sorted(profile.step_codes)
    code = int(rng.integers(low - recipe.margin, high + recipe.margin + 1))
    crop = plane[:, top : top + recipe.crop, left : left + recipe.crop]
    delta = deltas(profile, Header(1, 1, profile.id, profile.prior, code))
    return reference.quantize(crop, profile.mean, delta, float(rng.uniform(*recipe.dead_zones))), code


def collate(
    batch: list[tuple[np.ndarray, int]], groups: list[list[int]], passes: list[Pass]
) -> list[tuple[Tensor, Tensor]]:
    """Return (inputs, symbols) of each pass over the whole batch, float32 (inputs or group, positions)."""
    order = [channel for group in groups for channel in group]
    collected: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in passes]
    for symbols, code in batch:
        ordered = symbols[order].astype(np.int32)
        planes = Planes(*ordered.shape)
        for step, parts in zip(passes, collected, strict=True):
            slices = step.phase.slices(*ordered.shape[1:])
            group = ordered[step.start : step.stop]
            known = np.concatenate([group[:, y, x].reshape(len(group), -1) for y, x in slices], axis=1)
            parts.append((network_inputs(step, planes, code), known))
            planes.put(step, known)
    return [
        (
            torch.from_numpy(np.concatenate([inputs for inputs, _ in parts], axis=1)),
            torch.from_numpy(np.concatenate([known for _, known in parts], axis=1).astype(np.float32)),
        )
        for parts in collected
    ]


def write_prior(
    out: Path,
    groups: list[list[int]],
    networks: nn.ModuleList,
    latents: list[np.ndarray],
    profile: LatentProfile,
    recipe: Recipe,
) -> None:
    """Write the prior, its tables fitted to what its contexts see on the photos."""
    layers = [integer_layer(network) for network in networks]
    loaded = [Layer(*(array.astype(np.float32) for array in layer.values())) for layer in layers]
    prior = NetworkPrior(groups, loaded, logistic_tables())
    rng = np.random.default_rng(recipe.seed + 1)
    counts = [count_rows(*draw(latents, profile, recipe, rng), prior) for _ in range(TABLE_CROPS)]
    tables = fitted_tables(np.sum(counts, axis=0))
    arrays: dict[str, Any] = {f"{name}{n}": array for n, layer in enumerate(layers) for name, array in layer.items()}
    encoded = np.frombuffer(json.dumps(groups).encode(), np.uint8)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, groups=encoded, tables=tables, **arrays)
    print(f"{out}: {out.stat().st_size} bytes, largest sum {max(bound_of(prior))} of {1 << 24}")


def fitted_tables(counts: np.ndarray) -> np.ndarray:
    """Return tables for counts, int64 (SCALES * FRACTIONS, BINS): where counts are few, logistic ones."""
    logistic = logistic_tables() / (1 << PRECISION)
    return np.stack([integer_weights(row + PSEUDO_COUNTS * prior) for row, prior in zip(counts, logistic, strict=True)])


def integer_layer(network: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's weights in the smallest integer types."""
    kinds = {"hidden": np.int8, "output": np.int8, "direct": np.int16, "hidden_bias": np.int16, "output_bias": np.int16}
    with torch.no_grad():
        weights = network.weights()  # type: ignore[operator]
    return {name: weights[name].numpy().astype(kinds[name]) for name in Layer.__slots__}


def bound_of(prior: NetworkPrior) -> list[int]:
    return [
        layer.largest_sum(len(step.own_taps) * (step.stop - step.start))
        for step, layer in zip(network_passes(prior.groups), prior.layers, strict=True)
    ]


def rounded(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def floored(x: Tensor) -> Tensor:
    """Round down, with the gradient of the identity."""
    return x + (x.floor() - x).detach()


def latents_of_photos(folder: Path, model: str, smallest: int) -> list[np.ndarray]:
    """Return the latents, float32 (C, h, w), of each photo of `folder` with at least `smallest` latents a side."""
    codec = PictureCodec(model)
    photos = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.iterdir()) if p.suffix != ".tsv"]
    return [p for p in map(codec.analyse, photos) if min(p.shape[1:]) >= smallest]


def save(
    run: Path, iteration: int, networks: nn.ModuleList, optimizer: torch.optim.Optimizer, rng: np.random.Generator
) -> None:
    run.mkdir(parents=True, exist_ok=True)
    state = {
        "iteration": iteration,
        "networks": networks.state_dict(),
        "optimizer": optimizer.state_dict(),
        "numpy_rng": rng.bit_generator.state,
    }
    torch.save(state, run / "checkpoint.tmp")
    (run / "checkpoint.tmp").replace(run / "checkpoint.pt")


def resume(run: Path, networks: nn.ModuleList, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> int:
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    networks.load_state_dict(state["networks"])
    optimizer.load_state_dict(state["optimizer"])
    rng.bit_generator.state = state["numpy_rng"]
    return int(state["iteration"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the prior of a latent space.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="tiny", help="bundle whose encoder makes the latents")
    parser.add_argument("--run", type=Path, default=Path("runs/prior-tiny"))
    parser.add_argument("--out", type=Path, default=Path("engine/data/priors/tiny-1.npz"))
    parser.add_argument("--iterations", type=int, default=Recipe.iterations)
    arguments = parser.parse_args()
    recipe = Recipe(iterations=arguments.iterations)
    latents = latents_of_photos(arguments.photos, arguments.model, recipe.crop)
    train(latents, PictureCodec(arguments.model).profile, arguments.run, recipe, arguments.out)


if __name__ == "__main__":
    main()
