"""Symbols to bytes and back: an asymmetric numeral system over the contexts of a prior. Integers only.

The coder is constriction's `AnsCoder` (32-bit words, 64-bit state, 24-bit weights). It turns weights into
probabilities by itself, giving each entry 1 and sharing out the rest in proportion to what it is handed: handed
`weight - 1`, which sum to exactly that rest, nothing is left to round. `docs/format.md` has the arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.choice import MULTIPLIER, choose
from sdtrt.engine.coding.passes import Pass, gather, restored, scatter
from sdtrt.engine.coding.prior import Prior
from sdtrt.engine.coding.search import best_symbols
from sdtrt.engine.coding.tables import ESCAPE, REACH, Context, bins_of, bits_of_tables
from sdtrt.errors import FormatError

Symbols = NDArray[np.int16]
Points = NDArray[np.int8]
Ints = NDArray[np.int32]
Pick = Callable[[Pass, Context], Ints]  # a pass's symbols, (channels of the pass, positions), given their context

DEFAULT_EFFORT = 5
TRIALS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 16, 7: 32, 8: 64, 9: 128}  # of a search, by effort

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
_PART = 1 << 18  # symbols that are handed to the coder at once
_OFFSET = 1 << 15  # escaped symbols are sent as symbol + 2**15 in 16 bits


def encode(symbols: Symbols, prior: Prior, step_code: int) -> bytes:
    """Return the payload of `symbols`, int16 (C, h, w)."""
    coded = symbols[prior.order(len(symbols))]
    return _encode(lambda step, _: gather(coded, step).astype(np.int32), symbols.shape, prior, step_code)


def encode_best(scaled: NDArray[np.float32], prior: Prior, step_code: int, effort: int) -> bytes:
    """Return a payload of latents in steps, float32 (C, h, w).

    With effort 1 symbols have the least error; from 2 on they are the best bargain, see `choose`; from 6 on better ones
    are searched for.
    """
    multiplier = MULTIPLIER if effort > 1 else 0.0
    if TRIALS[effort]:
        return encode(best_symbols(scaled, prior, step_code, multiplier, TRIALS[effort]), prior, step_code)
    coded, bits = scaled[prior.order(len(scaled))], bits_of_tables(prior.tables)

    def pick(step: Pass, context: Context) -> Ints:
        return choose(gather(coded, step), context, bits, prior.centroids, multiplier)

    return _encode(pick, scaled.shape, prior, step_code)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload holds: symbols, and where in each one's interval its latent is to be expected."""

    symbols: Symbols  # int16 (C, h, w)
    points: Points | None  # int8 (C, h, w), in 1/64 step from the symbol; None if the prior does not tell


def decode(payload: bytes, shape: tuple[int, int, int], prior: Prior, step_code: int) -> Decoded:
    """Return what a payload of `shape` = (C, h, w) holds; `FormatError` if it is not one of that shape."""
    coder = _coder_of(payload)
    order, weights = prior.order(shape[0]), _weights(prior)
    planes = prior.planes(shape, step_code)
    symbols = np.empty(shape, np.int16)
    centroids = prior.centroids
    points = np.empty(shape, np.int8)
    for number, step in enumerate(prior.passes(shape[0])):
        if not step.phase.slices(*shape[1:]):
            continue
        context = prior.context(step, planes, number)
        rows = context.rows()
        bins = _bins(coder, weights, rows)
        known = _symbols(coder, bins, context)
        planes.put(step, known)
        scatter(symbols, step, known)
        if centroids is not None:
            scatter(points, step, centroids[rows, bins])
    if not coder.is_empty():
        raise FormatError("damaged payload: data left over after the last symbol")
    return Decoded(restored(symbols, order), None if centroids is None else restored(points, order))


def _bins(coder: "constriction.stream.stack.AnsCoder", weights: NDArray[np.float32], rows: Ints) -> Ints:
    """Return the table entries of a pass, part after part: each weighs as much as 32 floats."""
    parts = [rows.ravel()[at : at + _PART] for at in range(0, rows.size, _PART)]
    return np.concatenate([coder.decode(_CATEGORICAL, weights.take(part, 0)) for part in parts]).reshape(rows.shape)


def _symbols(coder: "constriction.stream.stack.AnsCoder", bins: Ints, context: Context) -> Ints:
    """Return a pass's symbols, what their bins leave open read from the coder."""
    low_bits = context.low_bits()
    values = context.base() + ((bins - REACH) << low_bits)
    escaped = bins == ESCAPE
    wide = (low_bits > 0) & ~escaped
    if wide.any():
        values[wide] += coder.decode(_UNIFORM, 1 << low_bits[wide])
    if escaped.any():
        values[escaped] = coder.decode(_UNIFORM, np.full(escaped.sum(), 1 << 16, np.int32)) - _OFFSET
    if values.max() >= _OFFSET or values.min() < -_OFFSET:  # out of reach where locations have 16 bits, as ours have
        raise FormatError("damaged payload: a symbol does not fit 16 bits")
    return values


@dataclass(frozen=True, slots=True)
class _CodedPass:
    """What one pass sends, in the order in which a decoder reads it."""

    rows: Ints
    bins: Ints
    low: Ints
    low_sizes: Ints
    escaped: Ints


def _encode(pick: Pick, shape: tuple[int, int, int], prior: Prior, step_code: int) -> bytes:
    planes = prior.planes(shape, step_code)
    coded = []
    for number, step in enumerate(prior.passes(shape[0])):
        if step.phase.slices(*shape[1:]):
            context = prior.context(step, planes, number)
            known = pick(step, context)
            coded.append(_code_pass(known, context))
            planes.put(step, known)
    weights = _weights(prior)
    coder = constriction.stream.stack.AnsCoder()
    for part in reversed(coded):  # the coder is a stack: what is to be read first is pushed last
        if part.escaped.size:
            coder.encode_reverse(part.escaped, _UNIFORM, np.full_like(part.escaped, 1 << 16))
        if part.low.size:
            coder.encode_reverse(part.low, _UNIFORM, part.low_sizes)
        for at in reversed(range(0, part.bins.size, _PART)):
            coder.encode_reverse(part.bins[at : at + _PART], _CATEGORICAL, weights.take(part.rows[at : at + _PART], 0))
    return _words_to_bytes(coder.get_compressed())


def _code_pass(symbols: Ints, context: Context) -> _CodedPass:
    low_bits, residual = context.low_bits(), symbols - context.base()
    bins = bins_of(residual, low_bits)
    wide = (low_bits > 0) & (bins != ESCAPE)
    sizes = 1 << low_bits[wide]
    return _CodedPass(
        context.rows().ravel(), bins.ravel(), residual[wide] & (sizes - 1), sizes, symbols[bins == ESCAPE] + _OFFSET
    )


def _weights(prior: Prior) -> NDArray[np.float32]:
    return (prior.tables - 1).astype(np.float32)


def _words_to_bytes(words: NDArray[np.uint32]) -> bytes:
    """Return the coder's words, little-endian, less the zero bytes at the end of the last one."""
    return words.astype("<u4").tobytes().rstrip(b"\0")


def _coder_of(payload: bytes) -> "constriction.stream.stack.AnsCoder":
    if payload.endswith(b"\0"):
        raise FormatError("damaged payload: it ends in a zero byte")
    words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
    return constriction.stream.stack.AnsCoder(words)
