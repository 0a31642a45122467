"""Batches of crops coded as the codec codes them, with gradients: what bits are spent by a prior's networks on them."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.coding.priors.network_prior import LIMIT, MAGNITUDE, step_embedding
from sdtrt.engine.coding.priors.padded_planes import MARGIN
from sdtrt.engine.coding.priors.prior_layout import Architecture, ContextWindow, LatentPass, units_of
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS, SUBSYMBOL_STEPS
from sdtrt.export.prior.network import quant_steps
from sdtrt.export.prior.tables import INDICES_PER_OCTAVE, MIN_SCALE, logistic_centroids


class PassIndexer:
    """Where the inputs and the symbols of each pass lie in a batch of crops on a device."""

    def __init__(self, arch: Architecture, crop: int, device: torch.device | str = "cpu") -> None:
        self.side = crop + 2 * MARGIN
        self.channels = len(arch.order)
        self.passes = arch.passes
        self.places, self.targets, self.values, self.magnitudes = [], [], [], []
        for coding_pass in arch.passes:
            rows, columns = (np.concatenate(parts) for parts in zip(*self._positions(coding_pass, crop), strict=True))
            places = torch.from_numpy((rows + MARGIN) * self.side + columns + MARGIN)[:, None]
            self.places.append(places[:, 0].to(device))
            self.targets.append((places + self._planes(coding_pass.start, coding_pass.stop)).to(device))
            self.values.append((places + self._offsets(coding_pass.values)).to(device))
            self.magnitudes.append((places + self._offsets(coding_pass.magnitudes)).to(device))

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
    def _positions(coding_pass: LatentPass, crop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows, columns in coding_pass.phase.slices(crop, crop):
            grid = np.mgrid[rows, columns]
            yield grid[0].ravel(), grid[1].ravel()

    def _planes(self, first: int, last: int) -> Tensor:
        return torch.arange(first, last) * self.side**2

    def _offsets(self, windows: tuple[ContextWindow, ...]) -> Tensor:
        parts = [self._planes(w.first, w.last) + w.dy * self.side + w.dx for w in windows]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def code_batch(
    networks: nn.ModuleList, indexer: PassIndexer, exact: Tensor, codes: Tensor, features: Tensor, multipliers: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of each pass where its latents lie in padded planes, what is left of them, and their bits in each image.

    `exact` is normalised latents in units of their steps and in coding order, float32 (batch, C, crop, crop), and so is
    what is left; `multipliers`, float32 (batch, 1, crop, crop), are what bits cost where symbols are chosen. Bits have
    gradients to the networks and, straight through the rounding, to `exact`; what is coded from has none.
    """
    steps = quant_steps(codes)[:, None, None]
    _, strength_of = constants(exact.device)
    known, strengths = indexer.zeros(exact), indexer.zeros(exact)
    prices, seen = indexer.padded(multipliers), zip(indexer.values, indexer.magnitudes, strict=True)
    coded = zip(indexer.places, indexer.targets, indexer.split(exact), strict=True)
    for network, coding_pass, (place, target, wanted), (values, magnitudes) in zip(
        networks, indexer.passes, coded, seen, strict=True
    ):
        inputs = torch.cat([known[:, values], strengths[:, magnitudes]], dim=2)
        location, scale = network(inputs, features, codes)
        # What symbols count from, and where from there they are expected.
        zeros = torch.zeros_like(location)
        origin, expected = (location, zeros) if coding_pass.predicted else (zeros, location)
        spacing = coding_pass.spacing / OFFSET_UNITS
        counted = (wanted - origin) / spacing
        with torch.no_grad():
            symbols = quantize_rdo(counted, expected, scale, prices[:, place, None])
            left = symbols * spacing + (origin * OFFSET_UNITS).round() / OFFSET_UNITS
            units = (left * steps * units_of(coding_pass)).round().clamp(-LIMIT, LIMIT)
            known[:, target] = units
            strengths[:, target] = strength_of[units.abs().long()]
        yield target, left, symbol_bits(counted + (symbols - counted).detach(), expected, scale).sum((1, 2))


@cache
def constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where in their intervals logistic latents lie, in steps, and the strengths of units, on a device."""
    centroids = torch.from_numpy(logistic_centroids().astype(np.float32) / 64)
    return centroids.to(device), torch.from_numpy(MAGNITUDE.astype(np.float32)).to(device)


def features_of(codes: Sequence[int]) -> Tensor:
    """Return what networks are told of step codes, float32 (batch, KNOTS)."""
    return torch.stack([torch.from_numpy(step_embedding(code)) for code in codes])


def quantize_rdo(wanted: Tensor, location: Tensor, scale: Tensor, multiplier: Tensor) -> Tensor:
    """Return the symbols that cost least, in squared error plus `multiplier` times bits."""
    centroids, _ = constants(wanted.device)
    location = (location * SUBSYMBOL_STEPS).round() / SUBSYMBOL_STEPS
    scale = scale.round()
    base = location.floor()
    rows = (scale * SUBSYMBOL_STEPS + (location - base) * SUBSYMBOL_STEPS).long()
    below = wanted.floor()
    costs = []
    for symbols in (below, below + 1):
        shift = centroids[rows, (symbols - base + 15).clamp(0, 31).long()]
        costs.append((wanted - symbols - shift) ** 2 + multiplier * symbol_bits(symbols, location, scale))
    return torch.where(costs[0] <= costs[1], below, below + 1)


def symbol_bits(symbols: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of symbols under logistic distributions."""
    width = MIN_SCALE * torch.exp2(scale / INDICES_PER_OCTAVE)
    far = -(symbols - location).abs()
    probability = torch.sigmoid((far + 0.5) / width) - torch.sigmoid((far - 0.5) / width)
    return -torch.log2(probability.clamp_min(2.0**-22))
