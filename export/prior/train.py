"""Train the prior of a latent space: one small network per pass, for every step at once.

    python -m sdtrt.export.prior.train PHOTOS --model tiny --run runs/prior --out engine/data/priors/tiny-1.npz

Networks are trained in floating point on symbols chosen as an encoder chooses them (rounded, or at a cost in bits),
and rounded to integers at the end; tables and reconstruction points are then fitted to what the integer networks see.
A run goes on from its last checkpoint; a new one may start from the networks of another (`--start`), such as those of
the latent space's last version.
"""

import argparse
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.coding.priors.architecture import Architecture, LatentPass, Window, units_of
from sdtrt.engine.coding.priors.latents import LIMIT, MAGNITUDE, POINTS, Network, step_features
from sdtrt.engine.coding.priors.planes import MARGIN
from sdtrt.engine.coding.priors.tables import FRACTIONS
from sdtrt.export import training_loop as training
from sdtrt.export.latents.photo_latents import latents_of_photos
from sdtrt.export.prior.architectures import PLANS, Plan, architecture
from sdtrt.export.prior.fit import fitted, integer_networks
from sdtrt.export.prior.network import PassNetwork, steps_of
from sdtrt.export.prior.tables import INDICES_PER_OCTAVE, SMALLEST_SCALE, logistic_centroids
from sdtrt.export.training_loop import Batch, Draw, Figures, Report, Run, add_device_option, averaged_weights


@dataclass(frozen=True, kw_only=True)
class Recipe(training.Recipe):
    """All that decides the outcome besides the photos; a `crop` is so many latents wide."""

    iterations: int = 20000
    learning_rate: float = 0.01
    warmup: int = 1
    batch: int = 8
    crop: int = 32
    ema_decay: float = 0.0  # the last weights are kept
    largest_gradient: float | None = None
    finer: int = 128  # step codes beyond that of quality 100
    coarser: int = 512  # and beyond that of quality 1
    fitted_crops: int = 3000  # that tables are fitted to
    multiplier: float = 0.15  # largest weight of bits against squared error, in squared steps

    def rate(self, iteration: int) -> float:
        return self.learning_rate * (1 - iteration / self.iterations)


class Gatherer:
    """Where the inputs and the symbols of each pass lie in a batch of crops on a device."""

    def __init__(self, arch: Architecture, crop: int, device: torch.device | str = "cpu") -> None:
        self.side = crop + 2 * MARGIN
        self.channels = len(arch.order)
        self.passes = arch.passes
        self.targets, self.values, self.magnitudes = [], [], []
        for step in arch.passes:
            rows, columns = (np.concatenate(parts) for parts in zip(*self._positions(step, crop), strict=True))
            places = torch.from_numpy((rows + MARGIN) * self.side + columns + MARGIN)[:, None]
            self.targets.append((places + self._planes(step.start, step.stop)).to(device))
            self.values.append((places + self._offsets(step.values)).to(device))
            self.magnitudes.append((places + self._offsets(step.magnitudes)).to(device))

    def split(self, planes: Tensor) -> Sequence[Tensor]:
        """Return what each pass codes of (batch, channels, crop, crop): (batch, positions, group) each."""
        flat = torch.cat([target.reshape(-1) for target in self.targets])
        parts = self.padded(planes).index_select(1, flat).split([target.numel() for target in self.targets], dim=1)
        return [part.reshape(-1, *target.shape) for part, target in zip(parts, self.targets, strict=True)]

    def padded(self, planes: Tensor) -> Tensor:
        """Return (batch, channels, crop, crop) with margins, flat: (batch, channels * side * side)."""
        return nn.functional.pad(planes, (MARGIN,) * 4).reshape(len(planes), -1)

    def zeros(self, planes: Tensor) -> Tensor:
        """Return zeros of the shape that `padded` has of planes."""
        return planes.new_zeros(len(planes), self.channels * self.side**2)

    def unpadded(self, flat: Tensor) -> Tensor:
        """Return what `padded` returns without its margins, (batch, channels, crop, crop)."""
        planes = flat.reshape(len(flat), -1, self.side, self.side)
        return planes[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]

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
    networks: nn.ModuleList, gatherer: Gatherer, exact: Tensor, codes: Tensor, features: Tensor, multipliers: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of each pass where its latents lie in padded planes, what is left of them, and their bits in each picture.

    `exact` is normalised latents in units of their steps and in coding order, float32 (batch, C, crop, crop), and so is
    what is left. Bits have gradients to the networks and, straight through the rounding, to `exact`; what is coded from
    has none.
    """
    steps = steps_of(codes)[:, None, None]
    _, strength_of = constants(exact.device)
    known, strengths = gatherer.zeros(exact), gatherer.zeros(exact)
    places = zip(gatherer.targets, gatherer.values, gatherer.magnitudes, gatherer.split(exact), strict=True)
    for network, step, (target, values, magnitudes, wanted) in zip(networks, gatherer.passes, places, strict=True):
        inputs = torch.cat([known[:, values], strengths[:, magnitudes]], dim=2)
        location, scale = network(inputs, features, codes)
        # What symbols count from, and where from there they are expected.
        zeros = torch.zeros_like(location)
        origin, expected = (location, zeros) if step.predicted else (zeros, location)
        counted = wanted - origin
        with torch.no_grad():
            symbols = choose(counted, expected, scale, multipliers[:, None, None])
            left = symbols + (origin * POINTS).round() / POINTS
            units = (left * steps * units_of(step)).round().clamp(-LIMIT, LIMIT)
            known[:, target] = units
            strengths[:, target] = strength_of[units.abs().long()]
        yield target, left, bits_of(counted + (symbols - counted).detach(), expected, scale).sum((1, 2))


@cache
def constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where in their intervals logistic latents lie, in steps, and the strengths of units, on a device."""
    centroids = torch.from_numpy(logistic_centroids().astype(np.float32) / 64)
    return centroids.to(device), torch.from_numpy(MAGNITUDE.astype(np.float32)).to(device)


def features_of(codes: Sequence[int]) -> Tensor:
    """Return what networks are told of step codes, float32 (batch, KNOTS)."""
    return torch.stack([torch.from_numpy(step_features(code)) for code in codes])


def choose(wanted: Tensor, location: Tensor, scale: Tensor, multiplier: Tensor) -> Tensor:
    """Return the symbols that cost least, in squared error plus `multiplier` times bits."""
    centroids, _ = constants(wanted.device)
    location = (location * FRACTIONS).round() / FRACTIONS
    scale = scale.round()
    base = location.floor()
    rows = (scale * FRACTIONS + (location - base) * FRACTIONS).long()
    below = wanted.floor()
    costs = []
    for symbols in (below, below + 1):
        shift = centroids[rows, (symbols - base + 15).clamp(0, 31).long()]
        costs.append((wanted - symbols - shift) ** 2 + multiplier * bits_of(symbols, location, scale))
    return torch.where(costs[0] <= costs[1], below, below + 1)


def bits_of(symbols: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of symbols under logistic distributions."""
    width = SMALLEST_SCALE * torch.exp2(scale / INDICES_PER_OCTAVE)
    far = -(symbols - location).abs()
    probability = torch.sigmoid((far + 0.5) / width) - torch.sigmoid((far - 0.5) / width)
    return -torch.log2(probability.clamp_min(2.0**-22))


def train(
    latents: list[np.ndarray],
    plan: Plan,
    step_codes: tuple[int, int],
    run: Path,
    recipe: Recipe,
    *,
    start: Path | None = None,
    report: Report | None = None,
    device: str = "cpu",
) -> bytes:
    """Return a prior's file, trained to the end of `recipe`, from the checkpoint in `run`, or the networks in `start`.

    `latents` are normalised, float32 (C, h, w) each; `step_codes` are those of qualities 1 and 100.
    """
    torch.manual_seed(recipe.seed)
    arch = architecture(plan)
    networks = nn.ModuleList([PassNetwork(step, plan) for step in arch.passes])
    gatherer = Gatherer(arch, recipe.crop, device)
    if start:
        networks.load_state_dict(averaged_weights(start, "prior"))
    networks = networks.to(device)

    def loss_of(planes: Tensor, codes: Tensor, features: Tensor, multipliers: Tensor) -> tuple[Tensor, Figures]:
        exact = planes / steps_of(codes)[:, None, None, None]
        passes = code_batch(networks, gatherer, exact, codes, features, multipliers)
        loss = torch.stack([bits for _, _, bits in passes]).sum() / planes.numel()
        return loss, {"bits per symbol": loss}

    def keep_exact() -> None:
        for network, step in zip(networks, arch.passes, strict=True):
            network.keep_exact(step)

    draw = crops_at_codes(latents, step_codes, recipe, arch)
    Run(run, networks, networks, recipe, np.random.default_rng(recipe.seed)).train(draw, loss_of, keep_exact, report)
    return packed(plan, arch, integer_networks(networks.cpu()), random_crops(latents, step_codes, recipe, report))


def crops_at_codes(latents: list[np.ndarray], step_codes: tuple[int, int], recipe: Recipe, arch: Architecture) -> Draw:
    """Return what draws crops in coding order, (N, C, h, w), step codes, their features and multipliers, float32."""

    def draw(rng: np.random.Generator) -> Batch:
        crops, codes = zip(*(random_crop(latents, step_codes, recipe, rng) for _ in range(recipe.batch)), strict=True)
        multipliers = torch.from_numpy(rng.uniform(0, recipe.multiplier, recipe.batch).astype(np.float32))
        planes = torch.from_numpy(np.stack(crops)[:, list(arch.order)])
        return planes, torch.tensor(codes, dtype=torch.float32), features_of(codes), multipliers

    return draw


def random_crop(
    latents: list[np.ndarray], step_codes: tuple[int, int], recipe: Recipe, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return a random crop of normalised latents, float32 (C, crop, crop), and a random step's code."""
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - recipe.crop + 1)) for n in plane.shape[1:])
    fine, coarse = sorted(step_codes)
    code = int(rng.integers(fine - recipe.finer, coarse + recipe.coarser + 1))
    return plane[:, top : top + recipe.crop, left : left + recipe.crop], code


def random_crops(
    latents: list[np.ndarray], step_codes: tuple[int, int], recipe: Recipe, report: Report | None = None
) -> Iterator[tuple[np.ndarray, int, float]]:
    """Yield the crops that tables and reconstruction points are fitted to, with step codes and multipliers."""
    rng = np.random.default_rng(recipe.seed + 1)
    for number in range(recipe.fitted_crops):
        if report:
            report(number, recipe.fitted_crops, "crops that tables are fitted to")
        yield (*random_crop(latents, step_codes, recipe, rng), float(rng.uniform(0, recipe.multiplier)))


def packed(
    plan: Plan, arch: Architecture, networks: list[Network], crops: Iterable[tuple[np.ndarray, int, float]]
) -> bytes:
    """Return a prior's file, its tables and reconstruction points fitted to what its contexts see of the crops."""
    tables, centroids = fitted(arch, networks, crops, plan.points)
    arrays: dict[str, Any] = {
        f"{field}{n}": smallest_integers(getattr(network, field))
        for n, network in enumerate(networks)
        for field in Network.__slots__
    }
    if centroids is not None:
        arrays["centroids"] = centroids
    stream = io.BytesIO()
    np.savez_compressed(stream, architecture=np.frombuffer(arch.to_json().encode(), np.uint8), tables=tables, **arrays)
    return stream.getvalue()


def smallest_integers(weights: np.ndarray) -> np.ndarray:
    """Return whole numbers in the smallest type that holds them."""
    kind = next(k for k in (np.int8, np.int16, np.int32) if np.abs(weights).max(initial=0) <= np.iinfo(k).max)
    return weights.astype(kind)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the prior of a latent space that ships with sdtrt.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of a run whose networks a new run starts from")
    parser.add_argument("--iterations", type=int, default=Recipe.iterations)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    add_device_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(iterations=options.iterations, learning_rate=options.learning_rate)
    latents = latents_of_photos(options.photos, options.model, recipe.crop)
    profile = PictureCodec(options.model).profile
    plan = PLANS[profile.latent_space]
    prior = train(latents, plan, profile.step_codes, options.run, recipe, start=options.start, device=options.device)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(prior)
    print(f"{options.out}: {len(prior)} bytes")


if __name__ == "__main__":
    main()
