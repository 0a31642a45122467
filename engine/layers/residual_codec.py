"""Encoding and decoding of the residual layer: DCT coefficients <-> streams of the ANS coder."""

from functools import cache, lru_cache
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, F64Array, I8Array, I32Array, U32Array
from sdtrt.engine.coding.priors.core_prior import core_tables
from sdtrt.engine.coding.priors.network_prior import clamp
from sdtrt.engine.coding.priors.symbol_planes import MAGNITUDE
from sdtrt.engine.coding.priors.tables import ESCAPE_OFFSET
from sdtrt.engine.coding.quality_scale import RESIDUAL_LAMBDA, STEP_UNIT
from sdtrt.engine.coding.streams.damage import Damage, error_of
from sdtrt.engine.coding.streams.words import words_of
from sdtrt.engine.layers.dct import QUANT_MATRIX, WEIGHT_UNIT, ZIGZAG
from sdtrt.engine.layers.residual_contexts import (
    BANDS,
    CHANNELS,
    ESCAPE,
    MAX_BIN,
    NUM_GROUPS,
    NUM_LAST_GROUPS,
    BlockContexts,
    ResidualTables,
    residual_tables,
    sum_by_group,
)
from sdtrt.errors import FormatError
from sdtrt.kernels import core
from sdtrt.kernels.reference import BLOCK, RESIDUAL_LIMIT

_MAX_SYMBOL = ESCAPE_OFFSET - 1  # the largest coefficients have larger symbols at a step of 1/16; they are clamped

# Estimated bits that `choose_last_groups` uses.
_ZERO_BITS, _ONE_BITS = 0.3, 4.0  # of a symbol 0, and of a symbol +-1
_OCTAVE_BITS = 1.6  # more for each doubling of a symbol
_BLOCK_BITS = 4.0  # more for a block that has symbols than for one that has none


def encode_residual(
    coefficients: F32Array,
    residual_step: int,
    lmbda: F32Array | float = RESIDUAL_LAMBDA,
    tables: ResidualTables | None = None,
) -> bytes:
    """Return the stream of a tile's residual. It is empty if the cost D + lambda R without a residual is lower.

    Arguments:
        coefficients: float32 (3, 64, rows, columns) in 8-bit values, as of `forward_dct`.
        residual_step: in 1/16 of an 8-bit value.
        lmbda: squared steps per bit; a number, or one for each block, float32 (rows, columns).
        tables: None: the shipped tables.
    """
    tables = tables or residual_tables()
    target = scale_coefficients(coefficients, residual_step)
    lambdas = np.broadcast_to(np.asarray(lmbda, np.float32).ravel(), target.shape[2:])
    last_groups = choose_last_groups(target, lambdas)
    if not last_groups.any():
        return b""
    model = _core_model() if tables is residual_tables() else None
    rows, columns = coefficients.shape[2:]
    if model is None:
        return _encode(target, lambdas, last_groups, BlockContexts(rows, columns, tables), tables)
    arrays = (np.ascontiguousarray(array) for array in (target, lambdas, last_groups))
    stream: bytes = core.compiled().encode_residual(model, *arrays, rows, columns)  # type: ignore[union-attr]
    return stream


def _encode(
    target: F64Array, lambdas: F32Array, last_groups: I32Array, blocks: BlockContexts, tables: ResidualTables
) -> bytes:
    """Choose the symbols and encode them, in NumPy; the arguments are those of `choose_last_groups`, and its result."""
    from sdtrt.engine.coding.streams.ans import AnsEncoder

    bits = bit_costs(tables)
    encoded_passes, gain = [], 0  # the gain is in 1/256 bit: the cost that the residual saves, divided by lambda
    bits_per_error = 1 / np.maximum(lambdas, np.float32(1e-12))
    for coding_pass in blocks.passes():
        rows = blocks.rows(coding_pass)
        if coding_pass.group < 0:
            symbols = bins = last_groups[coding_pass.channel, coding_pass.blocks]
            gain -= _in_fixed_point(bits[rows, bins])
        else:
            pass_target = target[coding_pass.channel][coding_pass.bands, coding_pass.blocks]
            symbols, bins, costs = quantize_rdo(pass_target, rows, tables, bits, lambdas[coding_pass.blocks])
            saved = (pass_target * pass_target - costs).astype(np.float64)
            gain += _in_fixed_point(saved * bits_per_error[coding_pass.blocks])
        encoded_passes.append((rows, bins, symbols, tables.low_bits[rows]))
        blocks.put(coding_pass, symbols)
    if gain <= 0:
        return b""
    encoder = AnsEncoder(tables.tables)
    for rows, bins, symbols, low_bits in reversed(encoded_passes):
        is_escaped, is_wide = bins == ESCAPE, (low_bits > 0) & (bins != ESCAPE)
        encoder.write_uniform(symbols[is_escaped] + ESCAPE_OFFSET, np.full(is_escaped.sum(), 1 << 16, np.int32))
        encoder.write_uniform(symbols[is_wide] & ((1 << low_bits[is_wide]) - 1), 1 << low_bits[is_wide])
        encoder.write_bins(bins.ravel(), rows.ravel())
    return encoder.stream()


def _in_fixed_point(bits: F32Array | F64Array) -> int:
    """Return the sum of bits in 1/256.

    Each is rounded, so that the sum does not depend on the order, and limited, so that it does not overflow.
    """
    return int(np.rint(np.clip(256 * bits.astype(np.float64), -(1 << 31), 1 << 31)).astype(np.int64).sum())


def decode_residual(stream: bytes, rows: int, columns: int, residual_step: int) -> I32Array:
    """Return the coefficients in a stream, int32 (3, rows, columns, 8, 8), as `reference.add_residual` takes them.

    Arguments:
        stream: may be empty; then all coefficients are 0.
        rows, columns: of blocks.
        residual_step: in 1/16 of an 8-bit value.

    Raises `FormatError` if the stream is damaged, or has another number of blocks.
    """
    if stream.startswith(b"\0"):
        raise FormatError("damaged residual: it starts with a zero byte")
    words, model = words_of(stream), _core_model()
    if model is None:
        return _decode(words, rows, columns, residual_step)
    coefficients = np.zeros((CHANNELS, rows, columns, BLOCK, BLOCK), np.int32)
    code, last_group = core.compiled().decode_residual(  # type: ignore[union-attr]
        model, words, rows, columns, residual_step, coefficients
    )
    if code == Damage.LAST_GROUP:
        raise error_of(Damage.LAST_GROUP, last_group, NUM_LAST_GROUPS - 1)
    if code:
        raise error_of(Damage(code))
    return coefficients


def _decode(words: U32Array, rows: int, columns: int, residual_step: int) -> I32Array:
    """Decode the coefficients in NumPy; the arguments and the result are those of `decode_residual`."""
    from sdtrt.engine.coding.streams.ans import AnsDecoder

    tables = residual_tables()
    decoder, blocks = AnsDecoder(words, tables.tables), BlockContexts(rows, columns, tables)
    coefficients = np.zeros((CHANNELS, BANDS, rows * columns), np.int32)
    for coding_pass in blocks.passes():
        table_rows = blocks.rows(coding_pass)
        bins = decoder.read_bins(table_rows)
        if coding_pass.group < 0:
            if bins.max() >= NUM_LAST_GROUPS:
                raise error_of(Damage.LAST_GROUP, bins.max(), NUM_LAST_GROUPS - 1)
            blocks.put(coding_pass, bins)
            continue
        symbols = (bins - MAX_BIN) << tables.low_bits[table_rows]
        decoder.read_low_bits_and_escapes(symbols, bins == ESCAPE, tables.low_bits[table_rows])
        blocks.put(coding_pass, symbols)
        weighted_steps = residual_step * QUANT_MATRIX[coding_pass.channel, coding_pass.bands, None]
        coefficients[coding_pass.channel][ZIGZAG[coding_pass.bands, None], coding_pass.blocks] = dequantize(
            symbols, tables.recon_offsets[table_rows, bins], weighted_steps
        )
    if not decoder.is_at_end:
        raise error_of(Damage.RESIDUAL_LEFT_OVER)
    return np.ascontiguousarray(coefficients.transpose(0, 2, 1)).reshape(CHANNELS, rows, columns, BLOCK, BLOCK)


def _core_model() -> Any | None:
    """Return the shipped tables as an object of the compiled core, or None without a core."""
    return None if core.compiled() is None else _make_core_model(QUANT_MATRIX.tobytes())


@lru_cache(4)
def _make_core_model(matrix: bytes) -> Any:
    """Make an object of the compiled core. `matrix` are the bytes of the quantization matrix, int32 (3, 64)."""
    model = residual_tables()
    tables = core_tables(model.tables, model.low_bits, model.recon_offsets, bit_costs(model))
    arrays = (model.weights, model.offsets, MAGNITUDE, np.frombuffer(matrix, np.int32), ZIGZAG)
    as_int32 = [np.ascontiguousarray(array, np.int32) for array in arrays]
    return core.compiled().make_residual_model(tables, *as_int32)  # type: ignore[union-attr]


def dequantize(symbols: I32Array, recon_offsets: I8Array, weighted_steps: I32Array) -> I32Array:
    """Return the coefficients of symbols, int32 in the unit of `decode_residual`.

    Arguments:
        symbols: int32 (bands, n).
        recon_offsets: int8 (bands, n), in 1/64 step.
        weighted_steps: int32 (bands, 1), steps in 1/16 times their weights in 1/32.
    """
    # 64 bits take twice as long, and are needed for the largest symbols and steps only.
    max_product = 64 * (int(np.abs(symbols).max()) + 2) * int(weighted_steps.max())
    fine = np.left_shift(symbols, 6, dtype=np.int32 if max_product < 1 << 31 else np.int64)
    fine += recon_offsets
    fine *= weighted_steps
    fine += 1024
    fine >>= 11
    return clamp(fine, -RESIDUAL_LIMIT, RESIDUAL_LIMIT, out=fine).astype(np.int32)


def scale_coefficients(coefficients: F32Array, residual_step: int) -> F64Array:
    """Return coefficients in units of their steps, float64 (3, 64, rows * columns).

    Arguments:
        coefficients: float32 (3, 64, rows, columns) in 8-bit values.
        residual_step: in 1/16 of an 8-bit value.
    """
    steps = QUANT_MATRIX[:, :, None] * np.float32(residual_step / (STEP_UNIT * WEIGHT_UNIT))
    return coefficients.reshape(CHANNELS, BANDS, -1) / steps


def bit_costs(tables: ResidualTables) -> F32Array:
    """Return the bits of a symbol of each bin, float32 (rows, 16), with its low bits or its escape code."""
    bits = 24 - np.log2(tables.tables) + tables.low_bits[:, None]
    bits[:, ESCAPE] = 24 - np.log2(tables.tables[:, ESCAPE]) + 16
    return bits.astype(np.float32)


def quantize_rdo(
    target: F64Array, rows: I32Array, tables: ResidualTables, bits: F32Array, lambdas: F32Array
) -> tuple[I32Array, I32Array, F32Array]:
    """Return the symbols of a pass, their bins and their costs D + lambda R: RDOQ over 0 and the two nearest symbols.

    Arguments:
        target: float64 (bands, n), coefficients in units of their steps.
        rows: int32 (bands, n), of the tables.
        tables, bits: the tables, and their `bit_costs`.
        lambdas: float32 (n,), squared steps per bit.
    """
    truncated = np.trunc(target).astype(np.int32)
    candidates = np.stack([truncated, truncated + np.where(target < 0, -1, 1), np.zeros_like(truncated)])
    symbols = np.clip(candidates.astype(np.int32), -_MAX_SYMBOL, _MAX_SYMBOL)
    bins = (symbols >> tables.low_bits[rows]) + MAX_BIN
    bins = np.where((bins < 0) | (bins >= ESCAPE), ESCAPE, bins).astype(np.int32)
    error = target - symbols - tables.recon_offsets[rows, bins] * np.float32(1 / 64)
    costs = (error * error + lambdas * bits[rows, bins]).astype(np.float32)
    best = costs.argmin(0)[None]
    best_of_each = (np.take_along_axis(array, best, 0)[0] for array in (symbols, bins, costs))
    return tuple(best_of_each)


def choose_last_groups(target: F64Array, lambdas: F32Array) -> I32Array:
    """Return the last group of each block, int32 (3, blocks), of the lowest estimated cost D + lambda R.

    Arguments:
        target: float64 (3, 64, blocks), coefficients in units of their steps.
        lambdas: float32 (blocks,), squared steps per bit.
    """
    compiled = core.compiled()
    if compiled is not None:
        last_groups = np.empty((CHANNELS, target.shape[2]), np.int32)
        arrays = np.ascontiguousarray(target), np.ascontiguousarray(lambdas)
        compiled.choose_last_groups(*arrays, _estimated_bits(), _BLOCK_BITS, last_groups)
        return last_groups
    magnitudes = np.abs(target)
    symbols = np.floor(magnitudes + np.float32(0.4))
    error_reduction = magnitudes * magnitudes - np.square(magnitudes - symbols)
    bits = _estimated_bits()[np.minimum(symbols, _MAX_SYMBOL).astype(np.intp)]
    gains = sum_by_group(error_reduction - lambdas * bits).cumsum(1)
    gains = gains - np.float32(_BLOCK_BITS) * lambdas
    gains = np.concatenate([np.zeros_like(gains[:, :1]), gains], 1)
    return gains.argmax(1).astype(np.int32)


@cache
def _estimated_bits() -> F32Array:
    """Return the estimated bits of symbols by their magnitude, float32 (_MAX_SYMBOL + 1,)."""
    magnitudes = np.arange(1, _MAX_SYMBOL + 1)
    return np.r_[_ZERO_BITS, _ONE_BITS + _OCTAVE_BITS * np.log2(magnitudes)].astype(np.float32)


assert NUM_GROUPS < ESCAPE
