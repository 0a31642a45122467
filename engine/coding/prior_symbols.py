"""Priors of the first kind, whose networks see symbols. Files are still read; encoders have moved on.

Matrix products run in float32, through whatever BLAS there is: all operands are integers and every partial sum
stays below 2**24, whatever the order, so each result is exact. The bound is asserted when a prior is loaded.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.passes import CHECKERBOARD, PYRAMID, Offset
from sdtrt.engine.coding.symbol_planes import SIGNED_LIMIT, SymbolPass, SymbolPlanes, passes_of_group
from sdtrt.engine.coding.tables import LOCATION_LIMIT, SCALES, Context
from sdtrt.errors import BundleError, FormatError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

HIDDEN_SHIFT = OUTPUT_SHIFT = 6  # fractional bits of the networks' weights
ACTIVATION_LIMIT = 127  # of hidden units, magnitudes and step features
STEP_CODES = 4096
STEP_KNOTS = 17  # step features are hats around these, evenly spaced over the codes
CROSS: tuple[Offset, ...] = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, slots=True)
class Layer:
    """The network of one pass: inputs to hidden units to outputs, and inputs to outputs beside them.

    Inputs: signed own taps, own magnitudes, magnitudes of previous channels, step features. Outputs: locations of the
    group's channels, then scales. float32 arrays of integers.
    """

    hidden: Floats  # (units, inputs)
    hidden_bias: Floats  # (units,)
    direct: Floats  # (outputs, inputs)
    output: Floats  # (outputs, units)
    output_bias: Floats  # (outputs,)

    def largest_sum(self, signed_inputs: int) -> int:
        """Return a bound on the magnitude of every partial sum, in any order, for inputs within their limits."""
        limits = np.full(self.hidden.shape[1], ACTIVATION_LIMIT, np.int64)
        limits[:signed_inputs] = SIGNED_LIMIT
        hidden = np.abs(self.hidden).astype(np.int64) @ limits + np.abs(self.hidden_bias).astype(np.int64)
        output = (
            np.abs(self.direct).astype(np.int64) @ limits
            + np.abs(self.output).astype(np.int64).sum(1) * ACTIVATION_LIMIT
            + np.abs(self.output_bias).astype(np.int64)
        )
        return int(max(hidden.max(), output.max()))

    def __call__(self, inputs: Floats) -> Ints:
        """Return outputs, int32 (outputs, positions), for inputs (inputs, positions)."""
        units = np.floor((self.hidden @ inputs + self.hidden_bias[:, None]) * 2.0**-HIDDEN_SHIFT)
        np.clip(units, 0, ACTIVATION_LIMIT, out=units)
        sums = self.direct @ inputs + self.output @ units + self.output_bias[:, None]
        return np.floor(sums * 2.0**-OUTPUT_SHIFT).astype(np.int32)


class SymbolPrior:
    """A small trained network per pass."""

    centroids = None

    def __init__(self, groups: list[list[int]], layers: list[Layer], tables: NDArray[np.uint32]) -> None:
        self.groups, self.layers, self.tables = groups, layers, tables
        self._order = np.array([c for group in groups for c in group], np.intp)
        self._passes = network_passes(groups)
        if len(layers) != len(self._passes):
            raise BundleError(f"prior has {len(layers)} layers for {len(self._passes)} passes")
        for step, layer in zip(self._passes, layers, strict=True):
            signed = len(step.own_taps) * (step.stop - step.start)
            if layer.largest_sum(signed) >= 1 << 24:
                raise BundleError("prior's sums may exceed 2**24: its arithmetic would not be exact")

    def order(self, channels: int) -> NDArray[np.intp]:
        if channels != len(self._order):
            raise FormatError(f"prior is for {len(self._order)} channels, found {channels}")
        return self._order

    def passes(self, channels: int) -> list[SymbolPass]:
        return self._passes

    def planes(self, shape: tuple[int, int, int], step_code: int) -> SymbolPlanes:
        return SymbolPlanes(shape, step_code)

    def context(self, step: SymbolPass, planes: SymbolPlanes, number: int) -> Context:
        outputs = self.layers[number](network_inputs(step, planes))
        group = step.stop - step.start
        return Context(
            np.clip(outputs[:group], -LOCATION_LIMIT, LOCATION_LIMIT - 1), np.clip(outputs[group:], 0, SCALES - 1)
        )


def network_passes(groups: list[list[int]]) -> list[SymbolPass]:
    """Return a network prior's passes: a pyramid for the first group, a checkerboard for every other."""
    passes: list[SymbolPass] = []
    start = 0
    for group in groups:
        stop = start + len(group)
        phases, reach = (CHECKERBOARD, 2) if start else (PYRAMID, 3)
        passes += passes_of_group(start, stop, phases, reach, CROSS)
        start = stop
    return passes


def network_inputs(step: SymbolPass, planes: SymbolPlanes) -> Floats:
    """Return the inputs of a pass's network, float32 (inputs, positions), integers."""
    features = np.repeat(step_features(planes.step_code)[:, None], planes.positions(step), axis=1)
    parts = [planes.own_signed(step), planes.own_magnitudes(step), planes.previous_magnitudes(step), features]
    return np.concatenate(parts)


def step_features(step_code: int) -> Floats:
    """Return how near a step code is to each knot, float32 (STEP_KNOTS,), integers 0 … 127."""
    spacing = STEP_CODES // (STEP_KNOTS - 1)
    distance = np.abs(np.arange(STEP_KNOTS) * spacing - step_code)
    return np.asarray(np.maximum(ACTIVATION_LIMIT - ACTIVATION_LIMIT * distance // spacing, 0), np.float32)


def symbol_prior(arrays: dict[str, Any]) -> SymbolPrior:
    """Return the prior in the arrays of a prior's file."""
    groups = json.loads(bytes(arrays["groups"]))
    layers = [
        Layer(*(arrays[f"{field}{n}"].astype(np.float32) for field in Layer.__slots__))
        for n in range(len(network_passes(groups)))
    ]
    return SymbolPrior(groups, layers, arrays["tables"])
