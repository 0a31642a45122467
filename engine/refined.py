"""Symbols that mend the picture most for their bits, by the gradient of the decoder: the search of high efforts.

`choose` counts errors of latents; what counts are errors of pixels, which the decoder makes of many latents together:
their squares, and how much structure is lost. That is judged beside the energy around it, so masking only has a say in
what is tried: in the first choice, and in how far it goes. The second derivative is taken for diagonal, one number a
channel, and measured by a random probe (M. F. Hutchinson, "A stochastic estimator of the trace of the influence
matrix", 1989).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.choice import MULTIPLIER, choose
from sdtrt.engine.coding.latents import Tile
from sdtrt.engine.coding.priors.passes import Pass, gather, present, restored, scatter
from sdtrt.engine.coding.priors.tables import POINTS, bins_of, bits_of_tables
from sdtrt.engine.coding.search import best_symbols, blocks_of, sums_around
from sdtrt.engine.coding.stored import deltas
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.gradient import Faults, Gradient
from sdtrt.kernels import reference
from sdtrt.kernels.reference import SYMBOL_LIMIT

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]
Pixels = NDArray[np.uint8]

LEAST_SIDE = 2  # latents: what gradients are of
PROBE = 0.5  # steps, of one channel at each place
STRUCTURE = 2 / 3  # by how much all that is lost counts, beside all squared errors, before anything has moved
MOST_CURVED = 2  # times that of squared errors, the second derivative of lost structure, which flat places make large
CAUTION = 1.5  # the first steps go so much less far than the curvature tells
BLOCK, MOVES = 2, 2  # latents a side, and how many symbols of a block move at once
AROUND = 4  # latents on each side, to which the effect of a move is counted


class Turns(NamedTuple):
    """How often symbols are changed: predicted ones all together, then the others a few at once."""

    predicted: int
    others: int


TURNS = {6: Turns(1, 2), 7: Turns(2, 4), 8: Turns(3, 9), 9: Turns(5, 20)}  # by effort; each runs the networks once


@dataclass(frozen=True, slots=True)
class Refiner:
    """Finds the symbols of a picture's tiles; `latents`, float32 (C, h, w), are those of its `pixels`.

    `structure`, 0 to 1, is by how much of the usual lost structure counts.
    """

    gradient: Gradient
    profile: LatentProfile
    pixels: Pixels
    latents: Floats
    turns: Turns
    structure: float

    def __call__(self, tile: Tile) -> Symbols:
        """Return a tile's symbols, int16 (C, h, w)."""
        first = best_symbols(tile.scaled, tile.prior, tile.header.step_code, MULTIPLIER * tile.price, 0, tile.inner)
        if min(self.latents.shape[1:]) < LEAST_SIDE:
            return first
        return _Refinement(tile, _Window(self, tile), STRUCTURE * self.structure).of(first, self.turns)


class _Window:
    """A tile, and as much around it as its latents are seen in."""

    def __init__(self, refiner: Refiner, tile: Tile) -> None:
        self._gradient, self._step = refiner.gradient, tile.header.step
        scale, reach, (_, height, width) = refiner.profile.downscale, refiner.gradient.reach, refiner.latents.shape
        top, bottom = max(tile.rows[0] - reach, 0), min(tile.rows[1] + reach, height)
        left, right = max(tile.columns[0] - reach, 0), min(tile.columns[1] + reach, width)
        self._latents = refiner.latents[:, top:bottom, left:right].copy()
        self._own = np.s_[..., tile.rows[0] - top : tile.rows[1] - top, tile.columns[0] - left : tile.columns[1] - left]
        pixels = refiner.pixels[scale * top : scale * bottom, scale * left : scale * right]
        self._wanted = reference.pixels_to_planes(pixels, scale, *refiner.gradient.pixel_range)
        around = (tile.rows[0] - top, bottom - tile.rows[1]), (tile.columns[0] - left, right - tile.columns[1])
        self._interest: Floats = np.pad(tile.interest, around, mode="edge")
        self._weights = self._interest.repeat(scale, 0).repeat(scale, 1)
        self._weights[pixels.shape[0] :] = self._weights[:, pixels.shape[1] :] = 0  # they only fill the last latents
        filled = (np.clip(length - scale * np.arange(-(-length // scale)), 0, scale) for length in pixels.shape[:2])
        self._interest *= np.outer(*filled).astype(np.float32) / np.float32(scale**2)
        self._delta = deltas(refiner.profile, tile.header)[:, None, None]
        self._mean = refiner.profile.mean[:, None, None]

    def at(self, steps: Floats, structure: float) -> Faults:
        """Return what is wrong at each latent of the tile, for latents in steps, if lost structure counts so much."""
        self._latents[self._own] = steps * self._delta + self._mean
        counted = np.float32(structure) * self._interest
        found = self._gradient.at(self._latents, self._step, self._wanted, self._weights, counted)
        errors, lost = found.errors[self._own], (self._interest * found.lost)[self._own]
        return Faults(errors, lost, found.gradient[self._own] * self._delta)


class _State(NamedTuple):
    """Symbols, and what is known of them: arrays (C, h, w), but for errors and bits of each latent, (h, w)."""

    symbols: Symbols
    points: Floats  # steps beside the symbols
    errors: Floats
    gradient: Floats
    bits: Floats
    towards: Symbols  # 1 or -1, the way to move
    spent: Floats  # more bits than now if moved, all others left
    moved_points: Floats

    def where(self, chosen: NDArray[np.bool_], other: "_State") -> "_State":
        """Return this one where it is `chosen`, bool (h, w), and elsewhere another."""
        both: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(self, other, strict=True)
        return _State(*(np.where(chosen, mine, others) for mine, others in both))


class _Refinement:
    """The search for a tile's symbols."""

    def __init__(self, tile: Tile, window: _Window, share: float) -> None:
        self._tile, self._window, self._prior, self._code = tile, window, tile.prior, tile.header.step_code
        self._share, self._structure = share, 0.0  # how much structure counts: of squared errors, and as a number
        self._shape, self._order = tile.scaled.shape, tile.prior.order(len(tile.scaled))
        self._passes = present(tile.prior.passes(len(tile.scaled)), *self._shape[1:])
        self._bits, self._centroids = bits_of_tables(tile.prior.tables), tile.prior.centroids

    def of(self, first: Symbols, turns: Turns) -> Symbols:
        """Return better symbols than the first."""
        *_, points, _ = self._costs(first, np.zeros_like(first))
        state, each = self._weighed(first, points)
        if not each.mean() > 0:
            return first
        curvature, bit = each[:, None, None] / self._tile.price, MULTIPLIER * float(each.mean())
        state = self._with_predicted(state, curvature, bit, turns.predicted)
        return self._with_others(state, curvature, bit, turns.others).symbols

    def _weighed(self, symbols: Symbols, points: Floats) -> tuple[_State, Floats]:
        """Return state and curvature, with structure weighed by its share, or less where it would drown squares."""
        steps = symbols + points
        faults = self._window.at(steps, 0)
        squares = self._curvature(steps, faults.gradient, 0)
        lost = float(faults.lost.sum())
        self._structure = self._share * float(faults.errors.sum()) / lost if lost > 0 else 0.0
        if not self._structure or not squares.mean() > 0:
            return self._state_of(symbols, points, faults), squares
        state = self._state(symbols, points)
        both = max(squares, self._curvature(steps, state.gradient, self._structure), key=np.mean)
        excess = (both.mean() - squares.mean()) / (MOST_CURVED * squares.mean())
        if excess <= 1:
            return state, both
        self._structure /= float(excess)
        gradient = faults.gradient + (state.gradient - faults.gradient) / np.float32(excess)
        return self._state_of(symbols, points, faults._replace(gradient=gradient)), squares + (both - squares) / excess

    def _with_predicted(self, state: _State, curvature: Floats, bit: float, turns: int) -> _State:
        """Return a state whose predicted symbols are chosen anew, for latents a step down the gradient, if that helps.

        They count from each other, so they change together or not at all.
        """
        if not any(step.predicted for _, step in self._passes):
            return state
        caution = CAUTION
        for _ in range(turns):
            wanted = state.symbols + state.points - state.gradient / (2 * caution * curvature)
            trial = self._state(*self._predicted_for(wanted, bit / (caution * curvature), state))
            change = trial.errors - state.errors + bit * (trial.bits - state.bits)
            if change.sum(dtype=np.float64) < 0:
                state = trial
            else:
                caution *= 2
        return state

    def _with_others(self, state: _State, curvature: Floats, bit: float, turns: int) -> _State:
        """Return a state in which some of the others have moved by one.

        In each turn those move that promise most. Where their surroundings have not become cheaper they go back, and
        more is asked of the next.
        """
        others = np.ones(self._shape, bool)
        for _, step in self._passes:
            if step.predicted:
                others[self._order[step.start : step.stop]] = False
        caution = np.ones(self._shape[1:], np.float32)
        for _ in range(turns):
            promise = np.abs(state.gradient) - caution * curvature - bit * state.spent
            within = np.abs(state.symbols, dtype=np.int32) < SYMBOL_LIMIT - 1
            moves = _best_of_blocks(np.where(others & within, promise, np.float32(0)))
            if not moves.any():
                break
            symbols = state.symbols + np.where(moves, state.towards, np.int16(0))
            trial = self._state(symbols, np.where(moves, state.moved_points, state.points))
            change = trial.errors - state.errors + bit * (trial.bits - state.bits)
            better = sums_around(change, AROUND) <= 0
            state, caution = trial.where(better, state), np.where(better, caution, 2 * caution)
        return state

    def _state(self, symbols: Symbols, points: Floats) -> _State:
        return self._state_of(symbols, points, self._window.at(symbols + points, self._structure))

    def _state_of(self, symbols: Symbols, points: Floats, faults: Faults) -> _State:
        errors = faults.errors + np.float32(self._structure) * faults.lost
        towards = np.where(faults.gradient < 0, 1, -1).astype(np.int16)
        bits, spent, _, moved_points = self._costs(symbols, towards)
        return _State(symbols, points, errors, faults.gradient, bits, towards, spent, moved_points)

    def _curvature(self, steps: Floats, gradient: Floats, structure: float) -> Floats:
        """Return half the second derivative of the error by each channel, float32 (C,), where bits have price 1."""
        rng = np.random.default_rng(0)
        channels = np.arange(self._shape[0])[:, None, None]
        probed = channels == rng.integers(self._shape[0], size=self._shape[1:])
        probe = probed * rng.choice(np.array([-PROBE, PROBE], np.float32), self._shape)
        moved = self._window.at(steps + probe, structure).gradient
        changes, squares = probe * (moved - gradient) / 2, probe * probe / self._tile.price
        mean = np.maximum(changes.sum() / squares.sum(), 0)
        each = changes.sum((1, 2)) / np.maximum(squares.sum((1, 2)), np.float32(1e-9))
        return np.clip(each, mean / 2, 2 * mean)

    def _costs(self, symbols: Symbols, towards: Symbols) -> tuple[Floats, Floats, Floats, Floats]:
        """Return bits (h, w), and (C, h, w) each what a move `towards` spends, points now, and points if moved."""
        planes, coded, moves = self._planes(), symbols[self._order], towards[self._order]
        bits, moved_bits, points, moved_points = (np.zeros(self._shape, np.float32) for _ in range(4))
        for number, step in self._passes:
            context = self._prior.context(step, planes, number)
            known = gather(coded, step).astype(np.int32)
            rows, base, low_bits = context.rows(), context.base(), context.low_bits()
            for values, told, beside in (
                (known, bits, points),
                (known + gather(moves, step), moved_bits, moved_points),
            ):
                bins = bins_of(values - base, low_bits)
                scatter(told, step, self._bits[rows, bins])
                within = None if self._centroids is None else self._centroids[rows, bins].astype(np.int32)
                _scatter_points(beside, step, context.points(values, within))
            planes.put(step, known, context.origin)
        spent, *both = (restored(plane, self._order) for plane in (moved_bits - bits, points, moved_points))
        return bits.sum(0), spent, *both

    def _predicted_for(self, wanted: Floats, multiplier: Floats, state: _State) -> tuple[Symbols, Floats]:
        """Return symbols and points with predicted ones chosen for latents, float32 (C, h, w) in steps."""
        planes, wanted, multiplier = self._planes(), wanted[self._order], multiplier[self._order]
        symbols, points = state.symbols[self._order], state.points[self._order]
        for number, step in self._passes:
            known, origin = gather(symbols, step).astype(np.int32), None
            if step.predicted:
                context = self._prior.context(step, planes, number)
                each, origin = gather(multiplier, step), context.origin
                known = choose(gather(wanted, step), context, self._bits, self._centroids, each)
                scatter(symbols, step, known)
                _scatter_points(points, step, context.points(known))
            planes.put(step, known, origin)
        return restored(symbols, self._order), restored(points, self._order)

    def _planes(self) -> Any:
        """Return planes of which nothing is known."""
        return self._prior.planes(self._shape, self._code, self._tile.inner)


def _scatter_points(planes: Floats, step: Pass, points: NDArray[np.int32] | None) -> None:
    """Put a pass's points, in 1/64 step, into planes in steps; None stands for zeros, which are there."""
    if points is not None:
        scatter(planes, step, points * np.float32(1 / POINTS))


def _best_of_blocks(promise: Floats) -> NDArray[np.bool_]:
    """Return which of planes (C, h, w) are above 0, and among the largest of their block."""
    _, height, width = promise.shape
    least = np.partition(blocks_of(promise, BLOCK), -MOVES, axis=2)[:, :, -MOVES]
    return (promise > 0) & (promise >= least.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
