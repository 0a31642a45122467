"""I16Array that mend the image most for their bits, by the gradient of the decoder: the search of high efforts.

`quantize_rdo` counts errors of latents; what counts are errors of pixels, which the decoder makes of many latents together:
their squares, and how much structure is lost. That is judged beside the energy around it, so masking only has a say in
what is tried: in the first choice, and in how far it goes. The second derivative is taken for diagonal, one number a
channel, and measured by a random probe (M. F. Hutchinson, "A stochastic estimator of the trace of the influence
matrix", 1989).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sdtrt._arrays import AnyArray, BoolArray, F32Array, I16Array, I32Array, U8Array
from sdtrt.engine.coding.latent_file import TileToQuantize
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.coding.priors.passes import Pass, gather, non_empty, scatter, undo_channel_order
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA, quantize_rdo
from sdtrt.engine.coding.rdoq_search import blocks_of, search_symbols, sums_around
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.gradient import DecoderGradient, Distortion
from sdtrt.kernels import reference
from sdtrt.kernels.reference import SYMBOL_LIMIT

MIN_SIDE = 2  # latents: what gradients are of
HUTCHINSON_PROBE = 0.5  # steps, of one channel at each place
STRUCTURE_WEIGHT = 2 / 3  # by how much all that is lost counts, beside all squared errors, before anything has moved
MAX_CURVATURE_RATIO = (
    2  # times that of squared errors, the second derivative of lost structure, which flat places make large
)
DAMPING = 1.5  # the first steps go so much less far than the curvature tells
BLOCK, MOVES_PER_BLOCK = 2, 2  # latents a side, and how many symbols of a block move at once
EFFECT_RADIUS = 4  # latents on each side, to which the effect of a move is counted


class Iterations(NamedTuple):
    """How often symbols are changed: predicted ones all together, then the others a few at once."""

    predicted: int
    others: int


ITERATIONS_BY_EFFORT = {
    6: Iterations(1, 2),
    7: Iterations(2, 4),
    8: Iterations(3, 9),
    9: Iterations(5, 20),
}  # by effort; each runs the networks once


@dataclass(frozen=True, slots=True)
class GradientSearch:
    """Finds the symbols of an image's tiles; `latents`, float32 (C, h, w), are those of its `pixels`.

    `structure`, 0 to 1, is by how much of the usual lost structure counts.
    """

    gradient: DecoderGradient
    profile: LatentProfile
    pixels: U8Array
    latents: F32Array
    iterations: Iterations
    structure: float

    def __call__(self, tile: TileToQuantize) -> I16Array:
        """Return a tile's symbols, int16 (C, h, w)."""
        first = search_symbols(
            tile.scaled, tile.prior, tile.header.step_code, RDOQ_LAMBDA * tile.rate_weight, 0, tile.inner
        )
        if min(self.latents.shape[1:]) < MIN_SIDE:
            return first
        return _TileSearch(tile, _TileNeighbourhood(self, tile), STRUCTURE_WEIGHT * self.structure).of(
            first, self.iterations
        )


class _TileNeighbourhood:
    """A tile, and as much around it as its latents are seen in."""

    def __init__(self, refiner: GradientSearch, tile: TileToQuantize) -> None:
        self._gradient, self._step = refiner.gradient, tile.header.quant_step
        scale, reach, (_, height, width) = (
            refiner.profile.downscale,
            refiner.gradient.receptive_radius,
            refiner.latents.shape,
        )
        top, bottom = max(tile.rows[0] - reach, 0), min(tile.rows[1] + reach, height)
        left, right = max(tile.columns[0] - reach, 0), min(tile.columns[1] + reach, width)
        self._latents = refiner.latents[:, top:bottom, left:right].copy()
        self._own = np.s_[..., tile.rows[0] - top : tile.rows[1] - top, tile.columns[0] - left : tile.columns[1] - left]
        pixels = refiner.pixels[scale * top : scale * bottom, scale * left : scale * right]
        self._wanted = reference.pixels_to_planes(pixels, scale, *refiner.gradient.pixel_range)
        around = (
            (tile.rows[0] - top, bottom - tile.rows[1]),
            (tile.columns[0] - left, right - tile.columns[1]),
        )
        self._roi: F32Array = np.pad(tile.roi, around, mode="edge")
        self._weights = self._roi.repeat(scale, 0).repeat(scale, 1)
        self._weights[pixels.shape[0] :] = self._weights[:, pixels.shape[1] :] = 0  # they only fill the last latents
        filled = (np.clip(length - scale * np.arange(-(-length // scale)), 0, scale) for length in pixels.shape[:2])
        self._roi *= np.outer(*filled).astype(np.float32) / np.float32(scale**2)
        self._delta = channel_steps(refiner.profile, tile.header)[:, None, None]
        self._mean = refiner.profile.mean[:, None, None]

    def evaluate(self, steps: F32Array, structure: float) -> Distortion:
        """Return what is wrong at each latent of the tile, for latents in steps, if lost structure counts so much."""
        self._latents[self._own] = steps * self._delta + self._mean
        counted = np.float32(structure) * self._roi
        found = self._gradient.evaluate(self._latents, self._step, self._wanted, self._weights, counted)
        errors, lost = found.squared_error[self._own], (self._roi * found.structure_loss)[self._own]
        return Distortion(errors, lost, found.gradient[self._own] * self._delta)


class _SearchState(NamedTuple):
    """I16Array, and what is known of them: arrays (C, h, w), but for errors and bits of each latent, (h, w)."""

    symbols: I16Array
    points: F32Array  # steps beside the symbols
    errors: F32Array
    gradient: F32Array
    bits: F32Array
    direction: I16Array  # 1 or -1, the way to move
    rate_delta: F32Array  # more bits than now if moved, all others left
    moved_offsets: F32Array

    def where(self, chosen: BoolArray, other: "_SearchState") -> "_SearchState":
        """Return this one where it is `chosen`, bool (h, w), and elsewhere another."""
        both: Iterable[tuple[AnyArray, AnyArray]] = zip(self, other, strict=True)
        return _SearchState(*(np.where(chosen, mine, others) for mine, others in both))


class _TileSearch:
    """The search for a tile's symbols."""

    def __init__(self, tile: TileToQuantize, window: _TileNeighbourhood, share: float) -> None:
        self._tile, self._window, self._prior, self._code = tile, window, tile.prior, tile.header.step_code
        self._share, self._structure = share, 0.0  # how much structure counts: of squared errors, and as a number
        self._shape, self._order = tile.scaled.shape, tile.prior.order(len(tile.scaled))
        self._passes = non_empty(tile.prior.passes(len(tile.scaled)), *self._shape[1:])
        self._bits, self._centroids = bit_costs(tile.prior.tables), tile.prior.centroids

    def of(self, first: I16Array, iterations: Iterations) -> I16Array:
        """Return better symbols than the first."""
        *_, points, _ = self._costs(first, np.zeros_like(first))
        state, each = self._initial_state(first, points)
        if not each.mean() > 0:
            return first
        curvature, bit = each[:, None, None] / self._tile.rate_weight, RDOQ_LAMBDA * float(each.mean())
        state = self._update_predicted(state, curvature, bit, iterations.predicted)
        return self._update_others(state, curvature, bit, iterations.others).symbols

    def _initial_state(self, symbols: I16Array, points: F32Array) -> tuple[_SearchState, F32Array]:
        """Return state and curvature, with structure weighed by its share, or less where it would drown squares."""
        steps = symbols + points
        faults = self._window.evaluate(steps, 0)
        squares = self._curvature(steps, faults.gradient, 0)
        lost = float(faults.structure_loss.sum())
        self._structure = self._share * float(faults.squared_error.sum()) / lost if lost > 0 else 0.0
        if not self._structure or not squares.mean() > 0:
            return self._state_of(symbols, points, faults), squares
        state = self._state(symbols, points)
        both = max(squares, self._curvature(steps, state.gradient, self._structure), key=np.mean)
        excess = (both.mean() - squares.mean()) / (MAX_CURVATURE_RATIO * squares.mean())
        if excess <= 1:
            return state, both
        self._structure /= float(excess)
        gradient = faults.gradient + (state.gradient - faults.gradient) / np.float32(excess)
        return self._state_of(symbols, points, faults._replace(gradient=gradient)), squares + (both - squares) / excess

    def _update_predicted(self, state: _SearchState, curvature: F32Array, bit: float, iterations: int) -> _SearchState:
        """Return a state whose predicted symbols are chosen anew, for latents a step down the gradient, if that helps.

        They count from each other, so they change together or not at all.
        """
        if not any(coding_pass.predicted for _, coding_pass in self._passes):
            return state
        damping = DAMPING
        for _ in range(iterations):
            target = state.symbols + state.points - state.gradient / (2 * damping * curvature)
            trial = self._state(*self._predicted_for(target, bit / (damping * curvature), state))
            change = trial.errors - state.errors + bit * (trial.bits - state.bits)
            if change.sum(dtype=np.float64) < 0:
                state = trial
            else:
                damping *= 2
        return state

    def _update_others(self, state: _SearchState, curvature: F32Array, bit: float, iterations: int) -> _SearchState:
        """Return a state in which some of the others have moved by one.

        In each turn those move that promise most. Where their surroundings have not become cheaper they go back, and
        more is asked of the next.
        """
        others = np.ones(self._shape, bool)
        for _, coding_pass in self._passes:
            if coding_pass.predicted:
                others[self._order[coding_pass.start : coding_pass.stop]] = False
        damping = np.ones(self._shape[1:], np.float32)
        for _ in range(iterations):
            promise = np.abs(state.gradient) - damping * curvature - bit * state.rate_delta
            within = np.abs(state.symbols, dtype=np.int32) < SYMBOL_LIMIT - 1
            moves = _best_moves(np.where(others & within, promise, np.float32(0)))
            if not moves.any():
                break
            symbols = state.symbols + np.where(moves, state.direction, np.int16(0))
            trial = self._state(symbols, np.where(moves, state.moved_offsets, state.points))
            change = trial.errors - state.errors + bit * (trial.bits - state.bits)
            better = sums_around(change, EFFECT_RADIUS) <= 0
            state, damping = trial.where(better, state), np.where(better, damping, 2 * damping)
        return state

    def _state(self, symbols: I16Array, points: F32Array) -> _SearchState:
        return self._state_of(symbols, points, self._window.evaluate(symbols + points, self._structure))

    def _state_of(self, symbols: I16Array, points: F32Array, faults: Distortion) -> _SearchState:
        errors = faults.squared_error + np.float32(self._structure) * faults.structure_loss
        direction = np.where(faults.gradient < 0, 1, -1).astype(np.int16)
        bits, rate_delta, _, moved_offsets = self._costs(symbols, direction)
        return _SearchState(symbols, points, errors, faults.gradient, bits, direction, rate_delta, moved_offsets)

    def _curvature(self, steps: F32Array, gradient: F32Array, structure: float) -> F32Array:
        """Return half the second derivative of the error by each channel, float32 (C,), where bits have price 1."""
        rng = np.random.default_rng(0)
        channels = np.arange(self._shape[0])[:, None, None]
        probed = channels == rng.integers(self._shape[0], size=self._shape[1:])
        probe = probed * rng.choice(np.array([-HUTCHINSON_PROBE, HUTCHINSON_PROBE], np.float32), self._shape)
        moved = self._window.evaluate(steps + probe, structure).gradient
        changes, squares = probe * (moved - gradient) / 2, probe * probe / self._tile.rate_weight
        mean = np.maximum(changes.sum() / squares.sum(), 0)
        each = changes.sum((1, 2)) / np.maximum(squares.sum((1, 2)), np.float32(1e-9))
        return np.clip(each, mean / 2, 2 * mean)

    def _costs(self, symbols: I16Array, direction: I16Array) -> tuple[F32Array, F32Array, F32Array, F32Array]:
        """Return bits (h, w), and (C, h, w) each what a move `direction` spends, points now, and points if moved."""
        planes, coded, moves = self._planes(), symbols[self._order], direction[self._order]
        bits, moved_bits, points, moved_offsets = (np.zeros(self._shape, np.float32) for _ in range(4))
        for number, coding_pass in self._passes:
            context = self._prior.context(coding_pass, planes, number)
            known = gather(coded, coding_pass).astype(np.int32)
            rows, base, low_bits = context.table_rows(), context.base(), context.low_bits()
            for values, told, beside in (
                (known, bits, points),
                (known + gather(moves, coding_pass), moved_bits, moved_offsets),
            ):
                bins = bins_of(values - base, low_bits)
                scatter(told, coding_pass, self._bits[rows, bins])
                within = None if self._centroids is None else self._centroids[rows, bins].astype(np.int32)
                _scatter_points(beside, coding_pass, context.recon_offsets(values, within))
            planes.put(coding_pass, known, context.origin)
        rate_delta, *both = (
            undo_channel_order(plane, self._order) for plane in (moved_bits - bits, points, moved_offsets)
        )
        return bits.sum(0), rate_delta, *both

    def _predicted_for(self, target: F32Array, lmbda: F32Array, state: _SearchState) -> tuple[I16Array, F32Array]:
        """Return symbols and points with predicted ones chosen for latents, float32 (C, h, w) in steps."""
        planes, target, lmbda = self._planes(), target[self._order], lmbda[self._order]
        symbols, points = state.symbols[self._order], state.points[self._order]
        for number, coding_pass in self._passes:
            known, origin = gather(symbols, coding_pass).astype(np.int32), None
            if coding_pass.predicted:
                context = self._prior.context(coding_pass, planes, number)
                each, origin = gather(lmbda, coding_pass), context.origin
                known = quantize_rdo(gather(target, coding_pass), context, self._bits, self._centroids, each)
                scatter(symbols, coding_pass, known)
                _scatter_points(points, coding_pass, context.recon_offsets(known))
            planes.put(coding_pass, known, origin)
        return undo_channel_order(symbols, self._order), undo_channel_order(points, self._order)

    def _planes(self) -> Any:
        """Return planes of which nothing is known."""
        return self._prior.planes(self._shape, self._code, self._tile.inner)


def _scatter_points(planes: F32Array, coding_pass: Pass, points: I32Array | None) -> None:
    """Put a pass's points, in 1/64 step, into planes in steps; None stands for zeros, which are there."""
    if points is not None:
        scatter(planes, coding_pass, points * np.float32(1 / OFFSET_UNITS))


def _best_moves(promise: F32Array) -> BoolArray:
    """Return which of planes (C, h, w) are above 0, and among the largest of their block."""
    _, height, width = promise.shape
    least = np.partition(blocks_of(promise, BLOCK), -MOVES_PER_BLOCK, axis=2)[:, :, -MOVES_PER_BLOCK]
    return (promise > 0) & (promise >= least.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
