"""Coefficients to streams and back, through the coder that latents use."""

import numpy as np

from sdtrt._arrays import F32Array, I8Array, I32Array
from sdtrt.engine.coding.ans import ESCAPE_OFFSET, AnsDecoder, AnsEncoder
from sdtrt.engine.coding.priors.network_prior import clamp
from sdtrt.engine.coding.quality_scale import RESIDUAL_LAMBDA, STEP_UNIT
from sdtrt.engine.layers.dct import QUANT_MATRIX, WEIGHT_UNIT, ZIGZAG
from sdtrt.engine.layers.residual_contexts import (
    BANDS,
    CHANNELS,
    ESCAPE,
    EXTENTS,
    GROUPS,
    REACH,
    BlockContexts,
    ResidualTables,
    groups_of,
    residual_tables,
)
from sdtrt.errors import FormatError
from sdtrt.kernels.reference import BLOCK, RESIDUAL_LIMIT

_FARTHEST = ESCAPE_OFFSET - 1  # symbol: at a step of 1/16 level the largest coefficients have no nearer one

# What an encoder expects when it chooses extents, in bits: of a coefficient of 0, of 1, and for each doubling; and of
# a block that holds anything, over one that holds nothing.
_ZERO, _ONE, _OCTAVE = 0.3, 4.0, 1.6
_OPENING = 4.0


def encode_residual(
    coefficients: F32Array, step: int, lmbda: F32Array | float = RESIDUAL_LAMBDA, trained: ResidualTables | None = None
) -> bytes:
    """Return the stream of coefficients in levels, float32 (3, 64, rows, columns); empty if nothing is worth its bits.

    `step` is in 1/16 level; `lmbda` is what a bit may cost in squared error, in squared steps, or at each block,
    float32 (rows, columns).
    """
    trained = trained or residual_tables()
    target = scale_coefficients(coefficients, step)
    lambdas = np.broadcast_to(np.asarray(lmbda, np.float32).ravel(), target.shape[2:])
    extents = choose_last_groups(target, lambdas)
    if not extents.any():
        return b""
    blocks, bits = BlockContexts(coefficients.shape[2], coefficients.shape[3], trained), bit_costs(trained)
    coded, gain = [], 0.0  # in bits: what each block's error is worth at its price, less those that are sent
    worth = 1 / np.maximum(lambdas, np.float32(1e-12))
    for part in blocks.passes():
        rows = blocks.rows(part)
        if part.group < 0:
            values = bins = extents[part.channel, part.blocks]
            gain -= float(bits[rows, bins].sum())
        else:
            at = target[part.channel][part.bands, part.blocks]
            values, bins, costs = quantize_rdo(at, rows, trained, bits, lambdas[part.blocks])
            gain += float((at * at - costs).sum(0) @ worth[part.blocks])
        coded.append((rows, bins, values, trained.low_bits[rows]))
        blocks.put(part, values)
    if gain <= 0:
        return b""
    writer = AnsEncoder(trained.tables)
    for rows, bins, values, low_bits in reversed(coded):
        escaped, wide = bins == ESCAPE, (low_bits > 0) & (bins != ESCAPE)
        writer.write_uniform(values[escaped] + ESCAPE_OFFSET, np.full(escaped.sum(), 1 << 16, np.int32))
        writer.write_uniform(values[wide] & ((1 << low_bits[wide]) - 1), 1 << low_bits[wide])
        writer.write_bins(bins.ravel(), rows.ravel())
    return writer.stream()


def decode_residual(stream: bytes, rows: int, columns: int, step: int) -> I32Array:
    """Return the values in a stream, int32 (3, rows, columns, 8, 8), for `reference.add_residual`.

    Raises `FormatError` if it is not a stream of so many blocks.
    """
    if stream.startswith(b"\0"):
        raise FormatError("damaged residual: it starts with a zero byte")
    trained = residual_tables()
    reader, blocks = AnsDecoder(stream, trained.tables), BlockContexts(rows, columns, trained)
    found = np.zeros((CHANNELS, BANDS, rows * columns), np.int32)
    for part in blocks.passes():
        at = blocks.rows(part)
        bins = reader.read_bins(at)
        if part.group < 0:
            if bins.max() >= EXTENTS:
                raise FormatError("damaged residual: an extent is out of range")
            blocks.put(part, bins)
            continue
        symbols = (bins - REACH) << trained.low_bits[at]
        reader.read_low_bits_and_escapes(symbols, bins == ESCAPE, trained.low_bits[at])
        blocks.put(part, symbols)
        factors = step * QUANT_MATRIX[part.channel, part.bands, None]
        found[part.channel][ZIGZAG[part.bands, None], part.blocks] = dequantize(
            symbols, trained.points[at, bins], factors
        )
    if not reader.is_at_end:
        raise FormatError("damaged residual: data left over after the last symbol")
    return np.ascontiguousarray(found.transpose(0, 2, 1)).reshape(CHANNELS, rows, columns, BLOCK, BLOCK)


def dequantize(symbols: I32Array, points: I8Array, factors: I32Array) -> I32Array:
    """Return what symbols mean, int32 in the units of `decode_residual`; factors are steps times weights, one for each band.

    `points` are in 1/64 step. In 64 bits only where 32 might not do: those take twice as long.
    """
    largest = 64 * (int(np.abs(symbols).max()) + 2) * int(factors.max())
    fine = np.left_shift(symbols, 6, dtype=np.int32 if largest < 1 << 31 else np.int64)
    fine += points
    fine *= factors
    fine += 1024
    fine >>= 11
    return clamp(fine, -RESIDUAL_LIMIT, RESIDUAL_LIMIT, out=fine).astype(np.int32)


def scale_coefficients(coefficients: F32Array, step: int) -> F32Array:
    """Return coefficients in levels, float32 (3, 64, rows, columns), in steps of their own: (3, 64, rows * columns)."""
    steps = QUANT_MATRIX[:, :, None] * np.float32(step / (STEP_UNIT * WEIGHT_UNIT))
    return coefficients.reshape(CHANNELS, BANDS, -1) / steps


def bit_costs(trained: ResidualTables) -> F32Array:
    """Return the bits of a symbol of each entry, float32 (rows, 16)."""
    bits = 24 - np.log2(trained.tables) + trained.low_bits[:, None]
    bits[:, ESCAPE] = 24 - np.log2(trained.tables[:, ESCAPE]) + 16
    return bits.astype(np.float32)


def quantize_rdo(
    target: F32Array, rows: I32Array, trained: ResidualTables, bits: F32Array, lambdas: F32Array
) -> tuple[I32Array, I32Array, F32Array]:
    """Return the symbols of a pass that are the best bargain, of 0 and the two nearest ones, entries and costs."""
    towards = np.trunc(target).astype(np.int32)
    symbols = np.stack([towards, towards + np.where(target < 0, -1, 1), np.zeros_like(towards)]).astype(np.int32)
    symbols = np.clip(symbols, -_FARTHEST, _FARTHEST)
    bins = (symbols >> trained.low_bits[rows]) + REACH
    bins = np.where((bins < 0) | (bins >= ESCAPE), ESCAPE, bins).astype(np.int32)
    error = target - symbols - trained.points[rows, bins] * np.float32(1 / 64)
    costs = (error * error + lambdas * bits[rows, bins]).astype(np.float32)
    best = costs.argmin(0)[None]
    found = (np.take_along_axis(each, best, 0)[0] for each in (symbols, bins, costs))
    return tuple(found)


def choose_last_groups(target: F32Array, lambdas: F32Array) -> I32Array:
    """Return how many groups of each block to send, int32 (3, blocks): as many as are worth their bits all told."""
    magnitudes = np.abs(target)
    symbols = np.floor(magnitudes + np.float32(0.4))
    saved = magnitudes * magnitudes - np.square(magnitudes - symbols)
    spent = np.where(symbols > 0, _ONE + _OCTAVE * np.log2(np.maximum(symbols, 1)), _ZERO)
    gains = groups_of(saved - lambdas * spent.astype(np.float32)).cumsum(1) - np.float32(_OPENING) * lambdas
    gains = np.concatenate([np.zeros_like(gains[:, :1]), gains], 1)
    return gains.argmax(1).astype(np.int32)


assert GROUPS < ESCAPE
