"""The residual layer: its transform, round trips of streams, RDOQ and damage."""

import contextlib
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.coding.quality_scale import RESIDUAL_LAMBDA
from sdtrt.engine.coding.streams.ans import AnsEncoder
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import QUANT_MATRIX, WEIGHT_UNIT, ZIGZAG, block_grid, forward_dct
from sdtrt.engine.layers.residual_contexts import residual_tables
from sdtrt.errors import FormatError
from sdtrt.kernels import reference

LAYERED = runpy.run_path(str(Path(__file__).parents[2] / "vectors" / "layer_streams.py"))
SIZES = [(1, 1), (8, 8), (9, 23), (40, 3), (61, 43)]


def values_of(coefficients: np.ndarray) -> np.ndarray:
    """Return coefficients as `reference.add_residual` takes them."""
    _, count, rows, columns = coefficients.shape
    values = np.empty((3, rows, columns, count), np.int32)
    values[..., ZIGZAG] = np.rint(16 * coefficients).transpose(0, 2, 3, 1)
    return values.reshape(3, rows, columns, 8, 8)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (21, 50), (64, 3)])
def test_forward_dct_round_trip(size: tuple[int, int]) -> None:
    residual = np.random.default_rng(3).integers(-120, 120, (*size, 3)).astype(np.int16)
    coefficients = forward_dct(residual)
    assert coefficients.shape == (3, 64, *block_grid(*size))
    pixels = np.full((*size, 3), 128, np.uint8)
    reference.add_residual(pixels, values_of(coefficients))
    assert np.array_equal(pixels - 128.0, residual)


def test_forward_dct_keeps_the_energy() -> None:
    residual = np.random.default_rng(4).integers(-255, 256, (16, 24, 3)).astype(np.int16)
    assert np.square(forward_dct(residual)).sum() == pytest.approx(np.square(residual.astype(float)).sum(), rel=1e-3)


def test_add_residual_clamps_pixels_and_keeps_alpha() -> None:
    pixels = np.full((8, 8, 4), 200, np.uint8)
    values = np.zeros((3, 1, 1, 8, 8), np.int32)
    values[0, 0, 0, 0, 0] = 1 << 16
    reference.add_residual(pixels, values)
    assert (pixels[:, :, :3] == 255).all()
    assert (pixels[:, :, 3] == 200).all()
    values *= -1
    reference.add_residual(pixels, values)
    assert not pixels[:, :, :3].any()


def noise(height: int, width: int, reach: int = 255) -> np.ndarray:
    """Return a residual of random values, int16 (H, W, 3)."""
    return np.random.default_rng(height).integers(-reach, reach + 1, (height, width, 3)).astype(np.int16)


def decoded(data: bytes, height: int, width: int, step: int) -> np.ndarray:
    """Return the residual in a stream, which may be empty."""
    return reference.inverse_dct(residual_codec.decode_residual(data, *block_grid(height, width), step))[
        :height, :width
    ]


@pytest.mark.parametrize("size", SIZES)
def test_decode_residual_returns_the_written_symbols(size: tuple[int, int]) -> None:
    """Symbols have all 16 bits, with low bits and without. Reconstruction offsets are below half a step."""
    rows, columns = block_grid(*size)
    extents, symbols = LAYERED["residual_noise"](7, rows, columns)
    assert np.ptp(symbols) == 65535
    values = residual_codec.decode_residual(LAYERED["residual_stream"](extents, symbols), rows, columns, 64)
    coefficients = values.reshape(3, rows, columns, 64)[..., ZIGZAG].transpose(0, 3, 1, 2)
    steps = 64 * QUANT_MATRIX[:, :, None, None] / WEIGHT_UNIT
    target = np.clip(symbols * steps, -1 << 16, 1 << 16)
    assert (abs(coefficients - target) < steps / 2).all()
    assert (abs(symbols * steps) > 1 << 16).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("step", "off"), [(1, 0), (2, 0), (4, 1)])
def test_encode_residual_with_fine_step_is_lossless(size: tuple[int, int], step: int, off: int) -> None:
    """Steps of 1/16 and 1/8 are lossless, of 1/4 within one 8-bit value."""
    residual = noise(*size)
    data = residual_codec.encode_residual(forward_dct(residual), step, lmbda=0)
    assert abs(decoded(data, *size, step).astype(int) - residual).max() <= off


@pytest.mark.parametrize("level", [-255, 255])
def test_encode_residual_clamps_the_largest_symbols(level: int) -> None:
    """At the finest step, some symbols exceed 16 bits and are clamped."""
    residual = np.full((16, 9, 3), level, np.int16)
    decoded_residual = decoded(residual_codec.encode_residual(forward_dct(residual), 1), 16, 9, 1)
    assert (np.sign(decoded_residual) == np.sign(level)).all()
    assert (abs(decoded_residual) >= 145).all()


@pytest.mark.parametrize("step", [1, 100, 65535])
def test_encode_residual_of_zeros_is_empty(step: int) -> None:
    assert residual_codec.encode_residual(np.zeros((3, 64, 4, 5), np.float32), step) == b""
    assert not residual_codec.decode_residual(b"", 4, 5, step).any()


def test_encode_residual_without_gain_is_empty() -> None:
    """The residual is noise far below a step, or lambda is huge."""
    assert residual_codec.encode_residual(forward_dct(noise(30, 40, reach=2)), 1000) == b""
    assert residual_codec.encode_residual(forward_dct(noise(30, 40)), 100, lmbda=1e9) == b""


@pytest.mark.parametrize("level", [0.1, 0.2, 0.3, 0.4, 0.7])
def test_encode_residual_gains_at_least_lambda_per_bit(level: float) -> None:
    """The error in squared steps falls by at least lambda for each bit of the stream."""
    step, (rows, columns) = 160, block_grid(256, 384)
    steps = step / 16 * QUANT_MATRIX[:, :, None, None] / WEIGHT_UNIT
    spread = level * step / 16 / (1 + np.arange(64)[:, None, None] / 4)
    target = np.random.default_rng(step).laplace(0, spread, (3, 64, rows, columns)).astype(np.float32)
    data = residual_codec.encode_residual(target, step)
    coefficients = (
        residual_codec.decode_residual(data, rows, columns, step)
        .reshape(3, rows, columns, 64)[..., ZIGZAG]
        .transpose(0, 3, 1, 2)
    )
    gained = np.square(target / steps).sum() - np.square((target - coefficients / 16) / steps).sum()
    assert gained >= RESIDUAL_LAMBDA * 8 * len(data)
    assert bool(data) == (level > 0.25)


@given(st.integers(1, (1 << 16) - 1), st.lists(st.integers(-(1 << 15), (1 << 15) - 1), min_size=1))
def test_dequantize_is_exact_beyond_32_bits(step: int, symbols: list[int]) -> None:
    """The result equals that of Python's integers; the largest symbols and steps need more than 32 bits."""
    factors, points = (
        step * QUANT_MATRIX[1, :, None],
        (np.arange(-60, 4)[:, None] + np.zeros(len(symbols), int)).astype(np.int8),
    )
    coefficients = residual_codec.dequantize(
        np.broadcast_to(np.array(symbols, np.int32), points.shape), points, factors
    )
    for band in (0, 31, 63):
        exact = [(64 * symbol + band - 60) * int(factors[band, 0]) + 1024 >> 11 for symbol in symbols]
        assert coefficients[band].tolist() == [min(max(value, -1 << 16), 1 << 16) for value in exact]


def test_encode_residual_shrinks_with_step_and_lambda() -> None:
    target = forward_dct(noise(61, 43, reach=60))
    for settings in ([(step, 0.12) for step in (20, 60, 180, 500)], [(60, lmbda) for lmbda in (0.0, 0.1, 0.4, 2.0)]):
        sizes = [len(residual_codec.encode_residual(target, step, lmbda)) for step, lmbda in settings]
        assert sizes == sorted(sizes, reverse=True)
        assert len({*sizes}) == 4


def test_encode_residual_with_lambda_of_each_block() -> None:
    target = forward_dct(noise(32, 48, reach=60))
    lambdas = np.full((4, 6), 0.12, np.float32)
    assert residual_codec.encode_residual(target, 60, lambdas) == residual_codec.encode_residual(target, 60)
    lambdas[:, :3] = 1e9
    values = residual_codec.decode_residual(residual_codec.encode_residual(target, 60, lambdas), 4, 6, 60)
    assert not values[:, :, :3].any()
    assert values[:, :, 3:].any((0, 3, 4)).all()


def test_encode_residual_is_deterministic() -> None:
    target = forward_dct(noise(61, 43))
    assert residual_codec.encode_residual(target, 33) == residual_codec.encode_residual(target.copy(), 33)


DATA = residual_codec.encode_residual(forward_dct(noise(20, 12, reach=9)), 20)


def test_decode_residual_of_truncated_stream_raises() -> None:
    """A few truncated streams are valid streams of another residual; the CRC of the segment detects these."""
    refused = [is_refused(part) for cut in range(1, len(DATA)) for part in (DATA[:-cut], DATA[cut:])]
    assert all(refused[:24])  # up to 12 bytes
    assert refused.count(False) < len(refused) / 20


def is_refused(data: bytes) -> bool:
    try:
        residual_codec.decode_residual(data, 3, 2, 20)
    except FormatError:
        return True
    return False


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 3)])
def test_decode_residual_of_another_size_raises(size: tuple[int, int]) -> None:
    with pytest.raises(FormatError, match="damaged"):
        residual_codec.decode_residual(DATA, *size, 20)


@pytest.mark.parametrize("data", [b"\0" + DATA, bytes(3) + DATA, bytes(4) + DATA, DATA + b"\0", DATA * 2])
def test_decode_residual_with_extra_bytes_raises(data: bytes) -> None:
    assert is_refused(data)


@given(st.binary(min_size=1, max_size=120), st.integers(1, 4), st.integers(1, 4), st.integers(1, 65535))
def test_decode_residual_of_random_data_raises_or_is_within_limits(
    data: bytes, rows: int, columns: int, step: int
) -> None:
    with contextlib.suppress(FormatError):
        assert abs(residual_codec.decode_residual(data, rows, columns, step)).max() <= 1 << 16


@pytest.mark.parametrize("extent", range(9, 16))
def test_decode_residual_with_extent_out_of_range_raises(extent: int) -> None:
    writer = AnsEncoder(residual_tables().tables)
    writer.write_bins(np.array([extent], np.int32), np.array([0], np.int32))
    with pytest.raises(FormatError, match="extent"):
        residual_codec.decode_residual(writer.stream(), 1, 1, 40)
