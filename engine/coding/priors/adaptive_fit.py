"""The search for the parameters of the adaptive prior that code symbols in the fewest bits."""

import numpy as np

from sdtrt._arrays import I16Array, I32Array, I64Array, U8Array
from sdtrt.engine.coding.priors.adaptive import AdaptivePrior, adaptive_context, neighbour_means
from sdtrt.engine.coding.priors.core_prior import core_prior, tile_numbers
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges, gather, walk_passes
from sdtrt.engine.coding.priors.tables import NUM_SCALES, Context, bins_of, bit_costs
from sdtrt.kernels import core


def fit_adaptive(symbols: I16Array, inner: InnerEdges = NO_INNER_EDGES) -> AdaptivePrior:
    """Return the prior that codes `symbols`, int16 (C, h, w), in the fewest bits, by exhaustive search."""
    channels, height, width = symbols.shape
    prior = AdaptivePrior(np.zeros((channels, AdaptivePrior.PARAMETERS), np.uint8))
    # In 1/256 bit: integers, so that every machine fits the same parameters.
    costs = np.rint(256 * bit_costs(prior.tables)).astype(np.int32)
    compiled = core.compiled()
    if compiled is None:
        return AdaptivePrior(_fit(symbols, inner, prior, costs))
    numbers = tile_numbers((channels, height, width), 0, inner)
    data = compiled.fit_adaptive(core_prior(prior), numbers, np.ascontiguousarray(symbols, np.int16), costs)
    return AdaptivePrior(np.frombuffer(data, np.uint8).reshape(channels, -1))


def _fit(symbols: I16Array, inner: InnerEdges, prior: AdaptivePrior, costs: I32Array) -> U8Array:
    """Return the parameters, uint8 (C, 3). `costs` are those of the bins, int32 (rows, bins) in 1/256 bit."""
    channels = len(symbols)
    weights, scales = range(9), range(NUM_SCALES)
    first_bits = np.zeros((NUM_SCALES, channels), np.int64)  # by first_scale
    bits = np.zeros((len(weights), NUM_SCALES, channels), np.int64)  # by weight and base_scale
    passes = prior.passes(channels)
    for visit in walk_passes(prior, symbols.shape, 0, inner):
        of_pass = gather(symbols, visit.coding_pass).astype(np.int32)
        if visit.number == 0:
            for scale in scales:
                context = Context(np.zeros_like(of_pass), np.full_like(of_pass, scale))
                first_bits[scale] += _bits_per_channel(costs, of_pass, context)
        else:
            means = neighbour_means(passes[visit.number], visit.planes)
            for weight in weights:
                for scale in scales:
                    context = adaptive_context(*means, weight, scale)
                    bits[weight, scale] += _bits_per_channel(costs, of_pass, context)
        visit.put(of_pass)
    best_weight, best_scale = np.unravel_index(bits.reshape(-1, channels).argmin(0), bits.shape[:2])
    return np.stack([best_weight, best_scale, first_bits.argmin(0)], axis=1).astype(np.uint8)


def _bits_per_channel(costs: I32Array, symbols: I32Array, context: Context) -> I64Array:
    """Return the cost of symbols (channels, positions) in each channel, int64 (channels,) in 1/256 bit."""
    bins = bins_of(symbols - context.base(), context.low_bits())
    return costs[context.table_rows(), bins].sum(1, dtype=np.int64)
