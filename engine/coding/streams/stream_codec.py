"""Symbols of a tile to an entropy-coded stream and back, pass by pass. From symbols to bytes all is integer arithmetic.

A stream starts with the number of passes that it contains. The passes after them hold zeros alone, which is usual at
coarse quantization steps, and take no time. The latents of predicted passes among them are the predicted values.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
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
    walk_passes,
)
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import ESCAPE, MAX_BIN, Context, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA, LambdaMap, count_useful_passes, quantize_rdo
from sdtrt.engine.coding.rdoq_search import search_symbols
from sdtrt.errors import FormatError

Shape = tuple[int, int, int]
Item = TypeVar("Item")
SymbolSource = Callable[[Pass, Context], I32Array]  # symbols of a pass, (channels, positions), given its context

DEFAULT_EFFORT = 5
SEARCH_ITERATIONS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 16, 7: 32, 8: 64, 9: 128}  # of `rdoq_search`, by effort


class Stream(NamedTuple):
    """The bytes of a tile; the first `ends[n]` bytes hold all passes up to level n."""

    data: bytes
    ends: tuple[int, ...]

    def levels(self) -> list[bytes]:
        """Cut the stream into the levels of its prior, from coarse to fine."""
        return [self.data[first:last] for first, last in pairwise((0, *self.ends))]


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """The content of a stream.

    Attributes:
        symbols: int16 (C, h, w).
        recon_offsets: int32 (C, h, w), in 1/64 quantization step from the symbol, or None if the prior has none.
        passes_read: number of passes that were read.
        passes_missing: number of passes that are missing in a damaged stream.
    """

    symbols: I16Array
    recon_offsets: I32Array | None
    passes_read: int = 0
    passes_missing: int = 0


def encode_stream(symbols: I16Array, prior: Prior, step_code: int, edges: InnerEdges = NO_INNER_EDGES) -> Stream:
    """Encode symbols.

    Arguments:
        symbols: int16 (C, h, w).
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """
    ordered = symbols[prior.order(len(symbols))]

    def given_symbols(coding_pass: Pass, context: Context) -> I32Array:
        return gather(ordered, coding_pass).astype(np.int32)

    return _encode_passes(given_symbols, symbols.shape, prior, step_code, len(prior.passes(len(symbols))), edges)


def quantize_and_encode(
    scaled: F32Array,
    prior: Prior,
    step_code: int,
    effort: int,
    rate_weight: F32Array | None = None,
    edges: InnerEdges = NO_INNER_EDGES,
) -> Stream:
    """Quantize latents and encode the symbols.

    Effort 1 takes the symbols with the least error, if there is no rate weight. Efforts 2 to 5 quantize by RDOQ
    (`rdoq`), pass by pass. Efforts from 6 on search for better symbols (`rdoq_search`).

    Arguments:
        scaled: float32 (C, h, w), latents in quantization steps.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        effort: 1 (fast) to 9 (slow).
        rate_weight: float32 (h, w), factor of lambda at each position; default 1 everywhere.
        edges: which edges of the tile touch another tile.
    """
    lmbda: LambdaMap = RDOQ_LAMBDA if effort > 1 else 0.0
    if rate_weight is not None:
        lmbda = np.float32(RDOQ_LAMBDA) * rate_weight
    if SEARCH_ITERATIONS[effort]:
        symbols = search_symbols(scaled, prior, step_code, lmbda, SEARCH_ITERATIONS[effort], edges)
        return encode_stream(symbols, prior, step_code, edges)
    ordered, bits = scaled[prior.order(len(scaled))], bit_costs(prior.tables)

    def quantized_symbols(coding_pass: Pass, context: Context) -> I32Array:
        pass_lmbda = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        return quantize_rdo(gather(ordered, coding_pass), context, bits, prior.centroids, pass_lmbda)

    count = count_useful_passes(ordered, prior, lmbda)
    return _encode_passes(quantized_symbols, scaled.shape, prior, step_code, count, edges)


def decode_stream(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    edges: InnerEdges = NO_INNER_EDGES,
    words_remaining: Sequence[int] = (),
    *,
    maybe_truncated: bool = False,
) -> DecodedStream:
    """Decode a whole stream.

    Arguments:
        stream: the bytes of all levels.
        shape: (channels, rows, columns) of the tile's latents.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
        words_remaining: number of 32-bit words after each level; empty if the stream is not cut.
        maybe_truncated: whether the stream may end early. Missing data reads as zeros, so the stream must then prove
            that its last pass is complete. A stream of less than a word cannot prove this.

    Raises:
        FormatError: if this is not a stream of that shape.
    """
    decoder = AnsDecoder(stream, prior.tables)
    ends = LevelEnds(decoder, prior.cuts, words_remaining)
    decoded = _decode_passes(decoder, shape, prior, step_code, ends.read_pass, edges)
    ends.check(len(prior.passes(shape[0])))
    if not decoder.is_at_end:
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
    edges: InnerEdges = NO_INNER_EDGES,
    words_remaining: Sequence[int] = (),
    *,
    more: bool = False,
) -> DecodedStream:
    """Decode the first levels of a stream; the symbols of the other levels are 0.

    Arguments:
        stream: the bytes of the first levels.
        shape: (channels, rows, columns) of the tile's latents.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        levels: number of levels to decode, less than the prior has.
        edges: which edges of the tile touch another tile.
        words_remaining: number of words after each level, as in `decode_stream`.
        more: whether the levels that are not in `stream` have any bytes.

    Raises:
        FormatError: if this is not the start of a stream of that shape.
    """
    decoder, end = AnsDecoder(stream, prior.tables), prior.cuts[levels - 1]
    ends = LevelEnds(decoder, prior.cuts, words_remaining)
    decoded = _decode_passes(decoder, shape, prior, step_code, ends.read_pass, edges, end)
    ends.check(end)
    if more and decoder.is_exhausted:
        raise FormatError("damaged stream: a level ends before its last pass")
    return decoded


def salvage_stream(
    stream: bytes,
    shape: Shape,
    prior: Prior,
    step_code: int,
    alignment: int,
    complete_passes: int,
    edges: InnerEdges = NO_INNER_EDGES,
) -> DecodedStream:
    """Decode the readable start of a damaged stream; missing passes get the values that the prior predicts.

    A pass that is present in part counts as missing.

    Arguments:
        stream: the bytes up to the damage.
        shape: (channels, rows, columns) of the tile's latents.
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        alignment: number of bytes that the first word of the whole stream lacks to 4.
        complete_passes: number of passes that are known to be complete.
        edges: which edges of the tile touch another tile.
    """
    missing = False
    try:
        decoder = AnsDecoder(stream, prior.tables, alignment)
    except FormatError:
        decoder, missing = AnsDecoder(b"", prior.tables), True

    def read_pass(number: int, read: Callable[[], Item]) -> Item | None:
        nonlocal missing
        if missing:
            return None
        try:
            item = read()
        except FormatError:
            missing = True
            return None
        missing = number >= complete_passes and decoder.is_exhausted
        return None if missing else item

    return _decode_passes(decoder, shape, prior, step_code, read_pass, edges)


def levels_holding(channels: Collection[int], prior: Prior, count: int) -> int:
    """Count the levels, from the coarsest, that together hold all passes of some of `count` channels; at least 1."""
    order, passes = prior.order(count), prior.passes(count)
    numbers = [n for n, p in enumerate(passes) if not {*channels}.isdisjoint(order[p.start : p.stop])]
    return 1 + bisect_right(prior.cuts, max(numbers, default=0))


class PassReader(Protocol):
    """Policy of reading: calls `read` and returns its result, or None if pass `number` is missing.

    Before pass 0 the number of passes is read, also under number 0.
    """

    def __call__(self, number: int, read: Callable[[], Item]) -> Item | None: ...


class PassSymbols(NamedTuple):
    """The data of one pass: the table bins that were read, and the symbols."""

    bins: I32Array
    symbols: I32Array


def _decode_passes(
    decoder: AnsDecoder,
    shape: Shape,
    prior: Prior,
    step_code: int,
    read_pass: PassReader,
    edges: InnerEdges,
    end: int | None = None,
) -> DecodedStream:
    """Decode the passes before pass `end`, or all passes if `end` is None."""
    order, centroids = prior.order(shape[0]), prior.centroids
    symbols, recon_offsets = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
    num_passes = len(non_empty(prior.passes(shape[0]), *shape[1:]))
    passes_in_stream = read_pass(0, lambda: _read_pass_count(decoder, num_passes))
    passes_read = passes_missing = 0
    for n, visit in enumerate(walk_passes(prior, shape, step_code, edges)):
        number, coding_pass = visit.number, visit.coding_pass
        if end is not None and number >= end:
            break
        is_in_stream = passes_in_stream is None or n < passes_in_stream
        if not is_in_stream and not coding_pass.predicted:
            continue
        context = visit.context()
        data = read_pass(number, lambda context=context: _read_symbols(decoder, context)) if is_in_stream else None  # type: ignore[misc]
        values, bin_offsets = context.mode(), None  # the mode of a predicted pass is 0: the predicted latents
        if data is not None:
            values, passes_read = data.symbols, passes_read + 1
            if centroids is not None:
                bin_offsets = centroids[context.table_rows(), data.bins].astype(np.int32)
        else:
            passes_missing += is_in_stream
        pass_offsets = context.recon_offsets(values, bin_offsets)
        if pass_offsets is not None:
            scatter(recon_offsets, coding_pass, pass_offsets)
        visit.put(values)
        scatter(symbols, coding_pass, values)
    offsets = undo_channel_order(recon_offsets, order) if prior.has_recon_offsets else None
    return DecodedStream(undo_channel_order(symbols, order), offsets, passes_read, passes_missing)


def _read_pass_count(decoder: AnsDecoder, num_passes: int) -> int:
    count = int(decoder.read_uniform(np.array([1 << num_passes.bit_length()], np.int32))[0])
    if count > num_passes:
        raise FormatError(f"damaged stream: it announces {count} passes, there are {num_passes}")
    return count


def _read_symbols(decoder: AnsDecoder, context: Context) -> PassSymbols:
    bins, low_bits = decoder.read_bins(context.table_rows()), context.low_bits()
    values = context.base() + ((bins - MAX_BIN) << low_bits)
    decoder.read_low_bits_and_escapes(values, bins == ESCAPE, low_bits)
    # An encoder never gets here, since its locations have 16 bits.
    if values.max() >= ESCAPE_OFFSET or values.min() < -ESCAPE_OFFSET:
        raise FormatError("damaged stream: a symbol does not fit 16 bits")
    return PassSymbols(bins, values)


@dataclass(frozen=True, slots=True)
class _CodedPass:
    """The data of one pass in the order in which a decoder reads it."""

    number: int
    rows: I32Array
    bins: I32Array
    low_bit_values: I32Array
    low_bit_sizes: I32Array
    escaped: I32Array


def _encode_passes(
    source: SymbolSource, shape: Shape, prior: Prior, step_code: int, count: int, edges: InnerEdges
) -> Stream:
    """Encode the symbols of the first `count` passes, without the last passes that hold zeros alone."""
    coded: list[_CodedPass] = []
    num_passes, passes_in_stream = len(non_empty(prior.passes(shape[0]), *shape[1:])), 0
    for visit in islice(walk_passes(prior, shape, step_code, edges), count):
        context = visit.context()
        symbols = source(visit.coding_pass, context)
        coded.append(_code_pass(visit.number, symbols, context))
        visit.put(symbols)
        passes_in_stream = len(coded) if symbols.any() else passes_in_stream
    encoder, words_after_cut = AnsEncoder(prior.tables), dict.fromkeys(prior.cuts, 0)
    for one in reversed(coded[:passes_in_stream]):
        encoder.write_uniform(one.escaped, np.full_like(one.escaped, 1 << 16))
        encoder.write_uniform(one.low_bit_values, one.low_bit_sizes)
        encoder.write_bins(one.bins, one.rows)
        words_after_cut |= {cut: encoder.words for cut in prior.cuts if cut <= one.number}
    encoder.write_number(passes_in_stream, 1 << num_passes.bit_length())
    data = encoder.stream()
    return Stream(data, (*(len(data) - WORD * words_after_cut[cut] for cut in prior.cuts), len(data)))


def _code_pass(number: int, symbols: I32Array, context: Context) -> _CodedPass:
    low_bits, difference = context.low_bits(), symbols - context.base()
    bins = bins_of(difference, low_bits)
    has_low_bits = (low_bits > 0) & (bins != ESCAPE)
    sizes = 1 << low_bits[has_low_bits]
    values, escaped = difference[has_low_bits] & (sizes - 1), symbols[bins == ESCAPE] + ESCAPE_OFFSET
    return _CodedPass(number, context.table_rows().ravel(), bins.ravel(), values, sizes, escaped)
