"""Coefficients to streams and back, through the coder that latents use."""

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.coder import ESCAPE_OFFSET, Reader, Writer
from sdtrt.engine.coding.dial import PRICE, UNIT
from sdtrt.engine.coding.priors.latents import clamped
from sdtrt.engine.layers.contexts import (
    BANDS,
    CHANNELS,
    ESCAPE,
    EXTENTS,
    GROUPS,
    REACH,
    Blocks,
    ResidualTables,
    groups_of,
    residual_tables,
)
from sdtrt.engine.layers.transform import WEIGHT_UNIT, WEIGHTS, ZIGZAG
from sdtrt.errors import FormatError
from sdtrt.kernels.reference import BLOCK, RESIDUAL_LIMIT

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_FARTHEST = ESCAPE_OFFSET - 1  # symbol: at a step of 1/16 level the largest coefficients have no nearer one

# What an encoder expects when it chooses extents, in bits: of a coefficient of 0, of 1, and for each doubling; and of
# a block that holds anything, over one that holds nothing.
_ZERO, _ONE, _OCTAVE = 0.3, 4.0, 1.6
_OPENING = 4.0


def encode(
    coefficients: Floats, step: int, price: Floats | float = PRICE, trained: ResidualTables | None = None
) -> bytes:
    """Return the stream of coefficients in levels, float32 (3, 64, rows, columns); empty if nothing is worth its bits.

    `step` is in 1/16 level; `price` is what a bit may cost in squared error, in squared steps, or at each block,
    float32 (rows, columns).
    """
    trained = trained or residual_tables()
    wanted = in_steps(coefficients, step)
    prices = np.broadcast_to(np.asarray(price, np.float32).ravel(), wanted.shape[2:])
    extents = extents_of(wanted, prices)
    if not extents.any():
        return b""
    blocks, bits = Blocks(coefficients.shape[2], coefficients.shape[3], trained), bits_of(trained)
    coded, gain = [], 0.0  # in bits: what each block's error is worth at its price, less those that are sent
    worth = 1 / np.maximum(prices, np.float32(1e-12))
    for part in blocks.passes():
        rows = blocks.rows(part)
        if part.group < 0:
            values = bins = extents[part.channel, part.blocks]
            gain -= float(bits[rows, bins].sum())
        else:
            at = wanted[part.channel][part.bands, part.blocks]
            values, bins, costs = choose(at, rows, trained, bits, prices[part.blocks])
            gain += float((at * at - costs).sum(0) @ worth[part.blocks])
        coded.append((rows, bins, values, trained.low_bits[rows]))
        blocks.put(part, values)
    if gain <= 0:
        return b""
    writer = Writer(trained.tables)
    for rows, bins, values, low_bits in reversed(coded):
        escaped, wide = bins == ESCAPE, (low_bits > 0) & (bins != ESCAPE)
        writer.raw(values[escaped] + ESCAPE_OFFSET, np.full(escaped.sum(), 1 << 16, np.int32))
        writer.raw(values[wide] & ((1 << low_bits[wide]) - 1), 1 << low_bits[wide])
        writer.entries(bins.ravel(), rows.ravel())
    return writer.stream()


def decode(stream: bytes, rows: int, columns: int, step: int) -> Ints:
    """Return the values in a stream, int32 (3, rows, columns, 8, 8), for `reference.add_residual`.

    Raises `FormatError` if it is not a stream of so many blocks.
    """
    if stream.startswith(b"\0"):
        raise FormatError("damaged residual: it starts with a zero byte")
    trained = residual_tables()
    reader, blocks = Reader(stream, trained.tables), Blocks(rows, columns, trained)
    found = np.zeros((CHANNELS, BANDS, rows * columns), np.int32)
    for part in blocks.passes():
        at = blocks.rows(part)
        bins = reader.entries(at)
        if part.group < 0:
            if bins.max() >= EXTENTS:
                raise FormatError("damaged residual: an extent is out of range")
            blocks.put(part, bins)
            continue
        symbols = (bins - REACH) << trained.low_bits[at]
        reader.complete(symbols, bins == ESCAPE, trained.low_bits[at])
        blocks.put(part, symbols)
        factors = step * WEIGHTS[part.channel, part.bands, None]
        found[part.channel][ZIGZAG[part.bands, None], part.blocks] = values_of(
            symbols, trained.points[at, bins], factors
        )
    if not reader.is_at_end:
        raise FormatError("damaged residual: data left over after the last symbol")
    return np.ascontiguousarray(found.transpose(0, 2, 1)).reshape(CHANNELS, rows, columns, BLOCK, BLOCK)


def values_of(symbols: Ints, points: NDArray[np.int8], factors: Ints) -> Ints:
    """Return what symbols mean, int32 in the units of `decode`; factors are steps times weights, one for each band.

    `points` are in 1/64 step. In 64 bits only where 32 might not do: those take twice as long.
    """
    largest = 64 * (int(np.abs(symbols).max()) + 2) * int(factors.max())
    fine = np.left_shift(symbols, 6, dtype=np.int32 if largest < 1 << 31 else np.int64)
    fine += points
    fine *= factors
    fine += 1024
    fine >>= 11
    return clamped(fine, -RESIDUAL_LIMIT, RESIDUAL_LIMIT, out=fine).astype(np.int32)


def in_steps(coefficients: Floats, step: int) -> Floats:
    """Return coefficients in levels, float32 (3, 64, rows, columns), in steps of their own: (3, 64, rows * columns)."""
    steps = WEIGHTS[:, :, None] * np.float32(step / (UNIT * WEIGHT_UNIT))
    return coefficients.reshape(CHANNELS, BANDS, -1) / steps


def bits_of(trained: ResidualTables) -> Floats:
    """Return the bits of a symbol of each entry, float32 (rows, 16)."""
    bits = 24 - np.log2(trained.tables) + trained.low_bits[:, None]
    bits[:, ESCAPE] = 24 - np.log2(trained.tables[:, ESCAPE]) + 16
    return bits.astype(np.float32)


def choose(
    wanted: Floats, rows: Ints, trained: ResidualTables, bits: Floats, prices: Floats
) -> tuple[Ints, Ints, Floats]:
    """Return the symbols of a pass that are the best bargain, of 0 and the two nearest ones, entries and costs."""
    towards = np.trunc(wanted).astype(np.int32)
    symbols = np.stack([towards, towards + np.where(wanted < 0, -1, 1), np.zeros_like(towards)]).astype(np.int32)
    symbols = np.clip(symbols, -_FARTHEST, _FARTHEST)
    bins = (symbols >> trained.low_bits[rows]) + REACH
    bins = np.where((bins < 0) | (bins >= ESCAPE), ESCAPE, bins).astype(np.int32)
    error = wanted - symbols - trained.points[rows, bins] * np.float32(1 / 64)
    costs = (error * error + prices * bits[rows, bins]).astype(np.float32)
    best = costs.argmin(0)[None]
    found = (np.take_along_axis(each, best, 0)[0] for each in (symbols, bins, costs))
    return tuple(found)


def extents_of(wanted: Floats, prices: Floats) -> Ints:
    """Return how many groups of each block to send, int32 (3, blocks): as many as are worth their bits all told."""
    magnitudes = np.abs(wanted)
    symbols = np.floor(magnitudes + np.float32(0.4))
    saved = magnitudes * magnitudes - np.square(magnitudes - symbols)
    spent = np.where(symbols > 0, _ONE + _OCTAVE * np.log2(np.maximum(symbols, 1)), _ZERO)
    gains = groups_of(saved - prices * spent.astype(np.float32)).cumsum(1) - np.float32(_OPENING) * prices
    gains = np.concatenate([np.zeros_like(gains[:, :1]), gains], 1)
    return gains.argmax(1).astype(np.int32)


assert GROUPS < ESCAPE
