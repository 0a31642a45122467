"""`sdtrt calibrate`: a foreign model gets its numbers, a scale of qualities, and a prior."""

import io
import json
import os
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.priors.prior_file import parse_prior
from sdtrt.engine.coding.quality_scale import operating_point
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, find_bundle
from sdtrt.errors import BundleError
from sdtrt.export import calibrate as calibration
from sdtrt.export.calibrate import REPORT_QUALITIES, CalibrateOptions, calibrate
from sdtrt.export.latents.quality_range import CODES_PER_QUALITY, RatePoint, step_code_at_slope, step_codes
from sdtrt.export.latents.sample_images import list_photos, random_crops, synthetic_image
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.export.prior import model_prior
from sdtrt.export.prior.architectures import build_architecture, config_for
from sdtrt.export.prior.model_prior import PriorTrainingOptions

TRAINING = PriorTrainingOptions(crops=3, side=64, iterations=2, crop=8, table_crops=2)


@pytest.fixture
def pixels() -> np.ndarray:
    return synthetic_image(60, 44)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of `tiny`'s networks that nobody knows, with numbers that are wrong."""
    source, folder = find_bundle("tiny").folder, tmp_path / "foreign"
    shutil.copytree(source, folder)
    shipped = find_bundle("tiny").latent_profile
    ones = [1.0] * shipped.channels
    profile = {"latent_space": "x-01020304", "channels": shipped.channels, "downscale": 8, "step_codes": [2300, 1300]}
    profile |= {"mean": ones, "spread": ones, "weight": ones, "offset": [0.0] * shipped.channels, "prior": 0}
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"latent_space": "x-01020304", "profile": profile}))
    return folder


def test_calibrate_writes_profile_and_reports_rate_and_distortion(
    bundle: Path, photos: Path, pixels: np.ndarray
) -> None:
    found = calibrate(CalibrateOptions(bundle, photos))
    profile, codec = Bundle.open(bundle).latent_profile, EngineCodec("tiny", device="cpu", precision="fp32")
    planes = [codec.analyse(np.asarray(Image.open(path))).reshape(40, -1) for path in list_photos(photos)]
    np.testing.assert_allclose(profile.mean, np.concatenate(planes, 1).mean(1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(profile.std, np.concatenate(planes, 1).std(1), rtol=1e-3)
    assert [row.quality for row in found.rows] == [*REPORT_QUALITIES]
    rates = [row.bits_per_pixel for row in found.rows]
    assert rates == sorted(rates)
    assert found.rows[-1].psnr > found.rows[0].psnr + 3
    assert found.ceiling > found.rows[-1].psnr - 0.5
    assert all(row.bits_per_pixel == row.adaptive_bits_per_pixel for row in found.rows)
    with sdtrt.Codec.open(bundle) as codec:
        assert np.asarray(codec.decode(codec.encode(pixels))).shape == pixels.shape


def test_calibrate_bundle_or_photos_that_cannot_be_used_are_noticed_before_any_network(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(CodecPair, "of_bundle", refuse)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="holds no images"):
        calibrate(CalibrateOptions(bundle, tmp_path / "empty"))
    monkeypatch.setattr(os, "access", lambda path, *_, **__: not Path(path).is_relative_to(bundle))
    with pytest.raises(PermissionError, match="permission denied"):
        calibrate(CalibrateOptions(bundle, photos))
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != bundle.parent)
    with pytest.raises(PermissionError, match="permission denied"):
        calibrate(CalibrateOptions(bundle, photos), TRAINING)


def test_calibrate_with_prior_resumes_and_protects_the_prior(
    bundle: Path, photos: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(model_prior, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(CalibrateOptions(bundle, photos), TRAINING)
    assert Bundle.open(bundle).prior is None  # until the end it stays as it is
    (kept,) = bundle.parent.glob(".sdtrt-calibration-*")
    times = [path.stat().st_mtime_ns for path in sorted(kept.glob("*.npy"))]
    assert len(times) == 3
    with monkeypatch.context() as context:
        context.setattr(model_prior, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(CalibrateOptions(bundle, photos), TRAINING)
    assert [path.stat().st_mtime_ns for path in sorted(kept.glob("*.npy"))] == times
    with monkeypatch.context() as context:
        context.setattr(calibration, "build_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(CalibrateOptions(bundle, photos), TRAINING)
    with monkeypatch.context() as context:
        context.setattr(model_prior, "train", interrupted)  # not called: the prior is there
        calibrate(CalibrateOptions(bundle, photos), TRAINING)
    assert not kept.exists()
    first = Bundle.open(bundle)
    assert [path.name for path in bundle.glob("prior-*.npz")] == [first.prior]
    with sdtrt.Codec.open(bundle) as codec:
        data = codec.encode(pixels)
        assert sdtrt.info(data).model_prior
        codec.decode(data)
    with pytest.raises(BundleError, match=r"has a prior.*--force"):
        calibrate(CalibrateOptions(bundle, photos), TRAINING)
    assert Bundle.open(bundle).prior == first.prior
    calibrate(CalibrateOptions(bundle, photos, force=True))
    assert Bundle.open(bundle).prior is None
    assert not [*bundle.glob("prior-*.npz")]
    with sdtrt.Codec.open(bundle) as codec, pytest.raises(BundleError, match="latents need the prior"):
        codec.decode(data)


def interrupted(*_: object, **__: object) -> bytes:
    raise KeyboardInterrupt


def test_write_into_bundle_replaces_a_damaged_prior(bundle: Path) -> None:
    fields = json.loads((bundle / MANIFEST).read_text())["profile"]
    shipped = (resources.files("sdtrt.engine") / "data" / "priors" / "tiny-1.npz").read_bytes()
    calibration.write_into_bundle(Bundle.open(bundle), fields, shipped)
    (name,) = (path.name for path in bundle.glob("prior-*.npz"))
    (bundle / name).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="from a copy of the bundle"):
        _ = Bundle.open(bundle).latent_profile
    (bundle / "prior-00000000.npz").write_bytes(b"left by a calibration that was killed")
    assert CodecPair.of_bundle(Bundle.open(bundle)).downscale == 8
    calibration.write_into_bundle(Bundle.open(bundle), fields, shipped)
    assert Bundle.open(bundle).latent_profile.prior_file == shipped
    assert [path.name for path in bundle.glob("prior-*.npz")] == [name]


def test_write_into_bundle_invalid_profile_raises_and_changes_nothing(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    fields = json.loads(before)["profile"]
    for change in ({"step_codes": [2048, 2048]}, {"spread": [1e-60] * 40}):
        with pytest.raises(BundleError, match="latents cannot be coded"):
            calibration.write_into_bundle(Bundle.open(bundle), fields | change, None)
    assert (bundle / MANIFEST).read_bytes() == before


def test_cache_key_differs_between_photos_and_options(bundle: Path, photos: Path, tmp_path: Path) -> None:
    opened, profile = Bundle.open(bundle), Bundle.open(bundle).latent_profile
    other = shutil.copytree(photos, tmp_path / "others")
    made_photo(other / "more.png", 64)
    config = config_for(range(40))
    keys = {
        model_prior.cache_key(opened, profile, list_photos(folder), training, config)
        for folder in (photos, other)
        for training in (TRAINING, PriorTrainingOptions())
    }
    assert len(keys) == 4


def made_photo(path: Path, side: int) -> None:
    Image.fromarray(synthetic_image(side, side)).save(path)


def test_train_on_latents_small_photos_shrink_samples_or_raise(tmp_path: Path) -> None:
    """A prior is learned from the others; where there are no others, from smaller crops, or from none."""
    sizes, config, run = [(16, 16), (1, 40), (12, 20)], config_for(range(2)), tmp_path / "run"
    latents = [np.random.default_rng(1).normal(0, 1, (2, *size)).astype(np.float32) for size in sizes]
    assert parse_prior(model_prior.train_on_latents(latents, config, (2304, 1280), run, TRAINING, quiet=True))
    for training in (TRAINING, PriorTrainingOptions(crops=3, side=64, iterations=1, crop=64, table_crops=2)):
        with pytest.raises(BundleError, match="8 latents wide and high"):
            model_prior.train_on_latents(latents[1:2], config, (2304, 1280), run, training, quiet=True)
    assert model_prior.train_on_latents(latents, config, (2304, 1280), tmp_path / "smaller", training, quiet=True)


def test_calibrate_unreadable_photos_are_skipped(bundle: Path, tmp_path: Path) -> None:
    """Damage that Pillow answers with whatever it stumbles over, and more than 8 bits."""
    folder = tmp_path / "odd"
    folder.mkdir()
    stream = io.BytesIO()
    Image.fromarray(synthetic_image(64, 64)).save(stream, "AVIF")
    (folder / "a.avif").write_bytes(stream.getvalue().replace(b"pitm", b"none"))
    (folder / "b.png").write_bytes(b"")
    with (folder / "c.png").open("wb") as file:
        png.Writer(64, 64, bitdepth=16, greyscale=False).write_array(file, [999] * (3 * 64 * 64))
    with pytest.raises(BundleError, match="none of the 3 photos"):
        calibrate(CalibrateOptions(bundle, folder))
    made_photo(folder / "d.png", 64)
    (crop,) = random_crops(list_photos(folder), 4, 64, 8)
    assert crop.base is None  # a view would keep the whole photo


def test_step_codes_lossless_networks_give_a_valid_range() -> None:
    points = [RatePoint(code, 8.0, 0.0) for code in (2304, 2048, 1792)]
    coarse, fine = step_codes(points, network_error=0.0)
    assert 0 <= fine < coarse


def test_calibrate_shipped_space_or_missing_photos_raise(tmp_path: Path, photos: Path, bundle: Path) -> None:
    with pytest.raises(BundleError, match="tiny ships with sdtrt"):
        calibrate(CalibrateOptions(find_bundle("tiny").folder, photos))
    with pytest.raises(BundleError, match="not a folder"):
        calibrate(CalibrateOptions(bundle, tmp_path / "missing"))


def test_calibrate_command_prints_the_report(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", str(bundle), str(photos), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "quality  bits per pixel" in said
    assert "the networks alone" in said


def test_step_codes_follow_high_rate_theory() -> None:
    """Error that is as the square of steps, 6 dB for a bit: where a bit buys what it should is known."""

    def point(code: int) -> RatePoint:
        step = 2 ** ((code - 2048) / 256)
        return RatePoint(code, 4 - np.log2(step), 100 * step**2)

    points = [point(code) for code in range(2560, 1216, -64)]
    price = operating_point(50, layers=1).lmbda
    # The derivative of error by bits is 2 ln 2 times the error.
    expected = 2048 + 128 * np.log2(price / (2 * np.log(2) * 100))
    assert step_code_at_slope(points, price) == pytest.approx(expected, abs=3)
    coarse, fine = step_codes(points, network_error=1e-3)
    assert coarse - fine == pytest.approx(99 * CODES_PER_QUALITY, abs=2)
    assert (coarse + fine) / 2 == pytest.approx(expected, abs=12)
    for factor in (1 / 64, 64):
        assert step_code_at_slope(points, price * factor) == pytest.approx(expected + 128 * np.log2(factor), abs=40)


def test_step_codes_large_network_error_shortens_the_range() -> None:
    def point(code: int) -> RatePoint:
        step = 2 ** ((code - 2048) / 256)
        return RatePoint(code, 4 - np.log2(step), 400 + 100 * step**2)

    coarse, fine = step_codes([point(code) for code in range(2560, 1216, -64)], network_error=400)
    assert coarse - fine < 0.8 * 99 * CODES_PER_QUALITY


@pytest.mark.parametrize("channels", [1, 2, 4, 7, 16, 32, 48, 128, 255])
def test_config_for_covers_all_channels_with_bounded_inputs(channels: int) -> None:
    """Every channel is in one group, and networks do not look at too much."""
    order = np.random.default_rng(channels).permutation(channels)
    arch = build_architecture(config_for([*order]))
    assert [*arch.order] == [*order]
    assert max(step.inputs for step in arch.passes) <= 340
    assert all(0 < cut < len(arch.passes) for cut in arch.cuts)
