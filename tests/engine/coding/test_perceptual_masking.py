"""Perceptual masking: weights from the local activity of latents, and their effect on coding errors."""

from dataclasses import replace

import numpy as np

from sdtrt.engine.coding.latent_file import TileCodingOptions, decode_latents, encode_latents_to_file
from sdtrt.engine.coding.perceptual_masking import (
    ACTIVITY_FLOOR,
    MAX_WEIGHT,
    MIN_WEIGHT,
    REFERENCE_ACTIVITY,
    masking_weights,
)
from sdtrt.engine.format.profile import shipped_profile

TINY = shipped_profile(1)


def test_masking_weights_rise_with_activity_up_to_the_maximum() -> None:
    """Flat latents have the weight of the activity floor, whatever their level. Weights rise with activity."""
    flat = masking_weights(np.full((4, 9, 12), 7, np.float32))
    np.testing.assert_allclose(flat, (ACTIVITY_FLOOR / REFERENCE_ACTIVITY) ** 0.25, rtol=1e-3)
    checkerboard = np.indices((9, 12)).sum(0) % 2 * 2 - 1
    weights = [masking_weights((size * checkerboard)[None].astype(np.float32))[4, 6] for size in (0, 1, 3, 10, 1e6)]
    assert weights == sorted(set(weights))
    assert weights[-1] == MAX_WEIGHT
    assert weights[0] > MIN_WEIGHT


def test_masking_weights_sum_channels_within_the_window() -> None:
    planes = np.zeros((2, 11, 11), np.float32)
    planes[:, 5, 5] = 3, 4
    weights = masking_weights(planes)
    variance = 25 / 25 - (3 / 25) ** 2 - (4 / 25) ** 2
    np.testing.assert_allclose(weights[3:8, 3:8], ((variance + ACTIVITY_FLOOR) / REFERENCE_ACTIVITY) ** 0.25, rtol=1e-4)
    assert (weights[[2, 8]] < weights[5, 5]).all()
    np.testing.assert_array_equal(masking_weights(planes[:, :, ::-1]), weights[:, ::-1])


def test_masking_weights_of_one_position_have_shape_1_1() -> None:
    assert masking_weights(np.ones((4, 1, 1), np.float32)).shape == (1, 1)


def test_encode_latents_masking_moves_errors_to_busy_latents() -> None:
    """Masking lowers the errors of flat latents and raises the errors of busy latents."""
    rng = np.random.default_rng(1)
    latents = rng.laplace(0, 0.4, (40, 32, 64)).astype(np.float32)
    latents[:4, :, 32:] = rng.normal(0, 20, (4, 32, 32))
    latents *= (TINY.std * TINY.step_weight)[:, None, None]

    def errors(masking_channels: int, effort: int) -> list[float]:
        profile = replace(TINY, masking=masking_channels)
        decoded = decode_latents(
            encode_latents_to_file(latents, 512, 256, profile, 2048, TileCodingOptions(effort=effort))
        )
        error = np.square((decoded - latents) / TINY.step_weight[:, None, None])[4:]
        return [float(part.mean()) for part in (error[:, :, :28], error[:, :, 36:])]

    (flat, busy), (flat_plain, busy_plain) = errors(4, 5), errors(0, 5)
    assert flat < 0.98 * flat_plain
    assert busy > 1.02 * busy_plain
    assert errors(4, 1) == errors(0, 1)
