"""A search for better symbols than `quantize_rdo` finds pass by pass: it counts what each costs those that come after it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import F32Array, F64Array, I16Array, IndexArray
from sdtrt.engine.coding.priors.passes import (
    NO_INNER_EDGES,
    InnerEdges,
    gather,
    gather_plane,
    non_empty,
    scatter,
    undo_channel_order,
)
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import bins_of, bit_costs
from sdtrt.engine.coding.rdoq import LambdaMap, quantize_rdo

BLOCK = 8  # latents a side: in each block of each trial one symbol is changed


@dataclass(frozen=True, slots=True)
class RdCosts:
    """What symbols cost, float32 (C, h, w) each: bits, and squared error in squares of what symbols lie apart."""

    bits: F32Array
    distortion: F32Array
    remainder: F32Array  # latents less their symbols, in symbols


def rd_costs(
    symbols: I16Array, scaled: F32Array, prior: Prior, step_code: int, inner: InnerEdges = NO_INNER_EDGES
) -> RdCosts:
    """Return what symbols cost as the quantized form of latents in steps, (C, h, w) both."""
    order, table_bits, centroids = prior.order(len(symbols)), bit_costs(prior.tables), prior.centroids
    coded = symbols[order]
    planes = prior.planes(symbols.shape, step_code, inner)
    bits, remainder, points = (np.zeros(symbols.shape, np.float32) for _ in range(3))
    target = scaled[order]
    for number, coding_pass in non_empty(prior.passes(len(symbols)), *symbols.shape[1:]):
        context = prior.context(coding_pass, planes, number)
        known = gather(coded, coding_pass).astype(np.int32)
        rows, bins = context.table_rows(), bins_of(known - context.base(), context.low_bits())
        scatter(bits, coding_pass, table_bits[rows, bins])
        scatter(remainder, coding_pass, context.to_symbol_units(gather(target, coding_pass)) - known)
        if centroids is not None:
            scatter(points, coding_pass, centroids[rows, bins] * np.float32(1 / 64))
        planes.put(coding_pass, known, context.origin)
    return RdCosts(
        undo_channel_order(bits, order),
        undo_channel_order(np.square(remainder - points), order),
        undo_channel_order(remainder, order),
    )


def search_symbols(
    scaled: F32Array, prior: Prior, step_code: int, lmbda: LambdaMap, trials: int, inner: InnerEdges = NO_INNER_EDGES
) -> I16Array:
    """Return the symbols, int16 (C, h, w), that `quantize_rdo` finds for latents in steps, improved by so many trials."""
    order, table_bits = prior.order(len(scaled)), bit_costs(prior.tables)
    coded = scaled[order]
    planes = prior.planes(scaled.shape, step_code, inner)
    symbols = np.zeros(scaled.shape, np.int16)
    for number, coding_pass in non_empty(prior.passes(len(scaled)), *scaled.shape[1:]):
        context = prior.context(coding_pass, planes, number)
        each = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        known = quantize_rdo(gather(coded, coding_pass), context, table_bits, prior.centroids, each)
        planes.put(coding_pass, known, context.origin)
        scatter(symbols, coding_pass, known)
    return refine_symbols(undo_channel_order(symbols, order), scaled, prior, step_code, lmbda, trials, inner)


def refine_symbols(
    symbols: I16Array,
    scaled: F32Array,
    prior: Prior,
    step_code: int,
    lmbda: LambdaMap,
    trials: int,
    inner: InnerEdges = NO_INNER_EDGES,
) -> I16Array:
    """Return symbols that cost less in squared error plus `lmbda` times bits, after so many trials.

    A trial moves one symbol in each block to the other side of its latent, the nearest to the middle that has not been
    tried, and keeps those moves that have made their surroundings cheaper.
    """
    costs = rd_costs(symbols, scaled, prior, step_code, inner)
    cost, remainder, untried = _total(costs, lmbda), costs.remainder, np.abs(costs.remainder)
    for _ in range(trials):
        if untried.max() < 0:
            break
        places = _largest_of_blocks(untried)
        untried[places] = -1
        moved = symbols.copy()
        moved[places] += np.where(remainder[places] > 0, 1, -1).astype(np.int16)
        trial = _total(rd_costs(moved, scaled, prior, step_code, inner), lmbda)
        is_better = sums_around(cost - trial, BLOCK // 2)[places[1:]] > 0
        kept = tuple(place[is_better] for place in places)
        symbols = symbols.copy()
        symbols[kept] = moved[kept]
        costs = rd_costs(symbols, scaled, prior, step_code, inner)
        cost, remainder = _total(costs, lmbda), costs.remainder
    return symbols


def _total(costs: RdCosts, lmbda: LambdaMap) -> F64Array:
    """Return the cost of each position, float64 (h, w)."""
    return (costs.distortion + lmbda * costs.bits).sum(0, dtype=np.float64)


def _largest_of_blocks(planes: F32Array) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Return the place (channels, rows, columns) of the largest value in each block of planes (C, h, w)."""
    blocks = blocks_of(planes, BLOCK)
    channel, y, x = np.unravel_index(blocks.argmax(2), (len(planes), BLOCK, BLOCK))
    rows, columns = y + np.arange(blocks.shape[0])[:, None] * BLOCK, x + np.arange(blocks.shape[1]) * BLOCK
    return channel.ravel(), rows.ravel(), columns.ravel()


def blocks_of(planes: F32Array, side: int) -> F32Array:
    """Return planes (C, h, w) in blocks of so many rows and columns: (down, across, C * side * side).

    What blocks lack at the edges is less than anything.
    """
    channels, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -height % side), (0, -width % side)), constant_values=-np.inf)
    down, across = padded.shape[1] // side, padded.shape[2] // side
    return padded.reshape(channels, down, side, across, side).transpose(1, 3, 0, 2, 4).reshape(down, across, -1)


def sums_around(plane: NDArray[np.floating[Any]], reach: int) -> F64Array:
    """Return the sum of a plane (h, w) within so many rows and columns of each of its places."""
    side = 2 * reach + 1
    sums = np.pad(np.pad(plane.astype(np.float64), reach).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
