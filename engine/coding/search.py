"""A search for better symbols than `choose` finds pass by pass: it counts what each costs those that come after it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.choice import Multiplier, choose
from sdtrt.engine.coding.priors.passes import OUTER, Inner, gather, gather_plane, present, restored, scatter
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import bins_of, bits_of_tables

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]
Places = NDArray[np.intp]

BLOCK = 8  # latents a side: in each block of each trial one symbol is changed


@dataclass(frozen=True, slots=True)
class Costs:
    """What symbols cost, float32 (C, h, w) each: bits, and squared error in squares of what symbols lie apart."""

    bits: Floats
    errors: Floats
    left: Floats  # latents less their symbols, in symbols


def costs_of(symbols: Symbols, scaled: Floats, prior: Prior, step_code: int, inner: Inner = OUTER) -> Costs:
    """Return what symbols cost as the quantized form of latents in steps, (C, h, w) both."""
    order, table_bits, centroids = prior.order(len(symbols)), bits_of_tables(prior.tables), prior.centroids
    coded = symbols[order]
    planes = prior.planes(symbols.shape, step_code, inner)
    bits, left, points = (np.zeros(symbols.shape, np.float32) for _ in range(3))
    wanted = scaled[order]
    for number, step in present(prior.passes(len(symbols)), *symbols.shape[1:]):
        context = prior.context(step, planes, number)
        known = gather(coded, step).astype(np.int32)
        rows, bins = context.rows(), bins_of(known - context.base(), context.low_bits())
        scatter(bits, step, table_bits[rows, bins])
        scatter(left, step, context.counted(gather(wanted, step)) - known)
        if centroids is not None:
            scatter(points, step, centroids[rows, bins] * np.float32(1 / 64))
        planes.put(step, known, context.origin)
    return Costs(restored(bits, order), restored(np.square(left - points), order), restored(left, order))


def best_symbols(
    scaled: Floats, prior: Prior, step_code: int, multiplier: Multiplier, trials: int, inner: Inner = OUTER
) -> Symbols:
    """Return the symbols, int16 (C, h, w), that `choose` finds for latents in steps, improved by so many trials."""
    order, table_bits = prior.order(len(scaled)), bits_of_tables(prior.tables)
    coded = scaled[order]
    planes = prior.planes(scaled.shape, step_code, inner)
    symbols = np.zeros(scaled.shape, np.int16)
    for number, step in present(prior.passes(len(scaled)), *scaled.shape[1:]):
        context = prior.context(step, planes, number)
        each = multiplier if isinstance(multiplier, float) else gather_plane(multiplier, step)
        known = choose(gather(coded, step), context, table_bits, prior.centroids, each)
        planes.put(step, known, context.origin)
        scatter(symbols, step, known)
    return improved(restored(symbols, order), scaled, prior, step_code, multiplier, trials, inner)


def improved(
    symbols: Symbols,
    scaled: Floats,
    prior: Prior,
    step_code: int,
    multiplier: Multiplier,
    trials: int,
    inner: Inner = OUTER,
) -> Symbols:
    """Return symbols that cost less in squared error plus `multiplier` times bits, after so many trials.

    A trial moves one symbol in each block to the other side of its latent, the nearest to the middle that has not been
    tried, and keeps those moves that have made their surroundings cheaper.
    """
    costs = costs_of(symbols, scaled, prior, step_code, inner)
    cost, left, untried = _total(costs, multiplier), costs.left, np.abs(costs.left)
    for _ in range(trials):
        if untried.max() < 0:
            break
        places = _largest_of_blocks(untried)
        untried[places] = -1
        moved = symbols.copy()
        moved[places] += np.where(left[places] > 0, 1, -1).astype(np.int16)
        trial = _total(costs_of(moved, scaled, prior, step_code, inner), multiplier)
        is_better = sums_around(cost - trial, BLOCK // 2)[places[1:]] > 0
        kept = tuple(place[is_better] for place in places)
        symbols = symbols.copy()
        symbols[kept] = moved[kept]
        costs = costs_of(symbols, scaled, prior, step_code, inner)
        cost, left = _total(costs, multiplier), costs.left
    return symbols


def _total(costs: Costs, multiplier: Multiplier) -> NDArray[np.float64]:
    """Return the cost of each position, float64 (h, w)."""
    return (costs.errors + multiplier * costs.bits).sum(0, dtype=np.float64)


def _largest_of_blocks(planes: Floats) -> tuple[Places, Places, Places]:
    """Return the place (channels, rows, columns) of the largest value in each block of planes (C, h, w)."""
    blocks = blocks_of(planes, BLOCK)
    channel, y, x = np.unravel_index(blocks.argmax(2), (len(planes), BLOCK, BLOCK))
    rows, columns = y + np.arange(blocks.shape[0])[:, None] * BLOCK, x + np.arange(blocks.shape[1]) * BLOCK
    return channel.ravel(), rows.ravel(), columns.ravel()


def blocks_of(planes: Floats, side: int) -> Floats:
    """Return planes (C, h, w) in blocks of so many rows and columns: (down, across, C * side * side).

    What blocks lack at the edges is less than anything.
    """
    channels, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -height % side), (0, -width % side)), constant_values=-np.inf)
    down, across = padded.shape[1] // side, padded.shape[2] // side
    return padded.reshape(channels, down, side, across, side).transpose(1, 3, 0, 2, 4).reshape(down, across, -1)


def sums_around(plane: NDArray[np.floating[Any]], reach: int) -> NDArray[np.float64]:
    """Return the sum of a plane (h, w) within so many rows and columns of each of its places."""
    side = 2 * reach + 1
    sums = np.pad(np.pad(plane.astype(np.float64), reach).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
