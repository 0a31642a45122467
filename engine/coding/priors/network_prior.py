"""Priors whose networks see latents: what they predict holds at every step, so one prior serves every quality.

The symbols known so far enter as latents in 1/64 of a normalised unit, and networks answer in such units; integer
powers of two, `step_fixed_point`, turn one into the other. `docs/format.md`, section 3.5, is normative.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from sdtrt._arrays import AnyArray, F32Array, F64Array, I8Array, I32Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.padded_planes import PaddedPlanes, PlaneSlice, neighbour_slice
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges, len_of_slice, positions_of
from sdtrt.engine.coding.priors.prior_layout import Architecture, LatentPass, num_channels, parse_architecture
from sdtrt.engine.coding.priors.tables import LOCATION_LIMIT, NUM_SCALES, OFFSET_UNITS, SUBSYMBOL_STEPS, Context
from sdtrt.errors import BundleError, FormatError

LIMIT = 1023  # of latents and of units, in their integer form
ORIGIN_LIMIT = OFFSET_UNITS * LOCATION_LIMIT // SUBSYMBOL_STEPS
HIDDEN_SHIFT, SECOND_SHIFT = 6, 9  # fractional bits of the networks' weights
INDEX_SHIFT = 12  # an output of 2**12 is one scale index
INDICES_PER_CODE = 48  # and so much of it is one step code: 3 indices for a doubling
KNOTS, FIRST_KNOT, KNOT_SPACING, FEATURE_LIMIT = 17, 768, 160, 127


@cache
def step_fixed_point(code: int) -> int:
    """Return floor(2**(22 + (code - 2048) / 256)), exactly."""
    value = 1 << (22 * 256 + code - 2048)
    for _ in range(8):
        value = math.isqrt(value)
    return value


@dataclass(frozen=True, slots=True)
class PassNetwork:
    """The network of one pass: two layers of units, and inputs straight to outputs beside them.

    Inputs: latents, magnitudes, step features. Outputs: locations of the pass's channels, then scales. float32 arrays
    of integers.
    """

    first: F32Array  # (units + outputs, inputs + KNOTS): sums for units, then those that go straight to outputs
    first_bias: F32Array  # (units + outputs,)
    second: F32Array  # (second units, units)
    second_bias: F32Array  # (second units,)
    output: F32Array  # (outputs, second units)

    def largest_sum(self, coding_pass: LatentPass) -> int:
        """Return a bound on the magnitude of every partial sum, in any order, for inputs within their limits.

        Summed in float64, which does not wrap: what is rounded in it is far above 2**24.
        """
        inputs = np.full(coding_pass.inputs, float(MAGNITUDE[-1]))
        inputs[: num_channels(coding_pass.values)] = LIMIT
        first = _magnitudes(self.first)
        features = first[:, coding_pass.inputs :]
        pairs = features[:, 1:] + features[:, :-1]  # no step is near more than two knots
        first = first[:, : coding_pass.inputs] @ inputs + FEATURE_LIMIT * pairs.max(1) + _magnitudes(self.first_bias)
        second = _magnitudes(self.second).sum(1) * LIMIT + _magnitudes(self.second_bias)
        output = first[len(first) - len(self.output) :] + _magnitudes(self.output).sum(1) * LIMIT
        return int(max(first.max(), second.max(), output.max()))

    def __call__(self, inputs: F32Array, features: F32Array) -> I32Array:
        """Return outputs, int32 (outputs, positions), for inputs (inputs, positions) and features (KNOTS,)."""
        count, units = len(inputs), self.second.shape[1]
        sums = self.first[:, :count] @ inputs
        sums += (self.first[:, count:] @ features + self.first_bias)[:, None]
        seconds = self.second @ _units(sums[:units], HIDDEN_SHIFT)
        seconds += self.second_bias[:, None]
        outputs = self.output @ _units(seconds, SECOND_SHIFT)
        outputs += sums[units:]
        return outputs.astype(np.int32)


def _magnitudes(weights: F32Array) -> F64Array:
    return np.abs(weights.astype(np.float64))


def _units(sums: F32Array, shift: int) -> F32Array:
    """Return floor(sums / 2**shift), clamped to 0 … LIMIT, in place."""
    sums *= np.float32(2.0**-shift)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, LIMIT, out=sums)


class KnownLatents:
    """The latents known so far, and their compressed magnitudes."""

    def __init__(
        self, shape: tuple[int, int, int], step_code: int, magnitudes: bool = True, inner: InnerEdges = NO_INNER_EDGES
    ) -> None:
        _, self.height, self.width = shape
        self.step_code = step_code
        self.features = step_embedding(step_code)
        self._known = [PaddedPlanes(shape, inner) for _ in range(1 + magnitudes)]  # magnitudes if they are looked at

    def put(self, coding_pass: LatentPass, symbols: I32Array, origin: I32Array | None = None) -> None:
        """Store a pass's symbols, and the origin of a predicted one, (channels of the pass, positions) both."""
        if origin is None:
            values = to_units_64(symbols, step_fixed_point(self.step_code))
        else:
            values = to_units_32(origin + coding_pass.spacing * symbols, step_fixed_point(self.step_code))
        self._known[0].put(coding_pass, values)
        if len(self._known) == 2:
            self._known[1].put(coding_pass, MAGNITUDE[np.abs(values)])

    def inputs(self, coding_pass: LatentPass) -> F32Array:
        """Return what a pass's network sees, float32 (inputs, positions)."""
        parts = positions_of(coding_pass.phase, self.height, self.width)
        taken = np.empty((coding_pass.inputs, parts[-1][0].stop), np.float32)
        for part, rows, columns in parts:
            into = taken[:, part].reshape(coding_pass.inputs, len_of_slice(rows), len_of_slice(columns))
            for share, kind, place in input_slices(coding_pass, rows.start, columns.start, self.height, self.width):
                into[share] = self._known[kind][place]
        return taken


@lru_cache(1024)
def input_slices(
    coding_pass: LatentPass, row: int, column: int, height: int, num_channels: int
) -> list[tuple[slice, int, PlaneSlice]]:
    """Return each window's share of the inputs, and in which planes it is where, for one origin of a pass."""
    found = []
    at = 0
    rows, columns = slice(row, height, coding_pass.phase.stride), slice(column, num_channels, coding_pass.phase.stride)
    for kind, windows in enumerate((coding_pass.values, coding_pass.magnitudes)):
        for window in windows:
            last = at + window.last - window.first
            place = neighbour_slice(rows, columns, window.dy, window.dx, slice(window.first, window.last))
            found.append((slice(at, last), kind, place))
            at = last
    return found


def to_units_64(symbols: I32Array, step_power: int) -> I32Array:
    """Return symbols as latents in 1/64 of a normalised unit, rounded and clamped to -LIMIT … LIMIT."""
    scaled = (symbols.astype(np.int64) * step_power + (1 << 15)) >> 16
    return clamp(scaled, -LIMIT, LIMIT).astype(np.int32)


def to_units_32(latents: I32Array, step_power: int) -> I32Array:
    """Return predicted latents, in 1/64 step, in 1/32 of a normalised unit, rounded and clamped to -LIMIT … LIMIT."""
    scaled = (latents.astype(np.int64) * step_power + (1 << 22)) >> 23
    return clamp(scaled, -LIMIT, LIMIT).astype(np.int32)


def clamp(values: AnyArray, low: int, high: int, out: AnyArray | None = None) -> AnyArray:
    """Return `np.clip`, which takes ten times as long for small arrays."""
    return np.minimum(np.maximum(values, low, out=out), high, out=out)


def step_embedding(step_code: int) -> F32Array:
    """Return how near a step code is to each knot, float32 (KNOTS,), integers 0 … 127."""
    code = min(max(step_code, FIRST_KNOT), FIRST_KNOT + KNOT_SPACING * (KNOTS - 1))
    distance = np.abs(FIRST_KNOT + KNOT_SPACING * np.arange(KNOTS) - code)
    return np.maximum(FEATURE_LIMIT - FEATURE_LIMIT * distance // KNOT_SPACING, 0).astype(np.float32)


class NetworkPrior:
    """A small trained network per pass; tables and reconstruction points fitted to what its contexts saw."""

    def __init__(
        self,
        architecture: Architecture,
        networks: list[PassNetwork],
        tables: U32Array,
        centroids: I8Array | None,
    ) -> None:
        self.architecture, self.networks, self.tables, self.centroids = architecture, networks, tables, centroids
        self._magnitudes = any(coding_pass.magnitudes for coding_pass in architecture.passes)
        if len(networks) != len(architecture.passes):
            raise BundleError(f"prior has {len(networks)} networks for {len(architecture.passes)} passes")
        if self.largest_sum() >= 1 << 24:
            raise BundleError("prior's sums may exceed 2**24: its arithmetic would not be exact")

    @property
    def cuts(self) -> tuple[int, ...]:
        return self.architecture.cuts

    @property
    def has_recon_offsets(self) -> bool:
        return self.centroids is not None or any(coding_pass.predicted for coding_pass in self.architecture.passes)

    def largest_sum(self) -> int:
        """Return a bound on the magnitude of every partial sum of its networks."""
        return max(
            n.largest_sum(coding_pass) for n, coding_pass in zip(self.networks, self.architecture.passes, strict=True)
        )

    def order(self, channels: int) -> IndexArray:
        if channels != len(self.architecture.order):
            raise FormatError(f"prior is for {len(self.architecture.order)} channels, found {channels}")
        return np.array(self.architecture.order, np.intp)

    def passes(self, channels: int) -> tuple[LatentPass, ...]:
        return self.architecture.passes

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> KnownLatents:
        return KnownLatents(shape, step_code, self._magnitudes, inner)

    def context(self, coding_pass: LatentPass, planes: KnownLatents, number: int) -> Context:
        code = planes.step_code
        outputs = self.networks[number](planes.inputs(coding_pass), planes.features)
        group = coding_pass.stop - coding_pass.start
        wide = outputs[:group].astype(np.int64) * step_fixed_point(4096 - code)
        scale = clamp((outputs[group:] + INDICES_PER_CODE * (2048 - code)) >> INDEX_SHIFT, 0, NUM_SCALES - 1)
        if not coding_pass.predicted:
            location = clamp((wide + (1 << 36)) >> 37, -LOCATION_LIMIT, LOCATION_LIMIT - 1)
            return Context(location.astype(np.int32), scale)
        origin = clamp((wide + (1 << 32)) >> 33, -ORIGIN_LIMIT, ORIGIN_LIMIT - 1).astype(np.int32)
        return Context(np.zeros_like(scale), scale, origin, coding_pass.spacing)


def prior_from_arrays(arrays: dict[str, Any]) -> NetworkPrior:
    """Return the prior in the arrays of a prior's file."""
    architecture = parse_architecture(bytes(arrays["architecture"]).decode())
    networks = [
        PassNetwork(*(arrays[f"{field}{n}"].astype(np.float32) for field in PassNetwork.__slots__))
        for n in range(len(architecture.passes))
    ]
    return NetworkPrior(architecture, networks, arrays["tables"], arrays.get("centroids"))


# 32 * log2(1 + n / 8), rounded: n = 0 … 1023. Integers, fixed by the format.
MAGNITUDE = np.round(32 * np.log2(1 + np.arange(LIMIT + 1) / 8)).astype(np.int32)
