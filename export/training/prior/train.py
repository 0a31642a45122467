"""Train the prior of a latent space: one small network per pass, for every step at once.

    python -m sdtrt.export.training.prior.train PHOTOS --model tiny --run runs/prior --out engine/data/priors/tiny-1.npz

Networks are trained in floating point on symbols chosen as an encoder chooses them (rounded, or at a cost in bits),
and rounded to integers at the end; tables and reconstruction points are then fitted to what the integer networks see.
A run goes on from its last checkpoint; a new one may start from the networks of another (`--start`), such as those of
the latent space's last version.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.coding.passes import MARGIN
from sdtrt.engine.coding.prior_latents import (
    FEATURE_LIMIT,
    INDEX_SHIFT,
    INDICES_PER_CODE,
    KNOTS,
    LIMIT,
    MAGNITUDE,
    UNITS_PER_LATENT,
    Architecture,
    LatentPass,
    Network,
    Window,
    step_features,
    width,
)
from sdtrt.engine.coding.tables import FRACTIONS, SCALES
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.export.training.photo_latents import latents_of_photos
from sdtrt.export.training.prior.architectures import PLANS, Plan, architecture
from sdtrt.export.training.prior.fit import fitted, integer_networks
from sdtrt.export.training.prior.tables import INDICES_PER_OCTAVE, SMALLEST_SCALE, logistic_centroids

FIRST_INDEX = 7.0  # of scales, at step 1
UNITS_LIMIT = 127.0
LARGEST_SUM = 0.95 * 2**24  # of the integer network: rounding its weights adds a little
WEIGHT_UNIT = 16.0  # one unit of a trained parameter is so many of the network's
LARGEST_FEATURE = SCALES * UNITS_PER_LATENT / WEIGHT_UNIT / FEATURE_LIMIT  # what moves a scale across all of them


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the outcome besides the photos."""

    iterations: int = 20000
    batch: int = 8
    crop: int = 32  # latents a side
    learning_rate: float = 0.01
    finer: int = 128  # step codes beyond that of quality 100
    coarser: int = 512  # and beyond that of quality 1
    multiplier: float = 0.15  # largest weight of bits against squared error, in squared steps
    seed: int = 1


class PassNetwork(nn.Module):
    """The trainable form of `engine.prior_latents.Network`: 16 of a parameter's units to one of a weight's."""

    def __init__(self, step: LatentPass, plan: Plan) -> None:
        super().__init__()
        self.group = step.stop - step.start
        inputs = step.inputs
        self.hidden = nn.Parameter(torch.randn(plan.units, inputs) * 0.5 * min(1.0, 10 / max(inputs, 1)) ** 0.5)
        self.hidden_features = nn.Parameter(torch.zeros(plan.units, KNOTS))
        self.hidden_bias = nn.Parameter(torch.rand(plan.units) * 60)
        self.second = nn.Parameter(torch.randn(plan.second_units, plan.units) * 4 / plan.units**0.5)
        self.second_bias = nn.Parameter(torch.rand(plan.second_units) * 60)
        self.direct = nn.Parameter(first_guess(step))
        self.direct_features = nn.Parameter(torch.zeros(2 * self.group, KNOTS))
        self.output = nn.Parameter(torch.zeros(2 * self.group, plan.second_units))
        first = FIRST_INDEX * UNITS_PER_LATENT / WEIGHT_UNIT
        self.output_bias = nn.Parameter(torch.tensor([0.0] * self.group + [first] * self.group))

    def forward(self, inputs: Tensor, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return (location in symbols, scale index), float32 (batch, positions, group), not rounded.

        Inputs (batch, positions, inputs), features (batch, KNOTS), step codes (batch,).
        """
        gain = WEIGHT_UNIT / UNITS_PER_LATENT
        sums = inputs @ self.hidden.T + (features @ self.hidden_features.T + self.hidden_bias)[:, None]
        units = (sums * gain).clamp(0, UNITS_LIMIT)
        units = ((units @ self.second.T + self.second_bias) * gain).clamp(0, UNITS_LIMIT)
        sums = inputs @ self.direct.T + units @ self.output.T
        sums = (sums + (features @ self.direct_features.T + self.output_bias)[:, None]) * gain
        location = sums[..., : self.group] / UNITS_PER_LATENT / steps_of(codes)[:, None, None]
        offset = (2048 - codes) * (INDICES_PER_CODE / 2**INDEX_SHIFT)
        scale = sums[..., self.group :] + offset[:, None, None]
        return location, scale + (scale.clamp(0, SCALES - 1) - scale).detach()  # what is out of range can come back

    @torch.no_grad()
    def keep_exact(self, step: LatentPass) -> None:
        """Shrink what leads to sums that the integer network could not hold exactly.

        A channel that a step never leaves anything of drives its scale there down without end; all scales are enough.
        """
        self.direct_features.clamp_(-LARGEST_FEATURE, LARGEST_FEATURE)
        limits = torch.full((step.inputs,), float(MAGNITUDE[-1]))
        limits[: width(step.values)] = LIMIT
        shrink([self.hidden_features], 128 * largest_of_features(self.hidden_features), torch.tensor(LARGEST_SUM / 2))
        hidden = 128 * self.hidden.abs() @ limits
        rest = 128 * (largest_of_features(self.hidden_features) + self.hidden_bias.abs())
        shrink([self.hidden], hidden, rest)
        shrink([self.second], 128 * LIMIT * self.second.abs().sum(1), 1024 * self.second_bias.abs())
        output = 1024 * self.direct.abs() @ limits + 128 * LIMIT * self.output.abs().sum(1)
        rest = 1024 * (largest_of_features(self.direct_features) + self.output_bias.abs())
        shrink([self.direct, self.output], output, rest)


def largest_of_features(weights: Tensor) -> Tensor:
    """Return a bound on what features add to each sum: no step is near more than two knots."""
    weights = weights.abs()
    return FEATURE_LIMIT * (weights[:, 1:] + weights[:, :-1]).amax(1)


def shrink(rows: list[nn.Parameter], sums: Tensor, rest: Tensor) -> None:
    """Scale rows whose largest sums, with the rest beside them, exceed `LARGEST_SUM` so that they do not."""
    for parameters in rows:
        parameters.mul_(((LARGEST_SUM - rest) / sums.clamp_min(1)).clamp(0, 1)[:, None])


def first_guess(step: LatentPass) -> Tensor:
    """Return direct weights that predict each channel from its nearest known neighbours."""
    direct = torch.zeros(2 * (step.stop - step.start), step.inputs)
    seen = [(channel, w.dy**2 + w.dx**2) for w in step.values for channel in range(w.first, w.last)]
    for output, channel in enumerate(range(step.start, step.stop)):
        distances = {n: distance for n, (other, distance) in enumerate(seen) if other == channel}
        nearest = [n for n, distance in distances.items() if distance == min(distances.values())]
        for n in nearest:
            direct[output, n] = 0.8 * UNITS_PER_LATENT / WEIGHT_UNIT / len(nearest)
    return direct


class Gatherer:
    """Where the inputs and the symbols of each pass lie in a batch of crops."""

    def __init__(self, arch: Architecture, crop: int) -> None:
        self.side = crop + 2 * MARGIN
        self.channels = len(arch.order)
        self.targets, self.values, self.magnitudes = [], [], []
        for step in arch.passes:
            rows, columns = (np.concatenate(parts) for parts in zip(*self._positions(step, crop), strict=True))
            places = torch.from_numpy((rows + MARGIN) * self.side + columns + MARGIN)[:, None]
            self.targets.append(places + self._planes(step.start, step.stop))
            self.values.append(places + self._offsets(step.values))
            self.magnitudes.append(places + self._offsets(step.magnitudes))

    def padded(self, planes: Tensor) -> Tensor:
        """Return (batch, channels, crop, crop) with margins, flat: (batch, channels * side * side)."""
        return nn.functional.pad(planes, (MARGIN,) * 4).reshape(len(planes), -1)

    @staticmethod
    def _positions(step: LatentPass, crop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows, columns in step.phase.slices(crop, crop):
            grid = np.mgrid[rows, columns]
            yield grid[0].ravel(), grid[1].ravel()

    def _planes(self, first: int, last: int) -> Tensor:
        return torch.arange(first, last) * self.side**2

    def _offsets(self, windows: tuple[Window, ...]) -> Tensor:
        parts = [self._planes(w.first, w.last) + w.dy * self.side + w.dx for w in windows]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def code_batch(
    networks: nn.ModuleList, gatherer: Gatherer, latents: Tensor, codes: Tensor, multipliers: Tensor
) -> Iterator[Tensor]:
    """Yield each pass's bits, a sum with gradients, of normalised latents in coding order (batch, C, crop, crop)."""
    steps = steps_of(codes)
    wanted = gatherer.padded(latents / steps[:, None, None, None])
    known = torch.zeros_like(wanted)
    strengths = torch.zeros_like(wanted)
    compressed = torch.from_numpy(MAGNITUDE.astype(np.float32))
    features = torch.stack([torch.from_numpy(step_features(int(code))) for code in codes])
    for network, target, values, magnitudes in zip(
        networks, gatherer.targets, gatherer.values, gatherer.magnitudes, strict=True
    ):
        inputs = torch.cat([known[:, values], strengths[:, magnitudes]], dim=2)
        location, scale = network(inputs, features, codes)
        with torch.no_grad():
            symbols = choose(wanted[:, target], location, scale, multipliers[:, None, None])
            units = (symbols * steps[:, None, None] * UNITS_PER_LATENT).round().clamp(-LIMIT, LIMIT)
            known[:, target] = units
            strengths[:, target] = compressed[units.abs().long()]
        yield bits_of(symbols, location, scale).sum()


def choose(wanted: Tensor, location: Tensor, scale: Tensor, multiplier: Tensor) -> Tensor:
    """Return the symbols that cost least, in squared error plus `multiplier` times bits."""
    location = (location * FRACTIONS).round() / FRACTIONS
    scale = scale.round()
    base = location.floor()
    rows = (scale * FRACTIONS + (location - base) * FRACTIONS).long()
    below = wanted.floor()
    costs = []
    for symbols in (below, below + 1):
        shift = CENTROIDS[rows, (symbols - base + 15).clamp(0, 31).long()]
        costs.append((wanted - symbols - shift) ** 2 + multiplier * bits_of(symbols, location, scale))
    return torch.where(costs[0] <= costs[1], below, below + 1)


def bits_of(symbols: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of symbols under logistic distributions."""
    width = SMALLEST_SCALE * torch.exp2(scale / INDICES_PER_OCTAVE)
    far = -(symbols - location).abs()
    probability = torch.sigmoid((far + 0.5) / width) - torch.sigmoid((far - 0.5) / width)
    return -torch.log2(probability.clamp_min(2.0**-22))


def steps_of(codes: Tensor) -> Tensor:
    return torch.exp2((codes - 2048) / 256)


CENTROIDS = torch.from_numpy(logistic_centroids().astype(np.float32) / 64)


def train(
    latents: list[np.ndarray], profile: LatentProfile, run: Path, recipe: Recipe, out: Path, start: Path | None = None
) -> None:
    """Train to the end of `recipe`, from the checkpoint in `run`, or else the networks in `start`; write it to `out`.

    `latents` are normalised, float32 (C, h, w) each.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    plan = PLANS[profile.latent_space]
    arch = architecture(plan)
    networks = nn.ModuleList([PassNetwork(step, plan) for step in arch.passes])
    gatherer = Gatherer(arch, recipe.crop)
    if start:
        networks.load_state_dict(torch.load(start / "checkpoint.pt", weights_only=True)["networks"])
    optimizer = torch.optim.Adam(networks.parameters(), lr=recipe.learning_rate)
    first = resume(run, networks, optimizer, rng)
    started, total = time.monotonic(), 0.0
    symbols = recipe.batch * len(arch.order) * recipe.crop**2
    for iteration in range(first, recipe.iterations):
        for parameters in optimizer.param_groups:
            parameters["lr"] = recipe.learning_rate * (1 - iteration / recipe.iterations)
        crops, codes = zip(*(draw(latents, profile, recipe, rng) for _ in range(recipe.batch)), strict=True)
        batch = torch.from_numpy(np.stack(crops)[:, list(arch.order)])
        multipliers = torch.from_numpy(rng.uniform(0, recipe.multiplier, recipe.batch).astype(np.float32))
        optimizer.zero_grad()
        for bits in code_batch(networks, gatherer, batch, torch.tensor(codes, dtype=torch.float32), multipliers):
            (bits / symbols).backward()
            total += bits.item() / symbols
        optimizer.step()
        for network, step in zip(networks, arch.passes, strict=True):
            network.keep_exact(step)
        done = iteration + 1
        if done % 100 == 0:
            pace = (time.monotonic() - started) / (done - first)
            print(f"{done} bits per symbol {total / 100:.4f} {pace:.3f} s/iteration", flush=True)
            total = 0.0
        if done % 500 == 0 or done == recipe.iterations:
            save(run, done, networks, optimizer, rng)
    write_prior(out, arch, integer_networks(networks), latents, profile, recipe)


def draw(
    latents: list[np.ndarray], profile: LatentProfile, recipe: Recipe, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return a random crop of normalised latents, float32 (C, crop, crop), and a random step's code."""
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - recipe.crop + 1)) for n in plane.shape[1:])
    fine, coarse = sorted(profile.step_codes)
    code = int(rng.integers(fine - recipe.finer, coarse + recipe.coarser + 1))
    return plane[:, top : top + recipe.crop, left : left + recipe.crop], code


def write_prior(
    out: Path,
    arch: Architecture,
    networks: list[Network],
    latents: list[np.ndarray],
    profile: LatentProfile,
    recipe: Recipe,
) -> None:
    """Write the prior, its tables and reconstruction points fitted to what its contexts see on the photos."""
    rng = np.random.default_rng(recipe.seed + 1)
    crops = (
        (*draw(latents, profile, recipe, rng), float(rng.uniform(0, recipe.multiplier))) for _ in range(FITTED_CROPS)
    )
    tables, centroids = fitted(arch, networks, crops, PLANS[profile.latent_space].points)
    arrays: dict[str, Any] = {
        f"{field}{n}": smallest_integers(getattr(network, field))
        for n, network in enumerate(networks)
        for field in Network.__slots__
    }
    encoded = np.frombuffer(arch.to_json().encode(), np.uint8)
    out.parent.mkdir(parents=True, exist_ok=True)
    if centroids is not None:
        arrays["centroids"] = centroids
    np.savez_compressed(out, architecture=encoded, tables=tables, **arrays)
    print(f"{out}: {out.stat().st_size} bytes")


FITTED_CROPS = 3000


def smallest_integers(weights: np.ndarray) -> np.ndarray:
    """Return whole numbers in the smallest type that holds them."""
    kind = next(k for k in (np.int8, np.int16, np.int32) if np.abs(weights).max(initial=0) <= np.iinfo(k).max)
    return weights.astype(kind)


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
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of a run whose networks a new run starts from")
    parser.add_argument("--iterations", type=int, default=Recipe.iterations)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(iterations=options.iterations)
    latents = latents_of_photos(options.photos, options.model, recipe.crop)
    train(latents, PictureCodec(options.model).profile, options.run, recipe, options.out, options.start)


if __name__ == "__main__":
    main()
