"""Streams of tiles in NumPy: what `core_streams` does where there is no compiled core, or another kind of prior.

All of it is integer arithmetic, but for the choice of symbols in the encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from sdtrt._arrays import F32Array, I16Array, I32Array, U32Array
from sdtrt.engine.coding.priors.passes import (
    Pass,
    gather,
    gather_plane,
    non_empty,
    scatter,
    undo_channel_order,
    walk_passes,
)
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import ESCAPE, ESCAPE_OFFSET, MAX_BIN, Context, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import LambdaMap, quantize_rdo
from sdtrt.engine.coding.streams.ans import AnsDecoder, AnsEncoder
from sdtrt.engine.coding.streams.damage import Damage, error_of
from sdtrt.engine.coding.streams.decoded import DecodedStream, ReadRules, StreamEnd, TileParameters
from sdtrt.errors import FormatError

Item = TypeVar("Item")


class _PassReader:
    """Reads a stream pass by pass. It checks where levels end, or finds out what is missing in a damaged stream.

    Arguments:
        words: uint32, as of `words_of`; None if nothing can be read.
        prior: the entropy model.
        rules: how much is read.
    """

    def __init__(self, words: U32Array | None, prior: Prior, rules: ReadRules) -> None:
        self.decoder = AnsDecoder(np.empty(0, np.uint32) if words is None else words, prior.tables)
        self._missing, self._complete_passes = words is None, rules.complete_passes
        self._level_ends = [*zip(rules.cuts, rules.words_after_cuts, strict=False)]
        self.was_exhausted = False

    def read(self, number: int, read: Callable[[], Item]) -> Item | None:
        """Return the result of `read` for pass `number`; None if the pass is missing.

        Before pass 0 the number of passes is read, also under number 0.
        """
        if self._complete_passes is None:
            self.check_levels(number)
            self.was_exhausted = self.decoder.is_exhausted
            return read()
        if self._missing:
            return None
        try:
            item = read()
        except FormatError:
            self._missing = True
            return None
        self._missing = number >= self._complete_passes and self.decoder.is_exhausted
        return None if self._missing else item

    def check_levels(self, number: int) -> None:
        """Raise `FormatError` if a level that ends before pass `number` does not end here."""
        while self._level_ends and self._level_ends[0][0] <= number:
            if self._level_ends.pop(0)[1] != self.decoder.words_remaining:
                raise error_of(Damage.LEVEL_END)


class PassSymbols(NamedTuple):
    """The data of one pass: the table bins that were read, and the symbols."""

    bins: I32Array
    symbols: I32Array


def decode(
    words: U32Array | None, tile: TileParameters, prior: Prior, rules: ReadRules
) -> tuple[DecodedStream, StreamEnd]:
    """Decode the passes of a stream.

    Arguments:
        words: uint32, as of `words_of`; None if nothing of a damaged stream can be read.
        tile: shape, quantization step and edges of the tile.
        prior: the entropy model.
        rules: how much is read, and whether damage is raised.

    Raises:
        FormatError: if the stream is damaged, unless the rules say otherwise.
    """
    shape, centroids = tile.shape, prior.centroids
    symbols, recon_offsets = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
    num_passes = len(non_empty(prior.passes(shape[0]), *shape[1:]))
    reader = _PassReader(words, prior, rules)
    passes_in_stream = reader.read(0, lambda: _read_pass_count(reader.decoder, num_passes))
    passes_read = passes_missing = 0
    last_pass_is_zero = False
    for n, visit in enumerate(walk_passes(prior, *tile)):
        number, coding_pass = visit.number, visit.coding_pass
        if number >= rules.end:
            break
        is_in_stream = passes_in_stream is None or n < passes_in_stream
        if not is_in_stream and not coding_pass.predicted:
            continue
        context = visit.context()
        data = (
            reader.read(number, lambda context=context: _read_symbols(reader.decoder, context))  # type: ignore[misc]
            if is_in_stream
            else None
        )
        values, bin_offsets = context.mode(), None  # the mode of a predicted pass is 0: the predicted latents
        if data is not None:
            values, passes_read = data.symbols, passes_read + 1
            last_pass_is_zero = not values.any()
            if centroids is not None:
                bin_offsets = centroids[context.table_rows(), data.bins].astype(np.int32)
        else:
            passes_missing += is_in_stream
        pass_offsets = context.recon_offsets(values, bin_offsets)
        if pass_offsets is not None:
            scatter(recon_offsets, coding_pass, pass_offsets)
        visit.put(values)
        scatter(symbols, coding_pass, values)
    if rules.complete_passes is None:
        reader.check_levels(rules.end)
    order, decoder = prior.order(shape[0]), reader.decoder
    offsets = undo_channel_order(recon_offsets, order) if prior.has_recon_offsets else None
    decoded = DecodedStream(undo_channel_order(symbols, order), offsets, passes_read, passes_missing)
    return decoded, StreamEnd(decoder.is_at_end, decoder.is_exhausted, reader.was_exhausted, last_pass_is_zero)


def _read_pass_count(decoder: AnsDecoder, num_passes: int) -> int:
    count = int(decoder.read_uniform(np.array([1 << num_passes.bit_length()], np.int32))[0])
    if count > num_passes:
        raise error_of(Damage.TOO_MANY_PASSES, count, num_passes)
    return count


def _read_symbols(decoder: AnsDecoder, context: Context) -> PassSymbols:
    bins, low_bits = decoder.read_bins(context.table_rows()), context.low_bits()
    values = context.base() + ((bins - MAX_BIN) << low_bits)
    decoder.read_low_bits_and_escapes(values, bins == ESCAPE, low_bits)
    # Only a prior with larger locations than those of sdtrt's priors gets here.
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


def encode_symbols(symbols: I16Array, tile: TileParameters, prior: Prior) -> tuple[bytes, list[int]]:
    """Encode symbols, int16 (C, h, w).

    Returns the stream, and the number of words behind each of `prior.cuts`.
    """
    ordered = symbols[prior.order(len(symbols))]

    def choose(visit_pass: Pass, context: Context) -> I32Array:
        return gather(ordered, visit_pass).astype(np.int32)

    return _encode(choose, len(prior.passes(len(symbols))), tile, prior)


def encode_latents(
    scaled: F32Array, lmbda: LambdaMap, count: int, tile: TileParameters, prior: Prior
) -> tuple[bytes, list[int]]:
    """Quantize latents by RDOQ, pass by pass, and encode the symbols.

    Arguments:
        scaled: float32 (C, h, w), latents in quantization steps.
        lmbda: squared symbol distances per bit; a number, or float32 (h, w).
        count: number of the passes with positions that are encoded.
        tile: shape, quantization step and edges of the tile.
        prior: the entropy model.

    Returns the stream, and the number of words behind each of `prior.cuts`.
    """
    ordered, bits = scaled[prior.order(len(scaled))], bit_costs(prior.tables)

    def choose(visit_pass: Pass, context: Context) -> I32Array:
        pass_lmbda = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, visit_pass)
        return quantize_rdo(gather(ordered, visit_pass), context, bits, prior.centroids, pass_lmbda)

    return _encode(choose, count, tile, prior)


def _encode(
    choose: Callable[[Pass, Context], I32Array], count: int, tile: TileParameters, prior: Prior
) -> tuple[bytes, list[int]]:
    """Encode the symbols of the first `count` passes, without the last passes that hold zeros alone.

    `choose` returns the symbols of a pass, int32 (channels of the pass, positions), given its context.
    """
    coded: list[_CodedPass] = []
    num_passes, passes_in_stream = len(non_empty(prior.passes(tile.shape[0]), *tile.shape[1:])), 0
    for visit in islice(walk_passes(prior, *tile), count):
        context = visit.context()
        symbols = choose(visit.coding_pass, context)
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
    return encoder.stream(), [words_after_cut[cut] for cut in prior.cuts]


def _code_pass(number: int, symbols: I32Array, context: Context) -> _CodedPass:
    low_bits, difference = context.low_bits(), symbols - context.base()
    bins = bins_of(difference, low_bits)
    has_low_bits = (low_bits > 0) & (bins != ESCAPE)
    sizes = 1 << low_bits[has_low_bits]
    values, escaped = difference[has_low_bits] & (sizes - 1), symbols[bins == ESCAPE] + ESCAPE_OFFSET
    return _CodedPass(number, context.table_rows().ravel(), bins.ravel(), values, sizes, escaped)
