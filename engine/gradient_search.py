"""Symbol search by the gradient of the decoder, for efforts from 6 on.

RDOQ (`coding.rdoq`) minimises the error of latents. This search minimises the error of decoded pixels: squared error
plus a structural, SSIM-like term. The structural term already models masking, so masking weights only affect the
starting point and the size of the moves. The second derivative is approximated by one number per channel, measured by
a random probe (M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import BoolArray, F32Array, I16Array, I32Array, U8Array
from sdtrt.engine.coding.latent_file import TileToQuantize
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.coding.priors.passes import Pass, gather, non_empty, scatter, undo_channel_order, walk_passes
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA, quantize_rdo
from sdtrt.engine.coding.rdoq_search import blocks_of, search_symbols, sums_around
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.gradient import DecoderGradient, Distortion
from sdtrt.kernels import SYMBOL_LIMIT, reference

MIN_SIDE = 2  # latents: the gradient network needs at least as many rows and columns
HUTCHINSON_PROBE = 0.5  # quantization steps, of one channel at each position
STRUCTURE_WEIGHT = 2 / 3  # weight of all lost structure relative to all squared error, at the starting point
MAX_CURVATURE_RATIO = (
    2  # of the structural term's second derivative to that of the squared error; flat regions exceed it
)
DAMPING = 1.5  # first moves are shorter by this factor than the curvature suggests
BLOCK, MOVES_PER_BLOCK = 2, 2  # latents a side, and symbols of a block that move together
EFFECT_RADIUS = 4  # latents: the effect of a move is summed up to this distance


class Iterations(NamedTuple):
    """Number of iterations: first over the predicted symbols, which change together, then over the others."""

    predicted: int
    others: int


# Each iteration runs the decoder and its gradient once.
ITERATIONS_BY_EFFORT = {6: Iterations(1, 2), 7: Iterations(2, 4), 8: Iterations(3, 9), 9: Iterations(5, 20)}


@dataclass(frozen=True, slots=True)
class GradientSearch:
    """Chooses the symbols of an image's tiles.

    Attributes:
        gradient: the decoder's gradient network.
        profile: latent profile of the model.
        pixels: uint8 (H, W, 3), the image.
        latents: float32 (C, h, w), its latents.
        iterations: number of iterations.
        structure: 0 to 1, share of the usual weight of lost structure.
    """

    gradient: DecoderGradient
    profile: LatentProfile
    pixels: U8Array
    latents: F32Array
    iterations: Iterations
    structure: float

    def __call__(self, tile: TileToQuantize) -> I16Array:
        """Return the symbols of a tile, int16 (C, h, w)."""
        lmbda = RDOQ_LAMBDA * tile.rate_weight
        first = search_symbols(tile.scaled, tile.prior, tile.header.step_code, lmbda, 0, tile.edges)
        if min(self.latents.shape[1:]) < MIN_SIDE:
            return first
        neighbourhood = _TileNeighbourhood(self, tile)
        return _TileSearch(tile, neighbourhood, STRUCTURE_WEIGHT * self.structure).run(first, self.iterations)


class _TileNeighbourhood:
    """A tile with the latents around it that its pixels depend on."""

    def __init__(self, search: GradientSearch, tile: TileToQuantize) -> None:
        self._gradient, self._quant_step = search.gradient, tile.header.quant_step
        scale, radius = search.profile.downscale, search.gradient.receptive_radius
        _, height, width = search.latents.shape
        top, bottom = max(tile.rows[0] - radius, 0), min(tile.rows[1] + radius, height)
        left, right = max(tile.columns[0] - radius, 0), min(tile.columns[1] + radius, width)
        self._latents = search.latents[:, top:bottom, left:right].copy()
        self._tile = np.s_[
            ..., tile.rows[0] - top : tile.rows[1] - top, tile.columns[0] - left : tile.columns[1] - left
        ]
        pixels = search.pixels[scale * top : scale * bottom, scale * left : scale * right]
        self._target = reference.pixels_to_planes(pixels, scale, *search.gradient.pixel_range)
        margins = (tile.rows[0] - top, bottom - tile.rows[1]), (tile.columns[0] - left, right - tile.columns[1])
        self._error_weights: F32Array = np.pad(tile.error_weight, margins, mode="edge")
        self._pixel_weights = self._error_weights.repeat(scale, 0).repeat(scale, 1)
        self._pixel_weights[pixels.shape[0] :] = self._pixel_weights[:, pixels.shape[1] :] = 0  # padding of the image
        covered = (np.clip(length - scale * np.arange(-(-length // scale)), 0, scale) for length in pixels.shape[:2])
        self._error_weights *= np.outer(*covered).astype(np.float32) / np.float32(scale**2)
        self._channel_steps = channel_steps(search.profile, tile.header)[:, None, None]
        self._mean = search.profile.mean[:, None, None]

    def distortion(self, scaled: F32Array, structure: float) -> Distortion:
        """Evaluate the decoder for latents of the tile.

        Arguments:
            scaled: float32 (C, h, w), latents of the tile in quantization steps.
            structure: weight of lost structure.

        Returns squared error and lost structure of each latent, and the gradient per quantization step.
        """
        self._latents[self._tile] = scaled * self._channel_steps + self._mean
        weights = np.float32(structure) * self._error_weights
        result = self._gradient.evaluate(self._latents, self._quant_step, self._target, self._pixel_weights, weights)
        structure_loss = (self._error_weights * result.structure_loss)[self._tile]
        gradient = result.gradient[self._tile] * self._channel_steps
        return Distortion(result.squared_error[self._tile], structure_loss, gradient)


class _SearchState(NamedTuple):
    """Symbols and their costs; arrays (C, h, w), but (h, w) for distortion and bits."""

    symbols: I16Array
    offsets: F32Array  # reconstruction offsets, in quantization steps
    distortion: F32Array
    gradient: F32Array
    bits: F32Array
    direction: I16Array  # 1 or -1: the move that lowers the distortion
    rate_delta: F32Array  # bits that the move of one symbol costs
    moved_offsets: F32Array  # reconstruction offsets after a move

    def where(self, mask: BoolArray, other: "_SearchState") -> "_SearchState":
        """Combine two states: this one where `mask`, bool (h, w), is true."""
        pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(self, other, strict=True)
        return _SearchState(*(np.where(mask, mine, theirs) for mine, theirs in pairs))


class _TileSearch:
    """The search for the symbols of one tile."""

    def __init__(self, tile: TileToQuantize, neighbourhood: _TileNeighbourhood, share: float) -> None:
        self._tile, self._neighbourhood, self._prior = tile, neighbourhood, tile.prior
        self._share = share  # weight of lost structure relative to the squared error
        self._structure = 0.0  # the same as a factor, once both are measured
        self._shape, self._order = tile.scaled.shape, tile.prior.order(len(tile.scaled))
        self._passes = [p for _, p in non_empty(tile.prior.passes(len(tile.scaled)), *self._shape[1:])]
        self._bits, self._centroids = bit_costs(tile.prior.tables), tile.prior.centroids

    def run(self, first: I16Array, iterations: Iterations) -> I16Array:
        """Improve symbols, int16 (C, h, w)."""
        *_, offsets, _ = self._rates(first, np.zeros_like(first))
        state, channel_curvature = self._initial_state(first, offsets)
        if not channel_curvature.mean() > 0:
            return first
        curvature = channel_curvature[:, None, None] / self._tile.rate_weight
        lmbda = RDOQ_LAMBDA * float(channel_curvature.mean())
        state = self._update_predicted(state, curvature, lmbda, iterations.predicted)
        return self._update_others(state, curvature, lmbda, iterations.others).symbols

    def _initial_state(self, symbols: I16Array, offsets: F32Array) -> tuple[_SearchState, F32Array]:
        """Measure distortion and curvature, and choose the weight of the structural term."""
        scaled = symbols + offsets
        distortion = self._neighbourhood.distortion(scaled, 0)
        curvature = self._curvature(scaled, distortion.gradient, 0)
        structure_loss = float(distortion.structure_loss.sum())
        if structure_loss > 0:
            self._structure = self._share * float(distortion.squared_error.sum()) / structure_loss
        if not self._structure or not curvature.mean() > 0:
            return self._state_of(symbols, offsets, distortion), curvature
        state = self._state(symbols, offsets)
        both = max(curvature, self._curvature(scaled, state.gradient, self._structure), key=np.mean)
        excess = (both.mean() - curvature.mean()) / (MAX_CURVATURE_RATIO * curvature.mean())
        if excess <= 1:
            return state, both
        self._structure /= float(excess)
        gradient = distortion.gradient + (state.gradient - distortion.gradient) / np.float32(excess)
        state = self._state_of(symbols, offsets, distortion._replace(gradient=gradient))
        return state, curvature + (both - curvature) / excess

    def _update_predicted(
        self, state: _SearchState, curvature: F32Array, lmbda: float, iterations: int
    ) -> _SearchState:
        """Quantize the predicted symbols again, for latents moved down the gradient; keep them if the cost falls.

        Each predicted symbol depends on the ones before it, so all of them change or none.
        """
        if not any(coding_pass.predicted for coding_pass in self._passes):
            return state
        damping = DAMPING
        for _ in range(iterations):
            target = state.symbols + state.offsets - state.gradient / (2 * damping * curvature)
            trial = self._state(*self._quantize_predicted(target, lmbda / (damping * curvature), state))
            change = trial.distortion - state.distortion + lmbda * (trial.bits - state.bits)
            if change.sum(dtype=np.float64) < 0:
                state = trial
            else:
                damping *= 2
        return state

    def _update_others(self, state: _SearchState, curvature: F32Array, lmbda: float, iterations: int) -> _SearchState:
        """Move the other symbols by one, those with the best predicted gain first.

        Moves whose surroundings did not become cheaper are undone, and the damping there is doubled.
        """
        is_other = np.ones(self._shape, bool)
        for coding_pass in self._passes:
            if coding_pass.predicted:
                is_other[self._order[coding_pass.start : coding_pass.stop]] = False
        damping = np.ones(self._shape[1:], np.float32)
        for _ in range(iterations):
            gain = np.abs(state.gradient) - damping * curvature - lmbda * state.rate_delta
            in_range = np.abs(state.symbols, dtype=np.int32) < SYMBOL_LIMIT - 1
            moves = _best_moves(np.where(is_other & in_range, gain, np.float32(0)))
            if not moves.any():
                break
            symbols = state.symbols + np.where(moves, state.direction, np.int16(0))
            trial = self._state(symbols, np.where(moves, state.moved_offsets, state.offsets))
            change = trial.distortion - state.distortion + lmbda * (trial.bits - state.bits)
            is_better = sums_around(change, EFFECT_RADIUS) <= 0
            state, damping = trial.where(is_better, state), np.where(is_better, damping, 2 * damping)
        return state

    def _state(self, symbols: I16Array, offsets: F32Array) -> _SearchState:
        distortion = self._neighbourhood.distortion(symbols + offsets, self._structure)
        return self._state_of(symbols, offsets, distortion)

    def _state_of(self, symbols: I16Array, offsets: F32Array, distortion: Distortion) -> _SearchState:
        total = distortion.squared_error + np.float32(self._structure) * distortion.structure_loss
        direction = np.where(distortion.gradient < 0, 1, -1).astype(np.int16)
        bits, rate_delta, _, moved_offsets = self._rates(symbols, direction)
        return _SearchState(symbols, offsets, total, distortion.gradient, bits, direction, rate_delta, moved_offsets)

    def _curvature(self, scaled: F32Array, gradient: F32Array, structure: float) -> F32Array:
        """Estimate half the second derivative of the distortion, float32 (C,), where the rate weight is 1."""
        rng = np.random.default_rng(0)
        channels = np.arange(self._shape[0])[:, None, None]
        is_probed = channels == rng.integers(self._shape[0], size=self._shape[1:])
        signs = rng.choice(np.array([-HUTCHINSON_PROBE, HUTCHINSON_PROBE], np.float32), self._shape)
        probe = is_probed * signs
        moved = self._neighbourhood.distortion(scaled + probe, structure).gradient
        changes, squares = probe * (moved - gradient) / 2, probe * probe / self._tile.rate_weight
        mean = np.maximum(changes.sum() / squares.sum(), 0)
        per_channel = changes.sum((1, 2)) / np.maximum(squares.sum((1, 2)), np.float32(1e-9))
        return np.clip(per_channel, mean / 2, 2 * mean)

    def _rates(self, symbols: I16Array, direction: I16Array) -> tuple[F32Array, F32Array, F32Array, F32Array]:
        """Compute the rate of symbols, and of single moves.

        Returns bits (h, w); and (C, h, w) each: bits that a move in `direction` costs while all other symbols stay,
        reconstruction offsets, and reconstruction offsets after a move.
        """
        ordered, moves = symbols[self._order], direction[self._order]
        bits, moved_bits, offsets, moved_offsets = (np.zeros(self._shape, np.float32) for _ in range(4))
        for visit in self._walk():
            coding_pass, context = visit.coding_pass, visit.context()
            values = gather(ordered, coding_pass).astype(np.int32)
            rows, base, low_bits = context.table_rows(), context.base(), context.low_bits()
            moved = values + gather(moves, coding_pass)
            for candidates, rates, places in ((values, bits, offsets), (moved, moved_bits, moved_offsets)):
                bins = bins_of(candidates - base, low_bits)
                scatter(rates, coding_pass, self._bits[rows, bins])
                bin_offsets = None if self._centroids is None else self._centroids[rows, bins].astype(np.int32)
                _scatter_offsets(places, coding_pass, context.recon_offsets(candidates, bin_offsets))
            visit.put(values)
        rate_delta, *both = (undo_channel_order(p, self._order) for p in (moved_bits - bits, offsets, moved_offsets))
        return bits.sum(0), rate_delta, *both

    def _quantize_predicted(self, target: F32Array, lmbda: F32Array, state: _SearchState) -> tuple[I16Array, F32Array]:
        """Quantize the predicted symbols for latents in quantization steps, float32 (C, h, w).

        Returns all symbols and reconstruction offsets.
        """
        target, lmbda = target[self._order], lmbda[self._order]
        symbols, offsets = state.symbols[self._order], state.offsets[self._order]
        for visit in self._walk():
            coding_pass = visit.coding_pass
            values = gather(symbols, coding_pass).astype(np.int32)
            if coding_pass.predicted:
                context = visit.context()
                pass_lmbda = gather(lmbda, coding_pass)
                values = quantize_rdo(gather(target, coding_pass), context, self._bits, self._centroids, pass_lmbda)
                scatter(symbols, coding_pass, values)
                _scatter_offsets(offsets, coding_pass, context.recon_offsets(values))
            visit.put(values)
        return undo_channel_order(symbols, self._order), undo_channel_order(offsets, self._order)

    def _walk(self) -> Any:
        return walk_passes(self._prior, self._shape, self._tile.header.step_code, self._tile.edges)


def _scatter_offsets(planes: F32Array, coding_pass: Pass, offsets: I32Array | None) -> None:
    """Put the offsets of a pass, in 1/64 quantization step, into planes in quantization steps; None leaves zeros."""
    if offsets is not None:
        scatter(planes, coding_pass, offsets * np.float32(1 / OFFSET_UNITS))


def _best_moves(gain: F32Array) -> BoolArray:
    """Return where planes (C, h, w) are positive and among the largest values of their block."""
    _, height, width = gain.shape
    threshold = np.partition(blocks_of(gain, BLOCK), -MOVES_PER_BLOCK, axis=2)[:, :, -MOVES_PER_BLOCK]
    return (gain > 0) & (gain >= threshold.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
