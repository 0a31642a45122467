"""What masks errors: activity, up to limits; and what that does to files."""

from dataclasses import replace

import numpy as np

from sdtrt.engine.coding.latents import file_of_latents, latents_of_file
from sdtrt.engine.coding.masking import CHEAPEST, DEAREST, FLOOR, USUAL, masking
from sdtrt.engine.format.profile import shipped_profile

TINY = shipped_profile(1)


def test_flat_and_busy() -> None:
    """Flat places have the price of the floor, whatever their level; busier ones ever dearer ones."""
    flat = masking(np.full((4, 9, 12), 7, np.float32))
    np.testing.assert_allclose(flat, (FLOOR / USUAL) ** 0.25, rtol=1e-3)
    checks = np.indices((9, 12)).sum(0) % 2 * 2 - 1
    prices = [masking((size * checks)[None].astype(np.float32))[4, 6] for size in (0, 1, 3, 10, 1e6)]
    assert prices == sorted(set(prices))
    assert prices[-1] == DEAREST
    assert prices[0] > CHEAPEST


def test_channels_add_up_and_windows_end() -> None:
    planes = np.zeros((2, 11, 11), np.float32)
    planes[:, 5, 5] = 3, 4
    both = masking(planes)
    variance = 25 / 25 - (3 / 25) ** 2 - (4 / 25) ** 2
    np.testing.assert_allclose(both[3:8, 3:8], ((variance + FLOOR) / USUAL) ** 0.25, rtol=1e-4)
    assert (both[[2, 8]] < both[5, 5]).all()
    np.testing.assert_array_equal(masking(planes[:, :, ::-1]), both[:, ::-1])


def test_one_position() -> None:
    assert masking(np.ones((4, 1, 1), np.float32)).shape == (1, 1)


def test_errors_are_where_they_are_masked() -> None:
    """Latents in a flat place are told better than without masking, those in a busy one less well."""
    rng = np.random.default_rng(1)
    latents = rng.laplace(0, 0.4, (40, 32, 64)).astype(np.float32)
    latents[:4, :, 32:] = rng.normal(0, 20, (4, 32, 32))
    latents *= (TINY.spread * TINY.weight)[:, None, None]

    def errors(masking: int, effort: int) -> list[float]:
        profile = replace(TINY, masking=masking)
        back = latents_of_file(file_of_latents(latents, 512, 256, profile, 2048, effort=effort))
        error = np.square((back - latents) / TINY.weight[:, None, None])[4:]
        return [float(part.mean()) for part in (error[:, :, :28], error[:, :, 36:])]

    (flat, busy), (flat_plain, busy_plain) = errors(4, 5), errors(0, 5)
    assert flat < 0.98 * flat_plain
    assert busy > 1.02 * busy_plain
    assert errors(4, 1) == errors(0, 1)
