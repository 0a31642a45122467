"""Symbols of a tile to an entropy-coded stream and back, pass by pass. From symbols to bytes all is integer arithmetic.

A stream starts with the number of passes that it contains. The passes after them hold zeros alone, which is usual at
coarse quantization steps, and take no time. The latents of predicted passes among them are the predicted values.

The compiled core does the work where it is there (`core_streams`), otherwise NumPy (`numpy_streams`). Both give the
same bytes and the same symbols.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import F32Array, I16Array
from sdtrt.engine.coding.encode_options import SEARCH_ITERATIONS
from sdtrt.engine.coding.priors.core_prior import has_core
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA, LambdaMap, count_useful_passes
from sdtrt.engine.coding.rdoq_search import search_symbols
from sdtrt.engine.coding.streams import core_streams
from sdtrt.engine.coding.streams.decoded import DecodedStream, ReadRules, Shape, TileParameters
from sdtrt.engine.coding.streams.words import WORD, words_of
from sdtrt.errors import FormatError


class Stream(NamedTuple):
    """The bytes of a tile; the first `ends[n]` bytes hold all passes up to level n."""

    data: bytes
    ends: tuple[int, ...]

    def levels(self) -> list[bytes]:
        """Cut the stream into the levels of its prior, from coarse to fine."""
        return [self.data[first:last] for first, last in pairwise((0, *self.ends))]


def encode_stream(symbols: I16Array, prior: Prior, step_code: int, edges: InnerEdges = NO_INNER_EDGES) -> Stream:
    """Encode symbols.

    Arguments:
        symbols: int16 (C, h, w).
        prior: the entropy model.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """
    tile = _tile_of(symbols, step_code, edges)
    return _stream(*_implementation(prior).encode_symbols(symbols, tile, prior))


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
    count = count_useful_passes(scaled[prior.order(len(scaled))], prior, lmbda)
    tile = _tile_of(scaled, step_code, edges)
    return _stream(*_implementation(prior).encode_latents(scaled, lmbda, count, tile, prior))


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
    rules = ReadRules(len(prior.passes(shape[0])), prior.cuts, tuple(words_remaining))
    tile = TileParameters(shape, step_code, edges)
    decoded, end = _implementation(prior).decode(words_of(stream), tile, prior, rules)
    if not end.is_at_end:
        raise FormatError("damaged stream: data left over after the last symbol")
    if maybe_truncated and end.was_exhausted:
        raise FormatError("damaged stream: it may end before its last pass")
    if decoded.passes_read and end.last_pass_is_zero:
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
    rules = ReadRules(prior.cuts[levels - 1], prior.cuts, tuple(words_remaining))
    tile = TileParameters(shape, step_code, edges)
    decoded, end = _implementation(prior).decode(words_of(stream), tile, prior, rules)
    if more and end.is_exhausted:
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
    try:
        words = words_of(stream, alignment)
    except FormatError:
        words = None
    rules = ReadRules(len(prior.passes(shape[0])), complete_passes=complete_passes)
    return _implementation(prior).decode(words, TileParameters(shape, step_code, edges), prior, rules)[0]


def levels_holding(channels: Collection[int], prior: Prior, count: int) -> int:
    """Count the levels, from the coarsest, that together hold all passes of some of `count` channels; at least 1."""
    order, passes = prior.order(count), prior.passes(count)
    numbers = [n for n, p in enumerate(passes) if not {*channels}.isdisjoint(order[p.start : p.stop])]
    return 1 + bisect_right(prior.cuts, max(numbers, default=0))


def _implementation(prior: Prior) -> ModuleType:
    """Return the module that codes the streams of a prior."""
    if has_core(prior):
        return core_streams
    from sdtrt.engine.coding.streams import numpy_streams  # it loads the library constriction

    return numpy_streams


def _tile_of(planes: F32Array | I16Array, step_code: int, edges: InnerEdges) -> TileParameters:
    channels, height, width = planes.shape
    return TileParameters((channels, height, width), step_code, edges)


def _stream(data: bytes, words_after_cuts: list[int]) -> Stream:
    return Stream(data, (*(len(data) - WORD * words for words in words_after_cuts), len(data)))
