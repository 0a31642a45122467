"""Symbols to bytes and back: an asymmetric numeral system over the contexts of a prior. Integers only.

The coder is constriction's `AnsCoder` (32-bit words, 64-bit state, 24-bit weights). It turns weights into
probabilities by itself, giving each entry 1 and sharing out the rest in proportion to what it is handed: handed
`weight - 1`, which sum to exactly that rest, nothing is left to round. `docs/format.md` has the arithmetic.
"""

from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.passes import Pass, Planes
from sdtrt.engine.prior import AdaptivePrior, Context, Prior, adaptive_context, neighbour_means
from sdtrt.engine.tables import ESCAPE, FRACTIONS, LOW_BITS, PRECISION, REACH, SCALES
from sdtrt.errors import FormatError

Symbols = NDArray[np.int16]
Ints = NDArray[np.int32]

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
_OFFSET = 1 << 15  # escaped symbols are sent as symbol + 2**15 in 16 bits


def encode(symbols: Symbols, prior: Prior, step_code: int) -> bytes:
    """Return the payload of `symbols`, int16 (C, h, w)."""
    coder = constriction.stream.stack.AnsCoder()
    # The coder is a stack: what is to be read first is pushed last.
    for coded in reversed(_code_passes(symbols, prior, step_code)):
        if coded.escaped.size:
            coder.encode_reverse(coded.escaped, _UNIFORM, np.full_like(coded.escaped, 1 << 16))
        if coded.low.size:
            coder.encode_reverse(coded.low, _UNIFORM, coded.low_sizes)
        coder.encode_reverse(coded.bins, _CATEGORICAL, _probabilities(prior, coded.rows))
    return _words_to_bytes(coder.get_compressed())


def decode(payload: bytes, shape: tuple[int, int, int], prior: Prior, step_code: int) -> Symbols:
    """Return the symbols, int16 `shape` = (C, h, w), of a payload; `FormatError` if it is not one of that shape."""
    coder = _coder_of(payload)
    channels, height, width = shape
    planes = Planes(channels, height, width)
    symbols = np.empty(shape, np.int16)
    order = prior.order(channels)
    for number, step in enumerate(prior.passes(channels)):
        if not planes.positions(step):
            continue
        context = prior.context(step, planes, number, step_code)
        rows, base, low_bits = _split(context)
        bins = coder.decode(_CATEGORICAL, _probabilities(prior, rows))
        low = np.zeros_like(bins)
        wide = np.flatnonzero((low_bits > 0) & (bins != ESCAPE))
        if wide.size:
            low[wide] = coder.decode(_UNIFORM, 1 << low_bits[wide])
        values = base + ((bins - REACH) << low_bits) + low
        escaped = np.flatnonzero(bins == ESCAPE)
        if escaped.size:
            values[escaped] = coder.decode(_UNIFORM, np.full(escaped.size, 1 << 16, np.int32)) - _OFFSET
        if np.abs(values + 0.5).max() > _OFFSET:  # out of reach for priors with locations of 16 bits, as ours are
            raise FormatError("damaged payload: a symbol does not fit 16 bits")
        known = values.reshape(step.stop - step.start, -1)
        planes.put(step, known)
        _scatter(symbols, order, step, known)
    if not coder.is_empty():
        raise FormatError("damaged payload: data left over after the last symbol")
    return symbols


def count_rows(symbols: Symbols, step_code: int, prior: Prior) -> NDArray[np.int64]:
    """Return how often each entry of each table is used, int64 like the tables; for the training of priors."""
    counts = np.zeros(prior.tables.shape, np.int64)
    for coded in _code_passes(symbols, prior, step_code):
        np.add.at(counts, (coded.rows, coded.bins), 1)
    return counts


def fit_adaptive(symbols: Symbols) -> NDArray[np.uint8]:
    """Return the adaptive prior's parameters that code `symbols`, int16 (C, h, w), in the fewest bits: uint8 (C, 3)."""
    channels, height, width = symbols.shape
    weights, scales = range(0, 9), range(SCALES)
    first = np.zeros((SCALES, channels), np.int64)
    rest = np.zeros((len(weights), SCALES, channels), np.int64)
    trial = AdaptivePrior(np.zeros((channels, 3), np.uint8))
    costs = _costs(trial)
    planes = Planes(channels, height, width)
    for number, step in enumerate(trial.passes(channels)):
        if not planes.positions(step):
            continue
        known = _gather(symbols, trial.order(channels), step)
        if number == 0:
            for k in scales:
                first[k] += _cost(costs, known, Context(np.zeros_like(known), np.full_like(known, k)))
        else:
            means = neighbour_means(step, planes)
            for weight in weights:
                for k in scales:
                    rest[weight, k] += _cost(costs, known, adaptive_context(*means, weight, k))
        planes.put(step, known)
    weight, base = np.unravel_index(rest.reshape(-1, channels).argmin(0), rest.shape[:2])
    return np.stack([weight, base, first.argmin(0)], axis=1).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _CodedPass:
    """What one pass sends, in the order in which a decoder reads it."""

    rows: Ints
    bins: Ints
    low: Ints
    low_sizes: Ints
    escaped: Ints


def _code_passes(symbols: Symbols, prior: Prior, step_code: int) -> list[_CodedPass]:
    channels, height, width = symbols.shape
    planes = Planes(channels, height, width)
    order = prior.order(channels)
    coded = []
    for number, step in enumerate(prior.passes(channels)):
        if not planes.positions(step):
            continue
        context = prior.context(step, planes, number, step_code)
        known = _gather(symbols, order, step)
        coded.append(_code_pass(context, known.ravel()))
        planes.put(step, known)
    return coded


def _code_pass(context: Context, values: Ints) -> _CodedPass:
    rows, base, low_bits = _split(context)
    bins, low = _bins(values - base, low_bits)
    wide = (low_bits > 0) & (bins != ESCAPE)
    return _CodedPass(rows, bins, low[wide], 1 << low_bits[wide], values[bins == ESCAPE] + _OFFSET)


def _split(context: Context) -> tuple[Ints, Ints, Ints]:
    """Return a context's table rows, whole locations and numbers of low bits, int32 (symbols of the pass,) each."""
    location, scale = context.location.ravel(), context.scale.ravel()
    return scale * FRACTIONS + location % FRACTIONS, location // FRACTIONS, LOW_BITS[scale]


def _bins(residual: Ints, low_bits: Ints) -> tuple[Ints, Ints]:
    """Return residuals' table entries and low bits."""
    bins = (residual >> low_bits) + REACH
    low = residual & ((1 << low_bits) - 1)
    return np.where((bins < 0) | (bins >= ESCAPE), ESCAPE, bins).astype(np.int32), low


def _probabilities(prior: Prior, rows: Ints) -> NDArray[np.float32]:
    return (prior.tables - 1).astype(np.float32)[rows]


def _costs(prior: Prior) -> Ints:
    """Return the tables' costs in 1/256 bit: integers, so that every machine fits the same parameters."""
    costs = 256 * (PRECISION - np.log2(prior.tables))
    costs[:, ESCAPE] += 256 * 16
    return np.rint(costs).astype(np.int32)


def _cost(costs: Ints, values: Ints, context: Context) -> NDArray[np.int64]:
    """Return each channel's cost in 1/256 bit, int64 (channels,), of values (channels, positions)."""
    rows, base, low_bits = _split(context)
    bins, _ = _bins(values.ravel() - base, low_bits)
    cost = costs[rows, bins] + np.where(bins == ESCAPE, 0, low_bits * 256)
    return cost.reshape(values.shape).sum(1, dtype=np.int64)


def _gather(symbols: Symbols, order: NDArray[np.intp], step: Pass) -> Ints:
    group = order[step.start : step.stop]
    parts = [symbols[group, rows, columns] for rows, columns in step.phase.slices(*symbols.shape[1:])]
    return np.concatenate([p.reshape(len(group), -1) for p in parts], axis=1).astype(np.int32)


def _scatter(symbols: Symbols, order: NDArray[np.intp], step: Pass, values: Ints) -> None:
    group = order[step.start : step.stop]
    first = 0
    for rows, columns in step.phase.slices(*symbols.shape[1:]):
        plane = symbols[group, rows, columns]
        last = first + plane[0].size
        symbols[group, rows, columns] = values[:, first:last].reshape(plane.shape)
        first = last


def _words_to_bytes(words: NDArray[np.uint32]) -> bytes:
    """Return the coder's words, little-endian, less the zero bytes at the end of the last one."""
    return words.astype("<u4").tobytes().rstrip(b"\0")


def _coder_of(payload: bytes) -> "constriction.stream.stack.AnsCoder":
    if payload.endswith(b"\0"):
        raise FormatError("damaged payload: it ends in a zero byte")
    words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
    return constriction.stream.stack.AnsCoder(words)
