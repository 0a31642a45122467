"""What masks errors: activity, up to limits; and what that does to files."""

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


def test_flat_and_busy() -> None:
    """Flat places have the price of the floor, whatever their level; busier ones ever dearer ones."""
    flat = masking_weights(np.full((4, 9, 12), 7, np.float32))
    np.testing.assert_allclose(flat, (ACTIVITY_FLOOR / REFERENCE_ACTIVITY) ** 0.25, rtol=1e-3)
    checks = np.indices((9, 12)).sum(0) % 2 * 2 - 1
    prices = [masking_weights((size * checks)[None].astype(np.float32))[4, 6] for size in (0, 1, 3, 10, 1e6)]
    assert prices == sorted(set(prices))
    assert prices[-1] == MAX_WEIGHT
    assert prices[0] > MIN_WEIGHT


def test_channels_add_up_and_windows_end() -> None:
    planes = np.zeros((2, 11, 11), np.float32)
    planes[:, 5, 5] = 3, 4
    both = masking_weights(planes)
    variance = 25 / 25 - (3 / 25) ** 2 - (4 / 25) ** 2
    np.testing.assert_allclose(both[3:8, 3:8], ((variance + ACTIVITY_FLOOR) / REFERENCE_ACTIVITY) ** 0.25, rtol=1e-4)
    assert (both[[2, 8]] < both[5, 5]).all()
    np.testing.assert_array_equal(masking_weights(planes[:, :, ::-1]), both[:, ::-1])


def test_one_position() -> None:
    assert masking_weights(np.ones((4, 1, 1), np.float32)).shape == (1, 1)


def test_errors_are_where_they_are_masked() -> None:
    """Latents in a flat place are told better than without masking, those in a busy one less well."""
    rng = np.random.default_rng(1)
    latents = rng.laplace(0, 0.4, (40, 32, 64)).astype(np.float32)
    latents[:4, :, 32:] = rng.normal(0, 20, (4, 32, 32))
    latents *= (TINY.std * TINY.step_weight)[:, None, None]

    def errors(masking_weights: int, effort: int) -> list[float]:
        profile = replace(TINY, masking=masking_weights)
        back = decode_latents(
            encode_latents_to_file(latents, 512, 256, profile, 2048, TileCodingOptions(effort=effort))
        )
        error = np.square((back - latents) / TINY.step_weight[:, None, None])[4:]
        return [float(part.mean()) for part in (error[:, :, :28], error[:, :, 36:])]

    (flat, busy), (flat_plain, busy_plain) = errors(4, 5), errors(0, 5)
    assert flat < 0.98 * flat_plain
    assert busy > 1.02 * busy_plain
    assert errors(4, 1) == errors(0, 1)
