"""I16Array to streams and back: passes of a prior, each by the contexts that it finds in those before. Integers only.

A stream tells first how many passes it holds: what coarse steps leave of fine detail is nothing, and takes no time. Of
those that it does not hold predicted ones are still what is expected.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from sdtrt._arrays import F32Array, I16Array, I32Array
from sdtrt.engine.coding.ans import ESCAPE_OFFSET, WORD, AnsDecoder, AnsEncoder, LevelEnds
from sdtrt.engine.coding.priors.passes import (
    NO_INNER_EDGES,
    InnerEdges,
    Pass,
    gather,
    gather_plane,
    non_empty,
    scatter,
    undo_channel_order,
)
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import ESCAPE, MAX_BIN, Context, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA, LambdaMap, count_useful_passes, quantize_rdo
from sdtrt.engine.coding.rdoq_search import search_symbols
from sdtrt.errors import FormatError

Shape = tuple[int, int, int]
Item = TypeVar("Item")
SymbolSource = Callable[
    [Pass, Context], I32Array
]  # a pass's symbols, (channels of the pass, positions), given their context

DEFAULT_EFFORT = 5
SEARCH_ITERATIONS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 16, 7: 32, 8: 64, 9: 128}  # of a search, by effort


class Stream(NamedTuple):
    """A plane's bytes; the first `ends[n]` of them hold all passes up to level n."""

    data: bytes
    ends: tuple[int, ...]

    def levels(self) -> list[bytes]:
        """Return the stream in as many levels as its prior has."""
        return [self.data[first:last] for first, last in pairwise((0, *self.ends))]


def encode_stream(symbols: I16Array, prior: Prior, step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> Stream:
    """Return the stream of `symbols`, int16 (C, h, w); `inner` tells which edges lie within the image."""
    coded = symbols[prior.order(len(symbols))]

    def pick(coding_pass: Pass, context: Context) -> I32Array:
        return gather(coded, coding_pass).astype(np.int32)

    return _encode(pick, symbols.shape, prior, step_code, len(prior.passes(len(symbols))), inner)


def quantize_and_encode(
    scaled: F32Array,
    prior: Prior,
    step_code: int,
    effort: int,
    rate_weight: F32Array | None = None,
    inner: InnerEdges = NO_INNER_EDGES,
) -> Stream:
    """Return a stream of latents in steps, float32 (C, h, w).

    With effort 1 symbols have the least error; from 2 on they are the best bargain, see `quantize_rdo`; from 6 on better ones
    are searched for. `rate_weight`, float32 (h, w), is by how much dearer than usual bits are at each position.
    """
    lmbda: LambdaMap = RDOQ_LAMBDA if effort > 1 else 0.0
    if rate_weight is not None:
        lmbda = np.float32(RDOQ_LAMBDA) * rate_weight
    if SEARCH_ITERATIONS[effort]:
        symbols = search_symbols(scaled, prior, step_code, lmbda, SEARCH_ITERATIONS[effort], inner)
        return encode_stream(symbols, prior, step_code, inner)
    coded, bits = scaled[prior.order(len(scaled))], bit_costs(prior.tables)

    def pick(coding_pass: Pass, context: Context) -> I32Array:
        each = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        return quantize_rdo(gather(coded, coding_pass), context, bits, prior.centroids, each)

    return _encode(pick, scaled.shape, prior, step_code, count_useful_passes(coded, prior, lmbda), inner)


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """What a stream holds: symbols, and where in each one's interval its latent is to be expected."""

    symbols: I16Array  # int16 (C, h, w)
    recon_offsets: I32Array | None  # int32 (C, h, w), in 1/64 step from the symbol; None if the prior does not tell
    passes_read: int = 0  # how many passes were there
    passes_missing: int = 0  # and how many were not


def decode_stream(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    inner: InnerEdges = NO_INNER_EDGES,
    words_remaining: Sequence[int] = (),
    *,
    maybe_truncated: bool = False,
) -> DecodedStream:
    """Return what a stream of `shape` = (C, h, w) holds; `FormatError` if it is not one of that shape.

    `words_remaining` is how many words there must be left where each of its levels but the last ends, if it is cut into levels.
    One that is `maybe_truncated` may be cut short, and what is missing reads as zeros: its last pass must be known to be there,
    which is not known of one of less than a word.
    """
    reader = _reader(stream, prior)
    ends = LevelEnds(reader, prior.cuts, words_remaining)
    decoded = _decode(reader, shape, prior, step_code, ends.read_pass, inner)
    ends.check(len(prior.passes(shape[0])))
    if not reader.is_at_end:
        raise FormatError("damaged stream: data left over after the last symbol")
    if maybe_truncated and ends.exhausted:
        raise FormatError("damaged stream: it may end before its last pass")
    if decoded.passes_read:
        _, last = non_empty(prior.passes(shape[0]), *shape[1:])[decoded.passes_read - 1]
        if not gather(decoded.symbols[prior.order(shape[0])], last).any():
            raise FormatError("damaged stream: its last pass holds zeros alone")
    return decoded


def decode_levels(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    levels: int,
    inner: InnerEdges = NO_INNER_EDGES,
    words_remaining: Sequence[int] = (),
    *,
    more: bool = False,
) -> DecodedStream:
    """Return what the first `levels` hold, not all, from the start of a stream; symbols of the others are 0.

    `words_remaining` is as in `decode_stream`, `more` whether levels that `stream` is without hold anything.
    """
    reader, end = _reader(stream, prior), prior.cuts[levels - 1]
    ends = LevelEnds(reader, prior.cuts, words_remaining)
    decoded = _decode(reader, shape, prior, step_code, ends.read_pass, inner, end)
    ends.check(end)
    if more and reader.is_exhausted:
        raise FormatError("damaged stream: a level ends before its last pass")
    return decoded


def _reader(stream: bytes, prior: Prior) -> AnsDecoder:
    """Return what reads a stream whose start is there; `FormatError` if it cannot be one."""
    if stream.startswith(b"\0"):
        raise FormatError("damaged stream: it starts with a zero byte")
    return AnsDecoder(stream, prior.tables)


def levels_holding(channels: Collection[int], prior: Prior, count: int) -> int:
    """Return how many levels, the coarsest, hold all of some channels of `count`; one if there are none."""
    order, passes = prior.order(count), prior.passes(count)
    having = [
        n
        for n, coding_pass in enumerate(passes)
        if not {*channels}.isdisjoint(order[coding_pass.start : coding_pass.stop])
    ]
    last = max(having, default=0)
    return 1 + bisect_right(prior.cuts, last)


def salvage_stream(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    alignment: int,
    sure: int,
    inner: InnerEdges = NO_INNER_EDGES,
) -> DecodedStream:
    """Return what the start of a stream holds, and what the prior expects of all that is missing.

    The first `sure` passes are known to be there. A pass that is there in part counts as missing.
    """
    missing = False
    try:
        reader = AnsDecoder(stream, prior.tables, alignment)
    except FormatError:
        reader, missing = AnsDecoder(b"", prior.tables), True

    def read_pass(number: int, read: Callable[[], Item]) -> Item | None:
        nonlocal missing
        if missing:
            return None
        try:
            found = read()
        except FormatError:
            missing = True
            return None
        missing = number >= sure and reader.is_exhausted
        return None if missing else found

    return _decode(reader, shape, prior, step_code, read_pass, inner)


class PassSymbols(NamedTuple):
    """What was read of a pass: the tables' entries, and the symbols that they mean."""

    bins: I32Array
    symbols: I32Array


class PassReader(Protocol):
    """How passes are read: `read()` of each, or None if it is missing. Before the first their count is read, as 0."""

    def __call__(self, number: int, read: Callable[[], Item]) -> Item | None: ...


def _decode(
    reader: AnsDecoder,
    shape: Shape,
    prior: Prior,
    step_code: int,
    read_pass: PassReader,
    inner: InnerEdges,
    end: int | None = None,
) -> DecodedStream:
    """Return what the passes up to number `end` hold, all if it is None."""
    order, planes, centroids = prior.order(shape[0]), prior.planes(shape, step_code, inner), prior.centroids
    symbols, points = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
    passes = non_empty(prior.passes(shape[0]), *shape[1:])
    passes_in_stream = read_pass(0, lambda: _read_count(reader, len(passes)))
    there = missing = 0
    for n, (number, coding_pass) in enumerate(passes):
        is_held = passes_in_stream is None or n < passes_in_stream
        if end is not None and number >= end:
            break
        if not is_held and not coding_pass.predicted:
            continue
        context = prior.context(coding_pass, planes, number)
        found = read_pass(number, lambda context=context: _read(reader, context)) if is_held else None  # type: ignore[misc]
        values, within = context.mode(), None  # which is 0 where latents are predicted
        if found is not None:
            values, there = found.symbols, there + 1
            if centroids is not None:
                within = centroids[context.table_rows(), found.bins].astype(np.int32)
        else:
            missing += is_held
        beside = context.recon_offsets(values, within)
        if beside is not None:
            scatter(points, coding_pass, beside)
        planes.put(coding_pass, values, context.origin)
        scatter(symbols, coding_pass, values)
    return DecodedStream(
        undo_channel_order(symbols, order),
        undo_channel_order(points, order) if prior.has_recon_offsets else None,
        there,
        missing,
    )


def _read_count(reader: AnsDecoder, passes: int) -> int:
    """Return how many of so many passes a stream holds."""
    passes_in_stream = reader.number(1 << passes.bit_length())
    if passes_in_stream > passes:
        raise FormatError(f"damaged stream: it tells of {passes_in_stream} passes, there are {passes}")
    return passes_in_stream


def _read(reader: AnsDecoder, context: Context) -> PassSymbols:
    """Return a pass: its bins, then what they leave open."""
    bins, low_bits = reader.read_bins(context.table_rows()), context.low_bits()
    values = context.base() + ((bins - MAX_BIN) << low_bits)
    reader.read_low_bits_and_escapes(values, bins == ESCAPE, low_bits)
    # Locations of 16 bits, as ours, cannot lead there.
    if values.max() >= ESCAPE_OFFSET or values.min() < -ESCAPE_OFFSET:
        raise FormatError("damaged stream: a symbol does not fit 16 bits")
    return PassSymbols(bins, values)


@dataclass(frozen=True, slots=True)
class _CodedPass:
    """What one pass sends, in the order in which a decoder reads it."""

    number: int
    rows: I32Array
    bins: I32Array
    low: I32Array
    low_sizes: I32Array
    escaped: I32Array


def _encode(pick: SymbolSource, shape: Shape, prior: Prior, step_code: int, count: int, inner: InnerEdges) -> Stream:
    """Return the stream of what is picked in the first `count` passes, less those at the end that hold zeros alone."""
    planes, passes = prior.planes(shape, step_code, inner), non_empty(prior.passes(shape[0]), *shape[1:])
    coded, passes_in_stream = [], 0
    for number, coding_pass in passes[:count]:
        context = prior.context(coding_pass, planes, number)
        known = pick(coding_pass, context)
        coded.append(_code_pass(number, known, context))
        planes.put(coding_pass, known, context.origin)
        passes_in_stream = len(coded) if known.any() else passes_in_stream
    writer, behind = AnsEncoder(prior.tables), dict.fromkeys(prior.cuts, 0)  # words of what follows each cut
    for part in reversed(coded[:passes_in_stream]):
        writer.raw(part.escaped, np.full_like(part.escaped, 1 << 16))
        writer.raw(part.low, part.low_sizes)
        writer.write_bins(part.bins, part.rows)
        behind |= {cut: writer.words for cut in prior.cuts if cut <= part.number}
    writer.number(passes_in_stream, 1 << len(passes).bit_length())
    data = writer.stream()
    return Stream(data, (*(len(data) - WORD * behind[cut] for cut in prior.cuts), len(data)))


def _code_pass(number: int, symbols: I32Array, context: Context) -> _CodedPass:
    low_bits, residual = context.low_bits(), symbols - context.base()
    bins = bins_of(residual, low_bits)
    wide = (low_bits > 0) & (bins != ESCAPE)
    sizes = 1 << low_bits[wide]
    low, escaped = residual[wide] & (sizes - 1), symbols[bins == ESCAPE] + ESCAPE_OFFSET
    return _CodedPass(number, context.table_rows().ravel(), bins.ravel(), low, sizes, escaped)
