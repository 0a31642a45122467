"""The residual layer: its transform, its streams, and what of them is damaged."""

import numpy as np
import pytest

from sdtrt.engine.coding.residual.transform import ZIGZAG, coefficients, grid
from sdtrt.kernels import reference


def values_of(coefficients: np.ndarray) -> np.ndarray:
    """Return coefficients as `reference.add_residual` takes them."""
    _, count, rows, columns = coefficients.shape
    values = np.empty((3, rows, columns, count), np.int32)
    values[..., ZIGZAG] = np.rint(16 * coefficients).transpose(0, 2, 3, 1)
    return values.reshape(3, rows, columns, 8, 8)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (21, 50), (64, 3)])
def test_a_residual_comes_back_from_its_coefficients(size):
    residual = np.random.default_rng(3).integers(-120, 120, (*size, 3)).astype(np.int16)
    found = coefficients(residual)
    assert found.shape == (3, 64, *grid(*size))
    pixels = np.full((*size, 3), 128, np.uint8)
    reference.add_residual(pixels, values_of(found))
    assert np.array_equal(pixels - 128.0, residual)


def test_coefficients_have_the_energy_of_the_residual():
    residual = np.random.default_rng(4).integers(-255, 256, (16, 24, 3)).astype(np.int16)
    assert np.square(coefficients(residual)).sum() == pytest.approx(np.square(residual.astype(float)).sum(), rel=1e-3)


def test_pixels_are_clamped_and_alpha_stays():
    pixels = np.full((8, 8, 4), 200, np.uint8)
    values = np.zeros((3, 1, 1, 8, 8), np.int32)
    values[0, 0, 0, 0, 0] = 1 << 16
    reference.add_residual(pixels, values)
    assert (pixels[:, :, :3] == 255).all()
    assert (pixels[:, :, 3] == 200).all()
    values *= -1
    reference.add_residual(pixels, values)
    assert not pixels[:, :, :3].any()
