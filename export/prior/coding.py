"""The rate of batches of crops under a prior's networks, coded as the codec codes them, with gradients."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.coding.priors.network_prior import LIMIT, MAGNITUDE, step_embedding
from sdtrt.engine.coding.priors.passes import MARGIN
from sdtrt.engine.coding.priors.prior_layout import Architecture, ContextWindow, LatentPass, units_per_latent
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS, SUBSYMBOL_STEPS
from sdtrt.export.prior.network import quant_steps
from sdtrt.export.prior.tables import INDICES_PER_OCTAVE, MIN_SCALE, logistic_centroids


class PassIndexer:
    """Indices of each pass's inputs and symbols in a batch of padded crops on a device.

    Attributes:
        side: Height and width of the padded crops.
        channels: Number of channels.
        passes: The coding passes.
        positions: For each pass its positions within a plane, int64 (positions,).
        targets: For each pass its symbols, int64 (positions, group).
        values: For each pass the latents in its context, int64 (positions, inputs).
        magnitudes: For each pass the magnitudes in its context, int64 (positions, inputs).
    """

    def __init__(self, arch: Architecture, crop: int, device: torch.device | str = "cpu") -> None:
        self.side = crop + 2 * MARGIN
        self.channels = len(arch.order)
        self.passes = arch.passes
        self.positions, self.targets, self.values, self.magnitudes = [], [], [], []
        for coding_pass in arch.passes:
            rows, columns = (np.concatenate(parts) for parts in zip(*self._positions(coding_pass, crop), strict=True))
            positions = torch.from_numpy((rows + MARGIN) * self.side + columns + MARGIN)[:, None]
            self.positions.append(positions[:, 0].to(device))
            self.targets.append((positions + self._planes(coding_pass.start, coding_pass.stop)).to(device))
            self.values.append((positions + self._offsets(coding_pass.values)).to(device))
            self.magnitudes.append((positions + self._offsets(coding_pass.magnitudes)).to(device))

    def split(self, planes: Tensor) -> Sequence[Tensor]:
        """Return the values that each pass codes, (batch, positions, group), of (batch, channels, crop, crop)."""
        flat = torch.cat([target.reshape(-1) for target in self.targets])
        parts = self.padded(planes).index_select(1, flat).split([target.numel() for target in self.targets], dim=1)
        return [part.reshape(-1, *target.shape) for part, target in zip(parts, self.targets, strict=True)]

    def padded(self, planes: Tensor) -> Tensor:
        """Return planes, (batch, channels, crop, crop), padded and flattened: (batch, channels * side * side)."""
        return nn.functional.pad(planes, (MARGIN,) * 4).reshape(len(planes), -1)

    def zeros(self, planes: Tensor) -> Tensor:
        """Return zeros of the shape of `padded(planes)`."""
        return planes.new_zeros(len(planes), self.channels * self.side**2)

    def unpadded(self, flat: Tensor) -> Tensor:
        """Return the inverse of `padded`: planes without margins, (batch, channels, crop, crop)."""
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
    networks: nn.ModuleList, indexer: PassIndexer, exact: Tensor, codes: Tensor, features: Tensor, lmbdas: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield for each pass the indices of its latents in padded planes, the decoded latents, and the bits of each image.

    The bits have gradients with respect to the networks and, straight through the rounding, to `exact`. Contexts have
    no gradient.

    Arguments:
        networks: The trainable networks, one for each pass.
        indexer: The indices for these crops.
        exact: Normalised latents in quantization steps and in coding order, float32 (batch, C, crop, crop). The
            decoded latents have the same unit.
        codes: Step codes, float32 (batch,).
        features: Embeddings of the step codes, float32 (batch, KNOTS).
        lmbdas: Lambda of RDOQ in squared steps per bit, float32 (batch, 1, crop, crop).
    """
    steps = quant_steps(codes)[:, None, None]
    _, magnitude_table = constants(exact.device)
    known, known_magnitudes = indexer.zeros(exact), indexer.zeros(exact)
    lmbda_planes, contexts = indexer.padded(lmbdas), zip(indexer.values, indexer.magnitudes, strict=True)
    targets = zip(indexer.positions, indexer.targets, indexer.split(exact), strict=True)
    for network, coding_pass, (positions, target, latents), (values, magnitudes) in zip(
        networks, indexer.passes, targets, contexts, strict=True
    ):
        inputs = torch.cat([known[:, values], known_magnitudes[:, magnitudes]], dim=2)
        location, scale = network(inputs, features, codes)
        # Predicted passes code symbols relative to the location, so that their distribution is centred at 0.
        zeros = torch.zeros_like(location)
        origin, expected = (location, zeros) if coding_pass.predicted else (zeros, location)
        spacing = coding_pass.spacing / OFFSET_UNITS
        scaled = (latents - origin) / spacing
        with torch.no_grad():
            symbols = quantize_rdo(scaled, expected, scale, lmbda_planes[:, positions, None])
            decoded = symbols * spacing + (origin * OFFSET_UNITS).round() / OFFSET_UNITS
            units = (decoded * steps * units_per_latent(coding_pass)).round().clamp(-LIMIT, LIMIT)
            known[:, target] = units
            known_magnitudes[:, target] = magnitude_table[units.abs().long()]
        yield target, decoded, symbol_bits(scaled + (symbols - scaled).detach(), expected, scale).sum((1, 2))


@cache
def constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the centroids of logistic distributions, in steps, and the table of magnitudes, on a device."""
    centroids = torch.from_numpy(logistic_centroids().astype(np.float32) / 64)
    return centroids.to(device), torch.from_numpy(MAGNITUDE.astype(np.float32)).to(device)


def features_of(codes: Sequence[int]) -> Tensor:
    """Return the embeddings of step codes, float32 (batch, KNOTS)."""
    return torch.stack([torch.from_numpy(step_embedding(code)) for code in codes])


def quantize_rdo(latents: Tensor, location: Tensor, scale: Tensor, lmbda: Tensor) -> Tensor:
    """Return the symbols with the least squared error plus `lmbda` times bits."""
    centroids, _ = constants(latents.device)
    location = (location * SUBSYMBOL_STEPS).round() / SUBSYMBOL_STEPS
    scale = scale.round()
    base = location.floor()
    rows = (scale * SUBSYMBOL_STEPS + (location - base) * SUBSYMBOL_STEPS).long()
    below = latents.floor()
    costs = []
    for symbols in (below, below + 1):
        shift = centroids[rows, (symbols - base + 15).clamp(0, 31).long()]
        costs.append((latents - symbols - shift) ** 2 + lmbda * symbol_bits(symbols, location, scale))
    return torch.where(costs[0] <= costs[1], below, below + 1)


def symbol_bits(symbols: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of symbols under logistic distributions."""
    width = MIN_SCALE * torch.exp2(scale / INDICES_PER_OCTAVE)
    far = -(symbols - location).abs()
    probability = torch.sigmoid((far + 0.5) / width) - torch.sigmoid((far - 0.5) / width)
    return -torch.log2(probability.clamp_min(2.0**-22))
