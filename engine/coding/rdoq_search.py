"""Search for better symbols than RDOQ finds pass by pass: it includes the cost that a symbol causes in later passes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import F32Array, F64Array, I16Array, IndexArray
from sdtrt.engine.coding.priors.core_prior import has_core
from sdtrt.engine.coding.priors.passes import (
    NO_INNER_EDGES,
    InnerEdges,
    gather,
    gather_plane,
    scatter,
    undo_channel_order,
    walk_passes,
)
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import bins_of, bit_costs
from sdtrt.engine.coding.rdoq import LambdaMap, quantize_rdo
from sdtrt.engine.coding.streams import core_streams
from sdtrt.engine.coding.streams.decoded import TileParameters

BLOCK = 8  # latents a side: each iteration changes one symbol in each block


@dataclass(frozen=True, slots=True)
class RdCosts:
    """Rate and distortion of symbols, float32 (C, h, w) each.

    Attributes:
        bits: rate of each symbol.
        distortion: squared error of each latent, in squared distances of neighbouring symbols.
        remainder: latent minus symbol, in the same distances.
    """

    bits: F32Array
    distortion: F32Array
    remainder: F32Array


def rd_costs(
    symbols: I16Array, scaled: F32Array, prior: Prior, step_code: int, edges: InnerEdges = NO_INNER_EDGES
) -> RdCosts:
    """Compute rate and distortion of symbols.

    Arguments:
        symbols: int16 (C, h, w).
        scaled: float32 (C, h, w), the latents in quantization steps.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """
    if has_core(prior):
        tile = TileParameters(symbols.shape, step_code, edges)
        rates, remainders, errors = core_streams.rate_and_distortion(symbols, scaled, tile, prior)
        return RdCosts(rates, np.square(errors), remainders)
    order, table_bits, centroids = prior.order(len(symbols)), bit_costs(prior.tables), prior.centroids
    ordered_symbols, ordered_targets = symbols[order], scaled[order]
    bits, remainder, offsets = (np.zeros(symbols.shape, np.float32) for _ in range(3))
    for visit in walk_passes(prior, symbols.shape, step_code, edges):
        coding_pass, context = visit.coding_pass, visit.context()
        values = gather(ordered_symbols, coding_pass).astype(np.int32)
        rows, bins = context.table_rows(), bins_of(values - context.base(), context.low_bits())
        scatter(bits, coding_pass, table_bits[rows, bins])
        target = context.to_symbol_units(gather(ordered_targets, coding_pass))
        scatter(remainder, coding_pass, target - values)
        if centroids is not None:
            scatter(offsets, coding_pass, centroids[rows, bins] * np.float32(1 / 64))
        visit.put(values)
    return RdCosts(
        undo_channel_order(bits, order),
        undo_channel_order(np.square(remainder - offsets), order),
        undo_channel_order(remainder, order),
    )


def search_symbols(
    scaled: F32Array,
    prior: Prior,
    step_code: int,
    lmbda: LambdaMap,
    iterations: int,
    edges: InnerEdges = NO_INNER_EDGES,
) -> I16Array:
    """Quantize latents by RDOQ, then refine the symbols.

    Arguments:
        scaled: float32 (C, h, w), the latents in quantization steps.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        lmbda: squared distances of symbols per bit; a number, or float32 (h, w).
        iterations: number of refinements, 0 for RDOQ alone.
        edges: which edges of the tile touch another tile.

    Returns the symbols, int16 (C, h, w).
    """
    symbols = _quantize(scaled, prior, step_code, lmbda, edges)
    return refine_symbols(symbols, scaled, prior, step_code, lmbda, iterations, edges)


def _quantize(scaled: F32Array, prior: Prior, step_code: int, lmbda: LambdaMap, edges: InnerEdges) -> I16Array:
    """Quantize latents by RDOQ, pass by pass."""
    if has_core(prior):
        tile = TileParameters(scaled.shape, step_code, edges)
        return core_streams.quantize(scaled, lmbda, tile, prior)
    order, table_bits = prior.order(len(scaled)), bit_costs(prior.tables)
    ordered, symbols = scaled[order], np.zeros(scaled.shape, np.int16)
    for visit in walk_passes(prior, scaled.shape, step_code, edges):
        coding_pass = visit.coding_pass
        pass_lmbda = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        values = quantize_rdo(gather(ordered, coding_pass), visit.context(), table_bits, prior.centroids, pass_lmbda)
        visit.put(values)
        scatter(symbols, coding_pass, values)
    return undo_channel_order(symbols, order)


def refine_symbols(
    symbols: I16Array,
    scaled: F32Array,
    prior: Prior,
    step_code: int,
    lmbda: LambdaMap,
    iterations: int,
    edges: InnerEdges = NO_INNER_EDGES,
) -> I16Array:
    """Lower D + lambda R of symbols by single moves.

    In each block an iteration moves one symbol to the other side of its latent. It takes the untried symbol whose
    latent is nearest to the middle between two symbols. A move is kept if it lowers the cost of its surroundings.

    The arguments are those of `search_symbols`.
    """
    costs = rd_costs(symbols, scaled, prior, step_code, edges)
    cost, remainder, untried = _total(costs, lmbda), costs.remainder, np.abs(costs.remainder)
    for _ in range(iterations):
        if untried.max() < 0:
            break
        places = _largest_of_blocks(untried)
        untried[places] = -1
        moved = symbols.copy()
        moved[places] += np.where(remainder[places] > 0, 1, -1).astype(np.int16)
        moved_cost = _total(rd_costs(moved, scaled, prior, step_code, edges), lmbda)
        is_better = sums_around(cost - moved_cost, BLOCK // 2)[places[1:]] > 0
        better_places = tuple(place[is_better] for place in places)
        symbols = symbols.copy()
        symbols[better_places] = moved[better_places]
        costs = rd_costs(symbols, scaled, prior, step_code, edges)
        cost, remainder = _total(costs, lmbda), costs.remainder
    return symbols


def _total(costs: RdCosts, lmbda: LambdaMap) -> F64Array:
    """Sum D + lambda R over the channels: float64 (h, w)."""
    return (costs.distortion + lmbda * costs.bits).sum(0, dtype=np.float64)


def _largest_of_blocks(planes: F32Array) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Find the largest value in each block of planes (C, h, w); return its channels, rows and columns."""
    blocks = blocks_of(planes, BLOCK)
    channel, y, x = np.unravel_index(blocks.argmax(2), (len(planes), BLOCK, BLOCK))
    rows, columns = y + np.arange(blocks.shape[0])[:, None] * BLOCK, x + np.arange(blocks.shape[1]) * BLOCK
    return channel.ravel(), rows.ravel(), columns.ravel()


def blocks_of(planes: F32Array, side: int) -> F32Array:
    """Cut planes (C, h, w) into blocks of `side` x `side`: (blocks down, blocks across, C * side * side).

    Positions beyond the plane are minus infinity.
    """
    channels, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -height % side), (0, -width % side)), constant_values=-np.inf)
    down, across = padded.shape[1] // side, padded.shape[2] // side
    return padded.reshape(channels, down, side, across, side).transpose(1, 3, 0, 2, 4).reshape(down, across, -1)


def sums_around(plane: NDArray[np.floating[Any]], radius: int) -> F64Array:
    """Sum a plane (h, w) over the square of `radius` rows and columns around each position: float64 (h, w)."""
    side = 2 * radius + 1
    sums = np.pad(np.pad(plane.astype(np.float64), radius).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
