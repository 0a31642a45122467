"""Priors whose networks see latents: what they predict holds at every step, so one prior serves every quality.

The symbols known so far enter as latents in 1/64 of a normalised unit, and networks answer in such units; integer
powers of two, `power`, turn one into the other. `docs/format.md`, section 3.5, is normative.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.architecture import Architecture, LatentPass, parse_architecture, width
from sdtrt.engine.coding.priors.passes import OUTER, Inner, length, parts_of
from sdtrt.engine.coding.priors.planes import Place, Planes, seen
from sdtrt.engine.coding.priors.tables import FRACTIONS, LOCATION_LIMIT, POINTS, SCALES, Context
from sdtrt.errors import BundleError, FormatError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

LIMIT = 1023  # of latents and of units, in their integer form
ORIGIN_LIMIT = POINTS * LOCATION_LIMIT // FRACTIONS
HIDDEN_SHIFT, SECOND_SHIFT = 6, 9  # fractional bits of the networks' weights
INDEX_SHIFT = 12  # an output of 2**12 is one scale index
INDICES_PER_CODE = 48  # and so much of it is one step code: 3 indices for a doubling
KNOTS, FIRST_KNOT, KNOT_SPACING, FEATURE_LIMIT = 17, 768, 160, 127


@cache
def power(code: int) -> int:
    """Return floor(2**(22 + (code - 2048) / 256)), exactly."""
    value = 1 << (22 * 256 + code - 2048)
    for _ in range(8):
        value = math.isqrt(value)
    return value


@dataclass(frozen=True, slots=True)
class Network:
    """The network of one pass: two layers of units, and inputs straight to outputs beside them.

    Inputs: latents, magnitudes, step features. Outputs: locations of the pass's channels, then scales. float32 arrays
    of integers.
    """

    first: Floats  # (units + outputs, inputs + KNOTS): sums for units, then those that go straight to outputs
    first_bias: Floats  # (units + outputs,)
    second: Floats  # (second units, units)
    second_bias: Floats  # (second units,)
    output: Floats  # (outputs, second units)

    def largest_sum(self, step: LatentPass) -> int:
        """Return a bound on the magnitude of every partial sum, in any order, for inputs within their limits.

        Summed in float64, which does not wrap: what is rounded in it is far above 2**24.
        """
        inputs = np.full(step.inputs, float(MAGNITUDE[-1]))
        inputs[: width(step.values)] = LIMIT
        first = _magnitudes(self.first)
        features = first[:, step.inputs :]
        pairs = features[:, 1:] + features[:, :-1]  # no step is near more than two knots
        first = first[:, : step.inputs] @ inputs + FEATURE_LIMIT * pairs.max(1) + _magnitudes(self.first_bias)
        second = _magnitudes(self.second).sum(1) * LIMIT + _magnitudes(self.second_bias)
        output = first[len(first) - len(self.output) :] + _magnitudes(self.output).sum(1) * LIMIT
        return int(max(first.max(), second.max(), output.max()))

    def __call__(self, inputs: Floats, features: Floats) -> Ints:
        """Return outputs, int32 (outputs, positions), for inputs (inputs, positions) and features (KNOTS,)."""
        count, units = len(inputs), self.second.shape[1]
        sums = self.first[:, :count] @ inputs
        sums += (self.first[:, count:] @ features + self.first_bias)[:, None]
        seconds = self.second @ _units(sums[:units], HIDDEN_SHIFT)
        seconds += self.second_bias[:, None]
        outputs = self.output @ _units(seconds, SECOND_SHIFT)
        outputs += sums[units:]
        return outputs.astype(np.int32)


def _magnitudes(weights: Floats) -> NDArray[np.float64]:
    return np.abs(weights.astype(np.float64))


def _units(sums: Floats, shift: int) -> Floats:
    """Return floor(sums / 2**shift), clamped to 0 … LIMIT, in place."""
    sums *= np.float32(2.0**-shift)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, LIMIT, out=sums)


class LatentPlanes:
    """The latents known so far, and their compressed magnitudes."""

    def __init__(
        self, shape: tuple[int, int, int], step_code: int, magnitudes: bool = True, inner: Inner = OUTER
    ) -> None:
        _, self.height, self.width = shape
        self.step_code = step_code
        self.features = step_features(step_code)
        self._known = [Planes(shape, inner) for _ in range(1 + magnitudes)]  # magnitudes if they are looked at

    def put(self, step: LatentPass, symbols: Ints, origin: Ints | None = None) -> None:
        """Store a pass's symbols, and the origin of a predicted one, (channels of the pass, positions) both."""
        if origin is None:
            values = latent_units(symbols, power(self.step_code))
        else:
            values = fine_units(origin + step.spacing * symbols, power(self.step_code))
        self._known[0].put(step, values)
        if len(self._known) == 2:
            self._known[1].put(step, MAGNITUDE[np.abs(values)])

    def inputs(self, step: LatentPass) -> Floats:
        """Return what a pass's network sees, float32 (inputs, positions)."""
        parts = parts_of(step.phase, self.height, self.width)
        taken = np.empty((step.inputs, parts[-1][0].stop), np.float32)
        for part, rows, columns in parts:
            into = taken[:, part].reshape(step.inputs, length(rows), length(columns))
            for share, kind, place in sources(step, rows.start, columns.start, self.height, self.width):
                into[share] = self._known[kind][place]
        return taken


@lru_cache(1024)
def sources(step: LatentPass, row: int, column: int, height: int, width: int) -> list[tuple[slice, int, Place]]:
    """Return each window's share of the inputs, and in which planes it is where, for one origin of a pass."""
    found = []
    at = 0
    rows, columns = slice(row, height, step.phase.stride), slice(column, width, step.phase.stride)
    for kind, windows in enumerate((step.values, step.magnitudes)):
        for window in windows:
            last = at + window.last - window.first
            place = seen(rows, columns, window.dy, window.dx, slice(window.first, window.last))
            found.append((slice(at, last), kind, place))
            at = last
    return found


def latent_units(symbols: Ints, step_power: int) -> Ints:
    """Return symbols as latents in 1/64 of a normalised unit, rounded and clamped to -LIMIT … LIMIT."""
    scaled = (symbols.astype(np.int64) * step_power + (1 << 15)) >> 16
    return clamped(scaled, -LIMIT, LIMIT).astype(np.int32)


def fine_units(latents: Ints, step_power: int) -> Ints:
    """Return predicted latents, in 1/64 step, in 1/32 of a normalised unit, rounded and clamped to -LIMIT … LIMIT."""
    scaled = (latents.astype(np.int64) * step_power + (1 << 22)) >> 23
    return clamped(scaled, -LIMIT, LIMIT).astype(np.int32)


def clamped(values: NDArray[Any], low: int, high: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return `np.clip`, which takes ten times as long for small arrays."""
    return np.minimum(np.maximum(values, low, out=out), high, out=out)


def step_features(step_code: int) -> Floats:
    """Return how near a step code is to each knot, float32 (KNOTS,), integers 0 … 127."""
    code = min(max(step_code, FIRST_KNOT), FIRST_KNOT + KNOT_SPACING * (KNOTS - 1))
    distance = np.abs(FIRST_KNOT + KNOT_SPACING * np.arange(KNOTS) - code)
    return np.maximum(FEATURE_LIMIT - FEATURE_LIMIT * distance // KNOT_SPACING, 0).astype(np.float32)


class LatentPrior:
    """A small trained network per pass; tables and reconstruction points fitted to what its contexts saw."""

    def __init__(
        self,
        architecture: Architecture,
        networks: list[Network],
        tables: NDArray[np.uint32],
        centroids: NDArray[np.int8] | None,
    ) -> None:
        self.architecture, self.networks, self.tables, self.centroids = architecture, networks, tables, centroids
        self._magnitudes = any(step.magnitudes for step in architecture.passes)
        if len(networks) != len(architecture.passes):
            raise BundleError(f"prior has {len(networks)} networks for {len(architecture.passes)} passes")
        if self.largest_sum() >= 1 << 24:
            raise BundleError("prior's sums may exceed 2**24: its arithmetic would not be exact")

    @property
    def cuts(self) -> tuple[int, ...]:
        return self.architecture.cuts

    @property
    def has_points(self) -> bool:
        return self.centroids is not None or any(step.predicted for step in self.architecture.passes)

    def largest_sum(self) -> int:
        """Return a bound on the magnitude of every partial sum of its networks."""
        return max(n.largest_sum(step) for n, step in zip(self.networks, self.architecture.passes, strict=True))

    def order(self, channels: int) -> NDArray[np.intp]:
        if channels != len(self.architecture.order):
            raise FormatError(f"prior is for {len(self.architecture.order)} channels, found {channels}")
        return np.array(self.architecture.order, np.intp)

    def passes(self, channels: int) -> tuple[LatentPass, ...]:
        return self.architecture.passes

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: Inner = OUTER) -> LatentPlanes:
        return LatentPlanes(shape, step_code, self._magnitudes, inner)

    def context(self, step: LatentPass, planes: LatentPlanes, number: int) -> Context:
        code = planes.step_code
        outputs = self.networks[number](planes.inputs(step), planes.features)
        group = step.stop - step.start
        wide = outputs[:group].astype(np.int64) * power(4096 - code)
        scale = clamped((outputs[group:] + INDICES_PER_CODE * (2048 - code)) >> INDEX_SHIFT, 0, SCALES - 1)
        if not step.predicted:
            location = clamped((wide + (1 << 36)) >> 37, -LOCATION_LIMIT, LOCATION_LIMIT - 1)
            return Context(location.astype(np.int32), scale)
        origin = clamped((wide + (1 << 32)) >> 33, -ORIGIN_LIMIT, ORIGIN_LIMIT - 1).astype(np.int32)
        return Context(np.zeros_like(scale), scale, origin, step.spacing)


def latent_prior(arrays: dict[str, Any]) -> LatentPrior:
    """Return the prior in the arrays of a prior's file."""
    architecture = parse_architecture(bytes(arrays["architecture"]).decode())
    networks = [
        Network(*(arrays[f"{field}{n}"].astype(np.float32) for field in Network.__slots__))
        for n in range(len(architecture.passes))
    ]
    return LatentPrior(architecture, networks, arrays["tables"], arrays.get("centroids"))


# 32 * log2(1 + n / 8), rounded: n = 0 … 1023. Integers, fixed by the format.
MAGNITUDE = np.round(32 * np.log2(1 + np.arange(LIMIT + 1) / 8)).astype(np.int32)
