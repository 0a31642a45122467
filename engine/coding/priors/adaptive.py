"""The adaptive prior: three numbers per channel, fitted by the encoder and sent in the file."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.passes import OUTER, PYRAMID, Inner, gather
from sdtrt.engine.coding.priors.symbol_planes import SymbolPass, SymbolPlanes, symbol_passes
from sdtrt.engine.coding.priors.tables import SCALES, Context, bins_of, bits_of_tables, load_arrays
from sdtrt.errors import FormatError

Ints = NDArray[np.int32]


class AdaptivePrior:
    """For latent spaces without a trained prior: three numbers per channel, fitted by the encoder, sent in the file.

    A pyramid pass codes all channels at once. The location is the mean of the nearest known neighbours times
    `weight`/8; the scale is `base` plus a share of the neighbours' mean magnitude, or `first` where nothing is known.
    """

    centroids, has_points = None, False
    cuts = (3, 4)  # of five passes: a quarter of the positions, and half of them
    PARAMETERS = 3  # bytes per channel: weight 0 … 8, base 0 … 31, first 0 … 31

    def __init__(self, parameters: NDArray[np.uint8]) -> None:
        """Take the parameters, uint8 (channels, 3); `FormatError` if one is out of range."""
        if (parameters > (8, SCALES - 1, SCALES - 1)).any():
            raise FormatError("adaptive prior's parameters are out of range")
        self.parameters = parameters
        self.weight, self.base, self.first = parameters.astype(np.int32).T[:, :, None]
        self.tables = adaptive_tables()

    def passes(self, channels: int) -> list[SymbolPass]:
        return symbol_passes(channels, PYRAMID, reach=2)

    def order(self, channels: int) -> NDArray[np.intp]:
        return np.arange(channels)

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: Inner = OUTER) -> SymbolPlanes:
        return SymbolPlanes(shape, inner)

    def context(self, step: SymbolPass, planes: SymbolPlanes, number: int) -> Context:
        channels, count = step.stop, planes.positions(step)
        if number == 0:
            flat = np.zeros((channels, count), np.int32)
            return Context(flat, flat + self.first)
        return adaptive_context(*neighbour_means(step, planes), self.weight, self.base)


def neighbour_means(step: SymbolPass, planes: SymbolPlanes) -> tuple[Ints, Ints]:
    """Return the mean of a pass's known neighbours, int32 (channels, positions) each, in eighths.

    First the mean symbol of the nearest taps; then the mean magnitude of all taps, the nearest counted twice.
    """
    nearest = min(abs(dy) + abs(dx) for dy, dx in step.taps)
    near = np.array([abs(dy) + abs(dx) == nearest for dy, dx in step.taps])
    shape = (len(near), step.stop - step.start, -1)
    signed = planes.signed(step).reshape(shape).astype(np.int32)
    magnitudes = planes.magnitudes(step).reshape(shape).astype(np.int32)
    mean = (signed[near].sum(0) * 8 + near.sum() // 2) // near.sum()
    shares = np.where(near, 2, 1)
    magnitude = (magnitudes * shares[:, None, None]).sum(0) * 8 // shares.sum()
    return mean.astype(np.int32), magnitude.astype(np.int32)


def adaptive_context(mean: Ints, magnitude: Ints, weight: Ints | int, base: Ints | int) -> Context:
    """Return the context that two parameters make of `neighbour_means`."""
    return Context(mean * weight >> 3, np.minimum(base + (magnitude * 3 >> 7), SCALES - 1))


def fit_adaptive(symbols: NDArray[np.int16], inner: Inner = OUTER) -> AdaptivePrior:
    """Return the prior that codes `symbols`, int16 (C, h, w), in the fewest bits."""
    channels = len(symbols)
    weights, scales = range(0, 9), range(SCALES)
    first = np.zeros((SCALES, channels), np.int64)
    rest = np.zeros((len(weights), SCALES, channels), np.int64)
    trial = AdaptivePrior(np.zeros((channels, 3), np.uint8))
    # In 1/256 bit: integers, so that every machine fits the same parameters.
    costs = np.rint(256 * bits_of_tables(trial.tables)).astype(np.int32)
    planes = trial.planes(symbols.shape, 0, inner)
    for number, step in enumerate(trial.passes(channels)):
        if not planes.positions(step):
            continue
        known = gather(symbols, step).astype(np.int32)
        if number == 0:
            for k in scales:
                first[k] += _cost(costs, known, Context(np.zeros_like(known), np.full_like(known, k)))
        else:
            means = neighbour_means(step, planes)
            for weight in weights:
                for k in scales:
                    rest[weight, k] += _cost(costs, known, adaptive_context(*means, weight, k))
        planes.put(step, known)
    weight, base = np.unravel_index(rest.reshape(-1, channels).argmin(0), rest.shape[:2])
    return AdaptivePrior(np.stack([weight, base, first.argmin(0)], axis=1).astype(np.uint8))


def _cost(costs: Ints, symbols: Ints, context: Context) -> NDArray[np.int64]:
    """Return each channel's cost in 1/256 bit, int64 (channels,), of symbols (channels, positions)."""
    bins = bins_of(symbols - context.base(), context.low_bits())
    return costs[context.rows(), bins].sum(1, dtype=np.int64)


@cache
def adaptive_tables() -> NDArray[np.uint32]:
    """Return the shipped tables of the adaptive prior."""
    tables: NDArray[np.uint32] = load_arrays("adaptive-1")["tables"]
    return tables
