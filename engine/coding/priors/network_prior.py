"""Priors with a small network for each pass, in exact integer arithmetic.

The inputs of a network are the known latents in 1/64 of a normalised unit, not symbols. Its outputs are in the same
unit. So they do not depend on the quantization step, and a prior serves every quality. The conversion between symbols
and units multiplies by the step in fixed point, `step_fixed_point`. `docs/format.md`, section 3.5, is normative.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from sdtrt._arrays import AnyArray, F32Array, F64Array, I8Array, I32Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.passes import (
    NO_INNER_EDGES,
    InnerEdges,
    PaddedPlanes,
    PlaneSlice,
    len_of_slice,
    neighbour_slice,
    positions_of,
)
from sdtrt.engine.coding.priors.prior_layout import Architecture, LatentPass, num_channels, parse_architecture
from sdtrt.engine.coding.priors.tables import LOCATION_LIMIT, NUM_SCALES, OFFSET_UNITS, SUBSYMBOL_STEPS, Context
from sdtrt.errors import BundleError, FormatError

SYMBOL_SHIFT, FINE_SHIFT = 16, 23  # of `to_units`
WEIGHT_LIMIT = (1 << 15) - 1  # of the magnitude of weights; biases may be larger
LIMIT = 1023  # of the magnitude of latents and of hidden units, as integers
ORIGIN_LIMIT = OFFSET_UNITS * LOCATION_LIMIT // SUBSYMBOL_STEPS
HIDDEN_SHIFT, SECOND_SHIFT = 6, 9  # fractional bits of the weights of the two hidden layers
INDEX_SHIFT = 12  # an output of 2**12 is one scale index
INDICES_PER_CODE = 48  # change of the output for one step code: 3 scale indices for each doubling of the step
KNOTS, FIRST_KNOT, KNOT_SPACING = 17, 768, 160  # of the step embedding, in step codes
FEATURE_LIMIT = 127  # of the step embedding

# The names of a network's arrays in a prior's file, with the number of its pass appended: part of the format.
ARRAY_NAMES = ("first", "first_bias", "second", "second_bias", "output")


@cache
def step_fixed_point(code: int) -> int:
    """Return the quantization step of a code times 2**22, rounded down: floor(2**(22 + (code - 2048) / 256))."""
    value = 1 << (22 * 256 + code - 2048)
    for _ in range(8):
        value = math.isqrt(value)
    return value


@dataclass(frozen=True, slots=True)
class PassNetwork:
    """The network of one pass: two hidden layers, and a linear shortcut from the inputs to the outputs.

    Inputs are latents, compressed magnitudes and the step embedding. Outputs are the locations of the pass's channels,
    then their scales. The arrays are float32 and hold integers.

    Arguments:
        first: (units + outputs, inputs + KNOTS), weights of the first hidden layer, then of the shortcut.
        first_bias: (units + outputs,).
        second: (second units, units), weights of the second hidden layer.
        second_bias: (second units,).
        output: (outputs, second units), weights of the output layer.
    """

    first: F32Array
    first_bias: F32Array
    second: F32Array
    second_bias: F32Array
    output: F32Array

    def largest_sum(self, coding_pass: LatentPass) -> int:
        """Return a bound on the magnitude of every partial sum, in any order, for inputs within their limits.

        The bound is computed in float64, which does not overflow; its rounding errors begin far above 2**24.
        """
        inputs = np.full(coding_pass.inputs, float(MAGNITUDE[-1]))
        inputs[: num_channels(coding_pass.values)] = LIMIT
        first = _magnitudes(self.first)
        features = first[:, coding_pass.inputs :]
        pairs = features[:, 1:] + features[:, :-1]  # at most two neighbouring features are not 0
        first = first[:, : coding_pass.inputs] @ inputs + FEATURE_LIMIT * pairs.max(1) + _magnitudes(self.first_bias)
        second = _magnitudes(self.second).sum(1) * LIMIT + _magnitudes(self.second_bias)
        output = first[len(first) - len(self.output) :] + _magnitudes(self.output).sum(1) * LIMIT
        return int(max(first.max(), second.max(), output.max()))

    def largest_weight(self) -> int:
        """Return the largest magnitude of a weight."""
        return int(max(_magnitudes(weights).max(initial=0) for weights in (self.first, self.second, self.output)))

    def __call__(self, inputs: F32Array, features: F32Array) -> I32Array:
        """Return outputs, int32 (outputs, positions), for inputs (inputs, positions) and features (KNOTS,)."""
        count, units = len(inputs), self.second.shape[1]
        sums = self.first[:, :count] @ inputs
        sums += (self.first[:, count:] @ features + self.first_bias)[:, None]
        second_sums = self.second @ _activation(sums[:units], HIDDEN_SHIFT)
        second_sums += self.second_bias[:, None]
        outputs = self.output @ _activation(second_sums, SECOND_SHIFT)
        outputs += sums[units:]
        return outputs.astype(np.int32)


def _magnitudes(weights: F32Array) -> F64Array:
    return np.abs(weights.astype(np.float64))


def _activation(sums: F32Array, shift: int) -> F32Array:
    """Return floor(sums / 2**shift), clamped to 0 … LIMIT, in place."""
    sums *= np.float32(2.0**-shift)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, LIMIT, out=sums)


class LatentPlanes:
    """The latents known so far, and their compressed magnitudes."""

    def __init__(
        self, shape: tuple[int, int, int], step_code: int, magnitudes: bool = True, inner: InnerEdges = NO_INNER_EDGES
    ) -> None:
        _, self.height, self.width = shape
        self.step_code = step_code
        self.features = step_embedding(step_code)
        # Latents, and their compressed magnitudes if a pass uses them.
        self._planes = [PaddedPlanes(shape, inner) for _ in range(1 + magnitudes)]

    def put(self, coding_pass: LatentPass, symbols: I32Array, origin: I32Array | None = None) -> None:
        """Store the symbols of a pass, and the origin of its context, (channels of the pass, positions) both."""
        if origin is None:
            values = to_units(symbols, step_fixed_point(self.step_code), SYMBOL_SHIFT)
        else:
            values = to_units(origin + coding_pass.spacing * symbols, step_fixed_point(self.step_code), FINE_SHIFT)
        self._planes[0].put(coding_pass, values)
        if len(self._planes) == 2:
            self._planes[1].put(coding_pass, MAGNITUDE[np.abs(values)])

    def inputs(self, coding_pass: LatentPass) -> F32Array:
        """Return the inputs of a pass's network, float32 (inputs, positions)."""
        parts = positions_of(coding_pass.phase, self.height, self.width)
        inputs = np.empty((coding_pass.inputs, parts[-1][0].stop), np.float32)
        for part, rows, columns in parts:
            of_part = inputs[:, part].reshape(coding_pass.inputs, len_of_slice(rows), len_of_slice(columns))
            for target, plane, index in input_slices(coding_pass, rows.start, columns.start, self.height, self.width):
                of_part[target] = self._planes[plane][index]
        return inputs


@lru_cache(1024)
def input_slices(
    coding_pass: LatentPass, row: int, column: int, height: int, width: int
) -> list[tuple[slice, int, PlaneSlice]]:
    """Return the copies that make the inputs of a pass, for the phase's offset (row, column).

    For each window these are: its slice of the inputs, the index of `LatentPlanes._planes`, and the index within.
    """
    copies = []
    first = 0
    stride = coding_pass.phase.stride
    rows, columns = slice(row, height, stride), slice(column, width, stride)
    for plane, windows in enumerate((coding_pass.values, coding_pass.magnitudes)):
        for window in windows:
            last = first + window.last - window.first
            index = neighbour_slice(rows, columns, window.dy, window.dx, slice(window.first, window.last))
            copies.append((slice(first, last), plane, index))
            first = last
    return copies


def to_units(values: I32Array, fixed_point_step: int, shift: int) -> I32Array:
    """Return latents in quantization steps as latents in fractions of a normalised unit, rounded and clamped.

    Arguments:
        values: int32, symbols, or the latents of predicted passes in 1/64 step.
        fixed_point_step: the quantization step times 2**22, as of `step_fixed_point`.
        shift: 16 from symbols to 1/64 unit; 23 from 1/64 step to 1/32 unit, which predicted passes use.

    Returns int32 from -LIMIT to LIMIT.
    """
    scaled = (values.astype(np.int64) * fixed_point_step + (1 << shift - 1)) >> shift
    return clamp(scaled, -LIMIT, LIMIT).astype(np.int32)


def clamp(values: AnyArray, low: int, high: int, out: AnyArray | None = None) -> AnyArray:
    """Return values clamped to `low` … `high`, ten times as fast as `np.clip` for small arrays."""
    return np.minimum(np.maximum(values, low, out=out), high, out=out)


def step_embedding(step_code: int) -> F32Array:
    """Return the features of a step code, float32 (KNOTS,): for each knot 127 at the knot, falling to 0 at the next."""
    code = min(max(step_code, FIRST_KNOT), FIRST_KNOT + KNOT_SPACING * (KNOTS - 1))
    distance = np.abs(FIRST_KNOT + KNOT_SPACING * np.arange(KNOTS) - code)
    return np.maximum(FEATURE_LIMIT - FEATURE_LIMIT * distance // KNOT_SPACING, 0).astype(np.float32)


class NetworkPrior:
    """A prior with a trained network for each pass.

    Arguments:
        architecture: the passes and the inputs of their networks.
        networks: one for each pass.
        tables: uint32 (256, 32), see `tables`.
        centroids: int8 of the tables' shape, reconstruction offsets of bins in 1/64 symbol; None without any.

    Raises `BundleError` if a sum of a network could be inexact in float32, or a weight exceeds 16 bits.
    """

    def __init__(
        self,
        architecture: Architecture,
        networks: list[PassNetwork],
        tables: U32Array,
        centroids: I8Array | None,
    ) -> None:
        self.architecture, self.networks, self.tables, self.centroids = architecture, networks, tables, centroids
        self.cuts = architecture.cuts
        self.has_recon_offsets = centroids is not None or any(p.predicted for p in architecture.passes)
        self._magnitudes = any(coding_pass.magnitudes for coding_pass in architecture.passes)
        if len(networks) != len(architecture.passes):
            raise BundleError(f"prior has {len(networks)} networks for {len(architecture.passes)} passes")
        if self.largest_sum() >= 1 << 24:
            raise BundleError("the prior's sums may reach 2**24: its arithmetic would not be exact")
        if max(network.largest_weight() for network in networks) > WEIGHT_LIMIT:
            raise BundleError(f"the prior has weights beyond +-{WEIGHT_LIMIT}: they have 16 bits")

    def largest_sum(self) -> int:
        """Return a bound on the magnitude of every partial sum of the networks."""
        return max(
            n.largest_sum(coding_pass) for n, coding_pass in zip(self.networks, self.architecture.passes, strict=True)
        )

    def order(self, channels: int) -> IndexArray:
        if channels != len(self.architecture.order):
            raise FormatError(f"the prior is for {len(self.architecture.order)} channels, found {channels}")
        return np.array(self.architecture.order, np.intp)

    def passes(self, channels: int) -> tuple[LatentPass, ...]:
        return self.architecture.passes

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> LatentPlanes:
        return LatentPlanes(shape, step_code, self._magnitudes, inner)

    def context(self, coding_pass: LatentPass, planes: LatentPlanes, number: int) -> Context:
        code = planes.step_code
        outputs = self.networks[number](planes.inputs(coding_pass), planes.features)
        channels = coding_pass.stop - coding_pass.start
        # Dividing by the step of `code` is multiplying by the step of 4096 - code.
        locations = outputs[:channels].astype(np.int64) * step_fixed_point(4096 - code)
        scale = clamp((outputs[channels:] + INDICES_PER_CODE * (2048 - code)) >> INDEX_SHIFT, 0, NUM_SCALES - 1)
        if not coding_pass.predicted:
            location = clamp((locations + (1 << 36)) >> 37, -LOCATION_LIMIT, LOCATION_LIMIT - 1)
            return Context(location.astype(np.int32), scale)
        origin = clamp((locations + (1 << 32)) >> 33, -ORIGIN_LIMIT, ORIGIN_LIMIT - 1).astype(np.int32)
        return Context(np.zeros_like(scale), scale, origin, coding_pass.spacing)


def prior_from_arrays(arrays: dict[str, Any]) -> NetworkPrior:
    """Return the prior in the arrays of a prior's file, which are not checked."""
    architecture = parse_architecture(bytes(arrays["architecture"]).decode())
    networks = [
        PassNetwork(*(arrays[f"{name}{n}"].astype(np.float32) for name in ARRAY_NAMES))
        for n in range(len(architecture.passes))
    ]
    return NetworkPrior(architecture, networks, arrays["tables"], arrays.get("centroids"))


# 32 * log2(1 + n / 8), rounded, for n = 0 … 1023. These integers are part of the format.
MAGNITUDE = np.round(32 * np.log2(1 + np.arange(LIMIT + 1) / 8)).astype(np.int32)
