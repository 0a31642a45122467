"""The adaptive prior: three numbers per channel, fitted by the encoder and sent in the file."""

from functools import cache

import numpy as np

from sdtrt._arrays import I16Array, I32Array, I64Array, IndexArray, U8Array, U32Array
from sdtrt.engine.coding.priors.known_symbols import AdaptivePass, KnownSymbols, adaptive_passes
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, PYRAMID, InnerEdges, gather
from sdtrt.engine.coding.priors.tables import NUM_SCALES, Context, bins_of, bit_costs, load_prior_file
from sdtrt.errors import FormatError


class AdaptivePrior:
    """For latent spaces without a trained prior: three numbers per channel, fitted by the encoder, sent in the file.

    A pyramid pass codes all channels at once. The location is the mean of the nearest known neighbours times
    `weight`/8; the scale is `base` plus a share of the neighbours' mean magnitude, or `first` where nothing is known.
    """

    centroids, has_recon_offsets = None, False
    cuts = (3, 4)  # of five passes: a quarter of the positions, and half of them
    PARAMETERS = 3  # bytes per channel: weight 0 … 8, base 0 … 31, first 0 … 31

    def __init__(self, parameters: U8Array) -> None:
        """Take the parameters, uint8 (channels, 3); `FormatError` if one is out of range."""
        if (parameters > (8, NUM_SCALES - 1, NUM_SCALES - 1)).any():
            raise FormatError("adaptive prior's parameters are out of range")
        self.parameters = parameters
        self.weight, self.base, self.first = parameters.astype(np.int32).T[:, :, None]
        self.tables = adaptive_tables()

    def passes(self, channels: int) -> list[AdaptivePass]:
        return adaptive_passes(channels, PYRAMID, reach=2)

    def order(self, channels: int) -> IndexArray:
        return np.arange(channels)

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> KnownSymbols:
        return KnownSymbols(shape, inner)

    def context(self, coding_pass: AdaptivePass, planes: KnownSymbols, number: int) -> Context:
        channels, count = coding_pass.stop, planes.positions(coding_pass)
        if number == 0:
            flat = np.zeros((channels, count), np.int32)
            return Context(flat, flat + self.first)
        return adaptive_context(*neighbour_means(coding_pass, planes), self.weight, self.base)


def neighbour_means(coding_pass: AdaptivePass, planes: KnownSymbols) -> tuple[I32Array, I32Array]:
    """Return the mean of a pass's known neighbours, int32 (channels, positions) each, in eighths.

    First the mean symbol of the nearest taps; then the mean magnitude of all taps, the nearest counted twice.
    """
    nearest = min(abs(dy) + abs(dx) for dy, dx in coding_pass.taps)
    near = np.array([abs(dy) + abs(dx) == nearest for dy, dx in coding_pass.taps])
    shape = (len(near), coding_pass.stop - coding_pass.start, -1)
    signed = planes.signed(coding_pass).reshape(shape).astype(np.int32)
    magnitudes = planes.magnitudes(coding_pass).reshape(shape).astype(np.int32)
    mean = (signed[near].sum(0) * 8 + near.sum() // 2) // near.sum()
    shares = np.where(near, 2, 1)
    magnitude = (magnitudes * shares[:, None, None]).sum(0) * 8 // shares.sum()
    return mean.astype(np.int32), magnitude.astype(np.int32)


def adaptive_context(mean: I32Array, magnitude: I32Array, weight: I32Array | int, base: I32Array | int) -> Context:
    """Return the context that two parameters make of `neighbour_means`."""
    return Context(mean * weight >> 3, np.minimum(base + (magnitude * 3 >> 7), NUM_SCALES - 1))


def fit_adaptive(symbols: I16Array, inner: InnerEdges = NO_INNER_EDGES) -> AdaptivePrior:
    """Return the prior that codes `symbols`, int16 (C, h, w), in the fewest bits."""
    channels = len(symbols)
    weights, scales = range(0, 9), range(NUM_SCALES)
    first = np.zeros((NUM_SCALES, channels), np.int64)
    rest = np.zeros((len(weights), NUM_SCALES, channels), np.int64)
    trial = AdaptivePrior(np.zeros((channels, 3), np.uint8))
    # In 1/256 bit: integers, so that every machine fits the same parameters.
    costs = np.rint(256 * bit_costs(trial.tables)).astype(np.int32)
    planes = trial.planes(symbols.shape, 0, inner)
    for number, coding_pass in enumerate(trial.passes(channels)):
        if not planes.positions(coding_pass):
            continue
        known = gather(symbols, coding_pass).astype(np.int32)
        if number == 0:
            for k in scales:
                first[k] += _bits_per_channel(costs, known, Context(np.zeros_like(known), np.full_like(known, k)))
        else:
            means = neighbour_means(coding_pass, planes)
            for weight in weights:
                for k in scales:
                    rest[weight, k] += _bits_per_channel(costs, known, adaptive_context(*means, weight, k))
        planes.put(coding_pass, known)
    weight, base = np.unravel_index(rest.reshape(-1, channels).argmin(0), rest.shape[:2])
    return AdaptivePrior(np.stack([weight, base, first.argmin(0)], axis=1).astype(np.uint8))


def _bits_per_channel(costs: I32Array, symbols: I32Array, context: Context) -> I64Array:
    """Return each channel's cost in 1/256 bit, int64 (channels,), of symbols (channels, positions)."""
    bins = bins_of(symbols - context.base(), context.low_bits())
    return costs[context.table_rows(), bins].sum(1, dtype=np.int64)


@cache
def adaptive_tables() -> U32Array:
    """Return the shipped tables of the adaptive prior."""
    tables: U32Array = load_prior_file("adaptive-1")["tables"]
    return tables
