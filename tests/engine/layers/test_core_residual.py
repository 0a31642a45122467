"""The residual layer by the compiled core and in NumPy: the same streams, coefficients, pixels and errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import forward_dct
from sdtrt.errors import FormatError
from sdtrt.kernels import core, reference

pytestmark = pytest.mark.skipif(core.compiled() is None, reason="no compiled core")

SIDES, SEEDS = st.integers(1, 70), st.integers(0, 1 << 32)
STEPS = st.sampled_from([1, 7, 40, 300, 65535])


def in_numpy(call: Callable[[], Any]) -> Any:
    """Return the result of a function without the core, an error as its text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "compiled", lambda: None)
        return result_of(call)


def result_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FormatError as error:
        return str(error)


def residual_of(seed: int, height: int, width: int) -> NDArray[np.int16]:
    """Return a residual, int16 (height, width, 3), with quiet and busy parts."""
    rng = np.random.default_rng(seed)
    busy = np.kron(rng.random((height // 8 + 1, width // 8 + 1)) < 0.6, np.ones((8, 8)))[:height, :width, None]
    return (busy * rng.normal(0, rng.choice([2, 20, 200]), (height, width, 3))).clip(-255, 255).astype(np.int16)


@settings(max_examples=40)
@given(SEEDS, SIDES, SIDES, STEPS, st.sampled_from([0.0, 0.1, 3.0, "map"]))
def test_streams(seed: int, height: int, width: int, step: int, lmbda: Any) -> None:
    coefficients = forward_dct(residual_of(seed, height, width))
    grid = coefficients.shape[2:]
    if lmbda == "map":
        lmbda = np.random.default_rng(seed).uniform(0, 2, grid).astype(np.float32)
    stream = residual_codec.encode_residual(coefficients, step, lmbda)
    assert in_numpy(lambda: residual_codec.encode_residual(coefficients, step, lmbda)) == stream
    decoded = residual_codec.decode_residual(stream, *grid, step)
    np.testing.assert_array_equal(in_numpy(lambda: residual_codec.decode_residual(stream, *grid, step)), decoded)
    np.testing.assert_array_equal(core.inverse_dct(decoded), reference.inverse_dct(decoded))


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.data())
def test_damaged_streams(seed: int, height: int, width: int, data: st.DataObject) -> None:
    coefficients = forward_dct(residual_of(seed, height, width))
    damaged = bytearray(residual_codec.encode_residual(coefficients, 20, 0.0) or b"\1")
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    stream = bytes(damaged)[: data.draw(st.integers(1, len(damaged)))]
    one = result_of(lambda: residual_codec.decode_residual(stream, *coefficients.shape[2:], 20))
    other = in_numpy(lambda: residual_codec.decode_residual(stream, *coefficients.shape[2:], 20))
    if isinstance(one, str):
        assert one == other
    else:
        np.testing.assert_array_equal(one, other)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.sampled_from([10, 1 << 12, 1 << 16, (1 << 31) - 1]))
def test_inverse_dct_of_any_coefficients(seed: int, rows: int, columns: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-limit - 1, limit, (3, rows, columns, 8, 8), dtype=np.int32)
    values *= rng.random(values.shape) < rng.choice([0.01, 0.3, 1])
    np.testing.assert_array_equal(core.inverse_dct(values), reference.inverse_dct(values))


@pytest.mark.parametrize("channels", [3, 4])
def test_residual_on_a_part_of_pixels(channels: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (20, 30, channels), np.uint8)
    residual = rng.integers(-300, 300, (24, 32, 3)).astype(np.int16)
    expected = pixels.copy()
    expected[3:15, 2:29, :3] = np.clip(pixels[3:15, 2:29, :3].astype(int) + residual[:12, 1:28], 0, 255)
    for module in (core.compiled(), None):
        result = pixels.copy()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(core, "compiled", lambda module=module: module)
            core.add_to_pixels(result[3:15, 2:29], residual[:12, 1:28])
        np.testing.assert_array_equal(result, expected)


def test_pixels_and_residual_of_different_sizes() -> None:
    compiled = core.compiled()
    assert compiled is not None
    with pytest.raises(ValueError, match="different sizes"):
        compiled.add_residual(np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.int16))
    with pytest.raises(BufferError, match="writable"):
        compiled.add_residual(np.zeros((2, 3, 3), np.uint8).tobytes(), np.zeros((2, 3, 3), np.int16))


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 700), st.sampled_from([0.0, 1.0, "map"]))
def test_choice_of_last_groups(seed: int, blocks: int, lmbda: Any) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, rng.choice([0.3, 3, 1e5]), (3, 64, blocks)) * rng.integers(0, 2, (3, 64, 1))
    lambdas = rng.uniform(0, 2, blocks) if lmbda == "map" else np.full(blocks, lmbda)
    chosen = residual_codec.choose_last_groups(target, lambdas.astype(np.float32))
    other = in_numpy(lambda: residual_codec.choose_last_groups(target, lambdas.astype(np.float32)))
    np.testing.assert_array_equal(chosen, other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_coefficients_that_are_no_numbers_end_no_process(value: float) -> None:
    """Callers have integers only; the core must not index by them."""
    target = np.zeros((3, 64, 4))
    target[:, ::3] = value
    lambdas = np.array([0.1, value, 0.0, 1.0])
    lambdas[1] = np.float32(min(value, 3e38))
    last_groups = residual_codec.choose_last_groups(target, lambdas.astype(np.float32))
    assert ((last_groups >= 0) & (last_groups <= 8)).all()
    compiled, model = core.compiled(), residual_codec._core_model()
    assert compiled is not None
    compiled.encode_residual(model, target, lambdas.astype(np.float32), np.full((3, 4), 8, np.int32), 2, 2)
