"""Calibration: what is measured is what a known pair of networks does."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdtrt.engine.format.profile import LatentProfile, pack_profile, parse_profile, profile_from_json
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import centre_crop, list_photos, random_crops, synthetic_image
from sdtrt.export.latents.statistics import CodecPair, disagreement, measure_statistics, profile_fields

SCALES = np.array([1.0, 4.0, 0.5], np.float32)


class Blocks:
    """Averages of 8x8 pixels, one channel a colour, times `SCALES`; and back."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        scales = SCALES[:, None, None]
        if "pixels" in inputs:
            n, c, h, w = inputs["pixels"].shape
            means = inputs["pixels"].reshape(n, c, h // 8, 8, w // 8, 8).mean((3, 5))
            return {"latents": means * scales}
        return {"pixels": np.repeat(np.repeat(inputs["latents"] / scales, 8, 2), 8, 3)}


NETWORKS = CodecPair(Blocks(), Blocks(), -1.0, 1.0, 8)


@pytest.fixture
def profile(photos: Path) -> LatentProfile:
    fields = profile_fields(measure_statistics(NETWORKS, list_photos(photos)), "x-01234567", 8)
    return parse_profile(pack_profile(profile_from_json(fields)))


def test_measure_statistics_linear_blocks_gives_exact_statistics(photos: Path) -> None:
    found = measure_statistics(NETWORKS, list_photos(photos))
    assert found.crops == 3
    latents = [NETWORKS.encode(np.asarray(Image.open(path))).reshape(3, -1) for path in list_photos(photos)]
    values = np.concatenate(latents, axis=1)
    np.testing.assert_allclose(found.mean, values.mean(1), rtol=1e-4)
    np.testing.assert_allclose(found.spread, values.std(1), rtol=1e-4)
    # An error e in a latent is e / scale in a third of the pixel values, which span 2 for 255 levels.
    np.testing.assert_allclose(found.sensitivity, (127.5 / SCALES) ** 2 / 3, rtol=1e-3)


def test_profile_fields_step_weights_are_inverse_to_root_sensitivity(profile: LatentProfile) -> None:
    np.testing.assert_allclose(
        profile.std * profile.step_weight / SCALES, (profile.std * profile.step_weight / SCALES)[0], rtol=1e-5
    )
    np.testing.assert_allclose(np.log(profile.step_weight).mean(), 0, atol=1e-5)


def test_disagreement_changed_profile_names_the_worst_channel(photos: Path, profile: LatentProfile) -> None:
    found = measure_statistics(NETWORKS, list_photos(photos))
    assert disagreement(found, profile) is None
    shifted = dataclasses.replace(found, mean=found.mean + found.spread * [0, 0.9, 0])
    assert "channel 1" in str(disagreement(shifted, profile))
    scaled = dataclasses.replace(found, spread=found.spread * [1, 1, 5.5])
    assert "channel 2" in str(disagreement(scaled, profile))


def test_list_photos_and_measure_without_photos_raise(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no images"):
        list_photos(tmp_path)
    with pytest.raises(BundleError, match="not a folder"):
        list_photos(tmp_path / "missing")
    Image.new("RGB", (7, 7)).save(tmp_path / "small.png")
    with pytest.raises(BundleError, match="8 pixels wide"):
        measure_statistics(NETWORKS, list_photos(tmp_path))


def test_measure_statistics_unreadable_files_are_skipped(tmp_path: Path, photos: Path) -> None:
    for path in list_photos(photos):
        shutil.copy(path, tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("I;16", (64, 64), 40000).save(tmp_path / "deep.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert measure_statistics(NETWORKS, list_photos(tmp_path)).crops == 3


def test_measure_statistics_constant_channel_raises(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "flat.png")
    with pytest.raises(BundleError, match="expected finite values above 0"):
        measure_statistics(NETWORKS, list_photos(tmp_path))


def test_centre_crop_returns_the_centre_at_a_multiple(tmp_path: Path) -> None:
    pixels = synthetic_image(50, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(centre_crop(tmp_path / "photo.png", 16, 8), pixels[7:23, 17:33])
    assert centre_crop(tmp_path / "photo.png", 512, 8).shape == (24, 48, 3)
    assert centre_crop(tmp_path / "photo.png", 512, 64) is None


def test_random_crops_are_reproducible_and_fit_the_photos(tmp_path: Path) -> None:
    for n in range(5):
        Image.fromarray(synthetic_image(60 + n, 50)).save(tmp_path / f"{n}.png")
    photos = list_photos(tmp_path)
    crops = [*random_crops(photos, 10, 32, 8)]
    assert {crop.shape for crop in crops} == {(32, 32, 3)}
    assert len({crop.tobytes() for crop in crops}) == len(crops) == 10
    assert all((one == other).all() for one, other in zip(crops, random_crops(photos, 10, 32, 8), strict=True))
    assert len([*random_crops(photos, 3, 32, 8)]) == 3
    assert {crop.shape for crop in random_crops(photos, 10, 256, 8)} == {(48, 56, 3), (48, 64, 3)}
    assert [*random_crops(photos, 10, 256, 64)] == []
