"""Priors: from the symbols already known to the context (location and scale) of the next ones, in integers.

Matrix products run in float32, through whatever BLAS there is: all operands are integers and every partial sum
stays below 2**24, whatever the order, so each result is exact. `NetworkPrior` asserts that bound when it is loaded.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.passes import (
    CHECKERBOARD,
    PYRAMID,
    SIGNED_LIMIT,
    Offset,
    Pass,
    Planes,
    passes_of_group,
)
from sdtrt.engine.tables import LOCATION_LIMIT, SCALES
from sdtrt.errors import BundleError, FormatError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

HIDDEN_SHIFT = OUTPUT_SHIFT = 6  # fractional bits of the networks' weights
ACTIVATION_LIMIT = 127  # of hidden units, magnitudes and step features
STEP_CODES = 4096
STEP_KNOTS = 17  # step features are hats around these, evenly spaced over the codes
CROSS: tuple[Offset, ...] = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, slots=True)
class Context:
    """What is expected of a pass's symbols, int32 (channels of the group, positions) each.

    `location` counts eighths of a symbol, `scale` is an index of the tables.
    """

    location: Ints
    scale: Ints


class Prior(Protocol):
    """What the entropy coder needs to know."""

    tables: NDArray[np.uint32]

    def passes(self, channels: int) -> list[Pass]:
        """Return the passes that code `channels` channels; `FormatError` if the prior is not for so many."""

    def order(self, channels: int) -> NDArray[np.intp]:
        """Return the channels in coding order."""

    def context(self, step: Pass, planes: Planes, number: int, step_code: int) -> Context:
        """Return the context of pass `number`."""


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


class NetworkPrior:
    """A small trained network per pass."""

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

    def passes(self, channels: int) -> list[Pass]:
        if channels != len(self._order):
            raise FormatError(f"prior is for {len(self._order)} channels, found {channels}")
        return self._passes

    def order(self, channels: int) -> NDArray[np.intp]:
        return self._order

    def context(self, step: Pass, planes: Planes, number: int, step_code: int) -> Context:
        outputs = self.layers[number](network_inputs(step, planes, step_code))
        group = step.stop - step.start
        return Context(
            np.clip(outputs[:group], -LOCATION_LIMIT, LOCATION_LIMIT - 1), np.clip(outputs[group:], 0, SCALES - 1)
        )


def network_passes(groups: list[list[int]]) -> list[Pass]:
    """Return a network prior's passes: a pyramid for the first group, a checkerboard for every other."""
    passes: list[Pass] = []
    start = 0
    for group in groups:
        stop = start + len(group)
        phases, reach = (CHECKERBOARD, 2) if start else (PYRAMID, 3)
        passes += passes_of_group(start, stop, phases, reach, CROSS)
        start = stop
    return passes


def network_inputs(step: Pass, planes: Planes, step_code: int) -> Floats:
    """Return the inputs of a pass's network, float32 (inputs, positions), integers."""
    features = np.repeat(step_features(step_code)[:, None], planes.positions(step), axis=1)
    parts = [planes.own_signed(step), planes.own_magnitudes(step), planes.previous_magnitudes(step), features]
    return np.concatenate(parts)


def step_features(step_code: int) -> Floats:
    """Return how near a step code is to each knot, float32 (STEP_KNOTS,), integers 0 … 127."""
    spacing = STEP_CODES // (STEP_KNOTS - 1)
    distance = np.abs(np.arange(STEP_KNOTS) * spacing - step_code)
    return np.asarray(np.maximum(ACTIVATION_LIMIT - ACTIVATION_LIMIT * distance // spacing, 0), np.float32)


class AdaptivePrior:
    """For latent spaces without a trained prior: three numbers per channel, fitted by the encoder, sent in the file.

    A pyramid pass codes all channels at once. The location is the mean of the nearest known neighbours times
    `weight`/8; the scale is `base` plus a share of the neighbours' mean magnitude, or `first` where nothing is known.
    """

    PARAMETERS = 3  # bytes per channel: weight 0 … 8, base 0 … 31, first 0 … 31

    def __init__(self, parameters: NDArray[np.uint8]) -> None:
        """Take the parameters, uint8 (channels, 3); `FormatError` if one is out of range."""
        if (parameters > (8, SCALES - 1, SCALES - 1)).any():
            raise FormatError("adaptive prior's parameters are out of range")
        self.weight, self.base, self.first = parameters.astype(np.int32).T[:, :, None]
        self.tables = adaptive_tables()

    def passes(self, channels: int) -> list[Pass]:
        return passes_of_group(0, channels, PYRAMID, 2, ())

    def order(self, channels: int) -> NDArray[np.intp]:
        return np.arange(channels)

    def context(self, step: Pass, planes: Planes, number: int, step_code: int) -> Context:
        channels, count = step.stop, planes.positions(step)
        if number == 0:
            flat = np.zeros((channels, count), np.int32)
            return Context(flat, flat + self.first)
        return adaptive_context(*neighbour_means(step, planes), self.weight, self.base)


def neighbour_means(step: Pass, planes: Planes) -> tuple[Ints, Ints]:
    """Return the mean of a pass's known neighbours, int32 (channels, positions) each, in eighths.

    First the mean symbol of the nearest taps; then the mean magnitude of all taps, the nearest counted twice.
    """
    nearest = min(abs(dy) + abs(dx) for dy, dx in step.own_taps)
    near = np.array([abs(dy) + abs(dx) == nearest for dy, dx in step.own_taps])
    shape = (len(near), step.stop - step.start, -1)
    signed = planes.own_signed(step).reshape(shape).astype(np.int32)
    magnitudes = planes.own_magnitudes(step).reshape(shape).astype(np.int32)
    mean = (signed[near].sum(0) * 8 + near.sum() // 2) // near.sum()
    shares = np.where(near, 2, 1)
    magnitude = (magnitudes * shares[:, None, None]).sum(0) * 8 // shares.sum()
    return mean.astype(np.int32), magnitude.astype(np.int32)


def adaptive_context(mean: Ints, magnitude: Ints, weight: Ints | int, base: Ints | int) -> Context:
    """Return the context that two parameters make of `neighbour_means`."""
    return Context(mean * weight >> 3, np.minimum(base + (magnitude * 3 >> 7), SCALES - 1))


def adaptive_tables() -> NDArray[np.uint32]:
    """Return the shipped tables of the adaptive prior."""
    tables: NDArray[np.uint32] = _load("adaptive-1")["tables"]
    return tables


@cache
def network_prior(name: str) -> NetworkPrior:
    """Return a shipped prior by its name, such as `tiny-1`."""
    arrays = _load(name)
    groups = json.loads(bytes(arrays["groups"]))
    layers = [
        Layer(*(arrays[f"{field}{n}"].astype(np.float32) for field in Layer.__slots__))
        for n in range(len(network_passes(groups)))
    ]
    return NetworkPrior(groups, layers, arrays["tables"])


@cache
def _load(name: str) -> dict[str, Any]:
    path = resources.files("sdtrt.engine") / "data" / "priors" / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError as error:
        raise BundleError(f"prior {name} is not part of this version; a later sdtrt may have it") from error
