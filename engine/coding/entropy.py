"""Symbols to streams and back: passes of a prior, each by the contexts that it finds in those before. Integers only.

A stream tells first how many passes it holds: what coarse steps leave of fine detail is nothing, and takes no time. Of
those that it does not hold predicted ones are still what is expected.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.choice import MULTIPLIER, Multiplier, choose, passes_worth
from sdtrt.engine.coding.coder import ESCAPE_OFFSET, WORD, Ends, Reader, Writer
from sdtrt.engine.coding.priors.passes import OUTER, Inner, Pass, gather, gather_plane, present, restored, scatter
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import ESCAPE, REACH, Context, bins_of, bits_of_tables
from sdtrt.engine.coding.search import best_symbols
from sdtrt.errors import FormatError

Symbols = NDArray[np.int16]
Ints = NDArray[np.int32]
Shape = tuple[int, int, int]
Item = TypeVar("Item")
Pick = Callable[[Pass, Context], Ints]  # a pass's symbols, (channels of the pass, positions), given their context

DEFAULT_EFFORT = 5
TRIALS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 16, 7: 32, 8: 64, 9: 128}  # of a search, by effort


class Stream(NamedTuple):
    """A plane's bytes; the first `ends[n]` of them hold all passes up to level n."""

    data: bytes
    ends: tuple[int, ...]

    def levels(self) -> list[bytes]:
        """Return the stream in as many levels as its prior has."""
        return [self.data[first:last] for first, last in pairwise((0, *self.ends))]


def encode(symbols: Symbols, prior: Prior, step_code: int, inner: Inner = OUTER) -> Stream:
    """Return the stream of `symbols`, int16 (C, h, w); `inner` tells which edges lie within the picture."""
    coded = symbols[prior.order(len(symbols))]

    def pick(step: Pass, context: Context) -> Ints:
        return gather(coded, step).astype(np.int32)

    return _encode(pick, symbols.shape, prior, step_code, len(prior.passes(len(symbols))), inner)


def encode_best(
    scaled: NDArray[np.float32],
    prior: Prior,
    step_code: int,
    effort: int,
    price: NDArray[np.float32] | None = None,
    inner: Inner = OUTER,
) -> Stream:
    """Return a stream of latents in steps, float32 (C, h, w).

    With effort 1 symbols have the least error; from 2 on they are the best bargain, see `choose`; from 6 on better ones
    are searched for. `price`, float32 (h, w), is by how much dearer than usual bits are at each position.
    """
    multiplier: Multiplier = MULTIPLIER if effort > 1 else 0.0
    if price is not None:
        multiplier = np.float32(MULTIPLIER) * price
    if TRIALS[effort]:
        symbols = best_symbols(scaled, prior, step_code, multiplier, TRIALS[effort], inner)
        return encode(symbols, prior, step_code, inner)
    coded, bits = scaled[prior.order(len(scaled))], bits_of_tables(prior.tables)

    def pick(step: Pass, context: Context) -> Ints:
        each = multiplier if isinstance(multiplier, float) else gather_plane(multiplier, step)
        return choose(gather(coded, step), context, bits, prior.centroids, each)

    return _encode(pick, scaled.shape, prior, step_code, passes_worth(coded, prior, multiplier), inner)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a stream holds: symbols, and where in each one's interval its latent is to be expected."""

    symbols: Symbols  # int16 (C, h, w)
    points: Ints | None  # int32 (C, h, w), in 1/64 step from the symbol; None if the prior does not tell
    there: int = 0  # how many passes were there
    missing: int = 0  # and how many were not


def decode(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    inner: Inner = OUTER,
    left: Sequence[int] = (),
    *,
    doubted: bool = False,
) -> Decoded:
    """Return what a stream of `shape` = (C, h, w) holds; `FormatError` if it is not one of that shape.

    `left` is how many words there must be left where each of its levels but the last ends, if it is cut into levels.
    One that is `doubted` may be cut short, and what is missing reads as zeros: its last pass must be known to be there,
    which is not known of one of less than a word.
    """
    reader = _reader(stream, prior)
    ends = Ends(reader, prior.cuts, left)
    decoded = _decode(reader, shape, prior, step_code, ends.known, inner)
    ends.require(len(prior.passes(shape[0])))
    if not reader.is_at_end:
        raise FormatError("damaged stream: data left over after the last symbol")
    if doubted and ends.dry:
        raise FormatError("damaged stream: it may end before its last pass")
    if decoded.there:
        _, last = present(prior.passes(shape[0]), *shape[1:])[decoded.there - 1]
        if not gather(decoded.symbols[prior.order(shape[0])], last).any():
            raise FormatError("damaged stream: its last pass holds zeros alone")
    return decoded


def decode_coarse(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    levels: int,
    inner: Inner = OUTER,
    left: Sequence[int] = (),
    *,
    more: bool = False,
) -> Decoded:
    """Return what the first `levels` hold, not all, from the start of a stream; symbols of the others are 0.

    `left` is as in `decode`, `more` whether levels that `stream` is without hold anything.
    """
    reader, end = _reader(stream, prior), prior.cuts[levels - 1]
    ends = Ends(reader, prior.cuts, left)
    decoded = _decode(reader, shape, prior, step_code, ends.known, inner, end)
    ends.require(end)
    if more and reader.ran_dry:
        raise FormatError("damaged stream: a level ends before its last pass")
    return decoded


def _reader(stream: bytes, prior: Prior) -> Reader:
    """Return what reads a stream whose start is there; `FormatError` if it cannot be one."""
    if stream.startswith(b"\0"):
        raise FormatError("damaged stream: it starts with a zero byte")
    return Reader(stream, prior.tables)


def levels_with(channels: Collection[int], prior: Prior, count: int) -> int:
    """Return how many levels, the coarsest, hold all of some channels of `count`; one if there are none."""
    order, passes = prior.order(count), prior.passes(count)
    having = [n for n, step in enumerate(passes) if not {*channels}.isdisjoint(order[step.start : step.stop])]
    last = max(having, default=0)
    return 1 + bisect_right(prior.cuts, last)


def salvage(
    stream: bytes, shape: Shape, prior: Prior, step_code: int, alignment: int, sure: int, inner: Inner = OUTER
) -> Decoded:
    """Return what the start of a stream holds, and what the prior expects of all that is missing.

    The first `sure` passes are known to be there. A pass that is there in part counts as missing.
    """
    missing = False
    try:
        reader = Reader(stream, prior.tables, alignment)
    except FormatError:
        reader, missing = Reader(b"", prior.tables), True

    def known(number: int, read: Callable[[], Item]) -> Item | None:
        nonlocal missing
        if missing:
            return None
        try:
            found = read()
        except FormatError:
            missing = True
            return None
        missing = number >= sure and reader.ran_dry
        return None if missing else found

    return _decode(reader, shape, prior, step_code, known, inner)


class Read(NamedTuple):
    """What was read of a pass: the tables' entries, and the symbols that they mean."""

    bins: Ints
    symbols: Ints


class Known(Protocol):
    """How passes are read: `read()` of each, or None if it is missing. Before the first their count is read, as 0."""

    def __call__(self, number: int, read: Callable[[], Item]) -> Item | None: ...


def _decode(
    reader: Reader, shape: Shape, prior: Prior, step_code: int, known: Known, inner: Inner, end: int | None = None
) -> Decoded:
    """Return what the passes up to number `end` hold, all if it is None."""
    order, planes, centroids = prior.order(shape[0]), prior.planes(shape, step_code, inner), prior.centroids
    symbols, points = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
    passes = present(prior.passes(shape[0]), *shape[1:])
    held = known(0, lambda: _read_count(reader, len(passes)))
    there = missing = 0
    for n, (number, step) in enumerate(passes):
        is_held = held is None or n < held
        if end is not None and number >= end:
            break
        if not is_held and not step.predicted:
            continue
        context = prior.context(step, planes, number)
        found = known(number, lambda context=context: _read(reader, context)) if is_held else None  # type: ignore[misc]
        values, within = context.expected(), None  # which is 0 where latents are predicted
        if found is not None:
            values, there = found.symbols, there + 1
            if centroids is not None:
                within = centroids[context.rows(), found.bins].astype(np.int32)
        else:
            missing += is_held
        beside = context.points(values, within)
        if beside is not None:
            scatter(points, step, beside)
        planes.put(step, values, context.origin)
        scatter(symbols, step, values)
    return Decoded(restored(symbols, order), restored(points, order) if prior.has_points else None, there, missing)


def _read_count(reader: Reader, passes: int) -> int:
    """Return how many of so many passes a stream holds."""
    held = reader.number(1 << passes.bit_length())
    if held > passes:
        raise FormatError(f"damaged stream: it tells of {held} passes, there are {passes}")
    return held


def _read(reader: Reader, context: Context) -> Read:
    """Return a pass: its bins, then what they leave open."""
    bins, low_bits = reader.entries(context.rows()), context.low_bits()
    values = context.base() + ((bins - REACH) << low_bits)
    reader.complete(values, bins == ESCAPE, low_bits)
    # Locations of 16 bits, as ours, cannot lead there.
    if values.max() >= ESCAPE_OFFSET or values.min() < -ESCAPE_OFFSET:
        raise FormatError("damaged stream: a symbol does not fit 16 bits")
    return Read(bins, values)


@dataclass(frozen=True, slots=True)
class _CodedPass:
    """What one pass sends, in the order in which a decoder reads it."""

    number: int
    rows: Ints
    bins: Ints
    low: Ints
    low_sizes: Ints
    escaped: Ints


def _encode(pick: Pick, shape: Shape, prior: Prior, step_code: int, count: int, inner: Inner) -> Stream:
    """Return the stream of what is picked in the first `count` passes, less those at the end that hold zeros alone."""
    planes, passes = prior.planes(shape, step_code, inner), present(prior.passes(shape[0]), *shape[1:])
    coded, held = [], 0
    for number, step in passes[:count]:
        context = prior.context(step, planes, number)
        known = pick(step, context)
        coded.append(_code_pass(number, known, context))
        planes.put(step, known, context.origin)
        held = len(coded) if known.any() else held
    writer, behind = Writer(prior.tables), dict.fromkeys(prior.cuts, 0)  # words of what follows each cut
    for part in reversed(coded[:held]):
        writer.raw(part.escaped, np.full_like(part.escaped, 1 << 16))
        writer.raw(part.low, part.low_sizes)
        writer.entries(part.bins, part.rows)
        behind |= {cut: writer.words for cut in prior.cuts if cut <= part.number}
    writer.number(held, 1 << len(passes).bit_length())
    data = writer.stream()
    return Stream(data, (*(len(data) - WORD * behind[cut] for cut in prior.cuts), len(data)))


def _code_pass(number: int, symbols: Ints, context: Context) -> _CodedPass:
    low_bits, residual = context.low_bits(), symbols - context.base()
    bins = bins_of(residual, low_bits)
    wide = (low_bits > 0) & (bins != ESCAPE)
    sizes = 1 << low_bits[wide]
    low, escaped = residual[wide] & (sizes - 1), symbols[bins == ESCAPE] + ESCAPE_OFFSET
    return _CodedPass(number, context.rows().ravel(), bins.ravel(), low, sizes, escaped)
