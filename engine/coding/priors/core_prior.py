"""Priors in the form that the compiled core takes, see `kernels.core`."""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, I8Array, I32Array, I64Array, U8Array, U32Array
from sdtrt.engine.coding.priors import network_prior, symbol_planes
from sdtrt.engine.coding.priors.adaptive import AdaptivePrior, adaptive_tables
from sdtrt.engine.coding.priors.network_prior import NetworkPrior, PassNetwork, step_embedding, step_fixed_point
from sdtrt.engine.coding.priors.passes import InnerEdges, Pass
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.prior_layout import ContextWindow
from sdtrt.engine.coding.priors.tables import LOW_BITS, OFFSET_UNITS, SUBSYMBOL_STEPS, bit_costs, two_step_tables
from sdtrt.kernels import core

INVERSE_CODE = 4096  # the step of 4096 - code is the inverse of that of `code`


def has_core(prior: Prior) -> bool:
    """Return whether the compiled core is there and knows this kind of prior."""
    return core.compiled() is not None and isinstance(prior, NetworkPrior | AdaptivePrior)


def core_prior(prior: Prior) -> Any:
    """Return a prior for which `has_core` is true as an object of the compiled core."""
    if isinstance(prior, NetworkPrior):
        return _network_prior(prior)
    assert isinstance(prior, AdaptivePrior)
    return _adaptive_prior(prior.parameters)


@lru_cache(8)
def _network_prior(prior: NetworkPrior) -> Any:
    tables = core_tables(prior.tables, _low_bits(), prior.centroids, bit_costs(prior.tables))
    passes = [
        _pass_numbers(p, p.spacing, _windows(p.values), _windows(p.magnitudes)) for p in prior.architecture.passes
    ]
    order, magnitude = np.array(prior.architecture.order, np.int32), network_prior.MAGNITUDE
    arrays = [_network_arrays(network) for network in prior.networks]
    return core.compiled().make_network_prior(tables, order, passes, arrays, magnitude)  # type: ignore[union-attr]


def _adaptive_prior(parameters: U8Array) -> Any:
    """Return the adaptive prior of parameters, uint8 (channels, 3), as an object of the compiled core."""
    numbers = _adaptive_pass_numbers(len(parameters))
    flat = np.ascontiguousarray(parameters)
    return core.compiled().make_adaptive_prior(  # type: ignore[union-attr]
        _adaptive_core_tables(), numbers, flat, symbol_planes.MAGNITUDE
    )


@lru_cache(16)
def _adaptive_pass_numbers(channels: int) -> list[I32Array]:
    passes = AdaptivePrior(np.zeros((channels, AdaptivePrior.PARAMETERS), np.uint8)).passes(channels)
    return [_pass_numbers(p, OFFSET_UNITS, p.taps) for p in passes]


@cache
def _adaptive_core_tables() -> Any:
    tables = adaptive_tables()
    return core_tables(tables, _low_bits(), None, bit_costs(tables))


def core_tables(tables: U32Array, low_bits: I32Array, centroids: I8Array | None, costs: F32Array) -> Any:
    """Return probability tables as an object of the compiled core.

    Arguments:
        tables: uint32 (rows, bins), weights that sum to 2**24 in each row.
        low_bits: int32 (rows,), number of low bits of a symbol that are coded without a model.
        centroids: int8 (rows, bins), reconstruction offsets in 1/64 symbol; None if all are 0.
        costs: float32 (rows, bins), bits of each bin.
    """
    split = two_step_tables(tables)
    arrays = [None if array is None else np.ascontiguousarray(array) for array in (low_bits, centroids, costs)]
    return core.compiled().make_tables(*tables.shape, *split, *arrays)  # type: ignore[union-attr]


def _low_bits() -> I32Array:
    return np.repeat(LOW_BITS, SUBSYMBOL_STEPS)


def _windows(windows: Sequence[ContextWindow]) -> list[tuple[int, ...]]:
    return [(w.first, w.last, w.dy, w.dx) for w in windows]


def _network_arrays(network: PassNetwork) -> tuple[Any, ...]:
    """Return the weights as int16 and the biases as int32."""
    return (
        network.first.astype(np.int16),
        network.first_bias.astype(np.int32),
        network.second.astype(np.int16),
        network.second_bias.astype(np.int32),
        network.output.astype(np.int16),
    )


def _pass_numbers(coding_pass: Pass, spacing: int, *lists: Sequence[Iterable[int]]) -> I32Array:
    """Return a pass as numbers: channels, stride, whether it is predicted, spacing; then lists, after their lengths."""
    numbers = [coding_pass.start, coding_pass.stop, coding_pass.phase.stride, int(coding_pass.predicted), spacing]
    for items in (coding_pass.phase.offsets, *lists):
        numbers += [len(items), *(number for item in items for number in item)]
    return np.array(numbers, np.int32)


def tile_numbers(shape: tuple[int, int, int], step_code: int, edges: InnerEdges) -> I64Array:
    """Return the parameters of a tile as the core takes them; it has them in the same order."""
    inner = (edges.top, edges.bottom, edges.left, edges.right)
    steps = step_fixed_point(step_code), step_fixed_point(INVERSE_CODE - step_code)
    return np.array([*shape, *inner, step_code, *steps, *step_embedding(step_code)], np.int64)
