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
from sdtrt.export.calibrate import SHOWN, Calibration, calibrate
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.sample_images import crops_of, made_picture, photos_in
from sdtrt.export.latents.scale import CODES_PER_QUALITY, Point, code_of_slope, step_codes
from sdtrt.export.prior import learn
from sdtrt.export.prior.architectures import architecture, plan_for
from sdtrt.export.prior.learn import Lesson

LESSON = Lesson(crops=3, side=64, iterations=2, crop=8, fitted_crops=2)


@pytest.fixture
def pixels() -> np.ndarray:
    return made_picture(60, 44)


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


def test_a_profile(bundle: Path, photos: Path, pixels: np.ndarray) -> None:
    found = calibrate(Calibration(bundle, photos))
    profile, codec = Bundle.open(bundle).latent_profile, EngineCodec("tiny", device="cpu", precision="fp32")
    planes = [codec.analyse(np.asarray(Image.open(path))).reshape(40, -1) for path in photos_in(photos)]
    np.testing.assert_allclose(profile.mean, np.concatenate(planes, 1).mean(1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(profile.std, np.concatenate(planes, 1).std(1), rtol=1e-3)
    assert [row.quality for row in found.rows] == [*SHOWN]
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

    monkeypatch.setattr(Networks, "of_bundle", refuse)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="holds no pictures"):
        calibrate(Calibration(bundle, tmp_path / "empty"))
    monkeypatch.setattr(os, "access", lambda path, *_, **__: not Path(path).is_relative_to(bundle))
    with pytest.raises(PermissionError, match="permission denied"):
        calibrate(Calibration(bundle, photos))
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != bundle.parent)
    with pytest.raises(PermissionError, match="permission denied"):
        calibrate(Calibration(bundle, photos), LESSON)


def test_a_prior(bundle: Path, photos: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(learn, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(Calibration(bundle, photos), LESSON)
    assert Bundle.open(bundle).prior is None  # until the end it stays as it is
    (kept,) = bundle.parent.glob(".sdtrt-calibration-*")
    times = [path.stat().st_mtime_ns for path in sorted(kept.glob("*.npy"))]
    assert len(times) == 3
    with monkeypatch.context() as context:
        context.setattr(learn, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(Calibration(bundle, photos), LESSON)
    assert [path.stat().st_mtime_ns for path in sorted(kept.glob("*.npy"))] == times
    with monkeypatch.context() as context:
        context.setattr(calibration, "measured", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(Calibration(bundle, photos), LESSON)
    with monkeypatch.context() as context:
        context.setattr(learn, "train", interrupted)  # not called: the prior is there
        calibrate(Calibration(bundle, photos), LESSON)
    assert not kept.exists()
    first = Bundle.open(bundle)
    assert [path.name for path in bundle.glob("prior-*.npz")] == [first.prior]
    with sdtrt.Codec.open(bundle) as codec:
        data = codec.encode(pixels)
        assert sdtrt.info(data).model_prior
        codec.decode(data)
    with pytest.raises(BundleError, match=r"has a prior.*--force"):
        calibrate(Calibration(bundle, photos), LESSON)
    assert Bundle.open(bundle).prior == first.prior
    calibrate(Calibration(bundle, photos, force=True))
    assert Bundle.open(bundle).prior is None
    assert not [*bundle.glob("prior-*.npz")]
    with sdtrt.Codec.open(bundle) as codec, pytest.raises(BundleError, match="the latents need the prior"):
        codec.decode(data)


def interrupted(*_: object, **__: object) -> bytes:
    raise KeyboardInterrupt


def test_a_damaged_prior_can_be_replaced(bundle: Path) -> None:
    fields = json.loads((bundle / MANIFEST).read_text())["profile"]
    shipped = (resources.files("sdtrt.engine") / "data" / "priors" / "tiny-1.npz").read_bytes()
    calibration.write(Bundle.open(bundle), fields, shipped)
    (name,) = (path.name for path in bundle.glob("prior-*.npz"))
    (bundle / name).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="from a copy of the bundle"):
        Bundle.open(bundle).latent_profile
    (bundle / "prior-00000000.npz").write_bytes(b"left by a calibration that was killed")
    assert Networks.of_bundle(Bundle.open(bundle)).downscale == 8
    calibration.write(Bundle.open(bundle), fields, shipped)
    assert Bundle.open(bundle).latent_profile.prior_file == shipped
    assert [path.name for path in bundle.glob("prior-*.npz")] == [name]


def test_a_profile_that_no_file_could_hold_is_not_written(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    fields = json.loads(before)["profile"]
    for change in ({"step_codes": [2048, 2048]}, {"spread": [1e-60] * 40}):
        with pytest.raises(BundleError, match="nothing can be coded"):
            calibration.write(Bundle.open(bundle), fields | change, None)
    assert (bundle / MANIFEST).read_bytes() == before


def test_calibrations_that_differ_do_not_share_what_they_keep(bundle: Path, photos: Path, tmp_path: Path) -> None:
    opened, profile = Bundle.open(bundle), Bundle.open(bundle).latent_profile
    other = shutil.copytree(photos, tmp_path / "others")
    made_photo(other / "more.png", 64)
    plan = plan_for(range(40))
    keys = {
        learn.key_of(opened, profile, photos_in(folder), lesson, plan)
        for folder in (photos, other)
        for lesson in (LESSON, Lesson())
    }
    assert len(keys) == 4


def made_photo(path: Path, side: int) -> None:
    Image.fromarray(made_picture(side, side)).save(path)


def test_photos_that_are_too_small_for_a_crop(tmp_path: Path) -> None:
    """A prior is learned from the others; where there are no others, from smaller crops, or from none."""
    sizes, plan, run = [(16, 16), (1, 40), (12, 20)], plan_for(range(2)), tmp_path / "run"
    latents = [np.random.default_rng(1).normal(0, 1, (2, *size)).astype(np.float32) for size in sizes]
    assert parse_prior(learn.trained(latents, plan, (2304, 1280), run, LESSON, quiet=True))
    for lesson in (LESSON, Lesson(crops=3, side=64, iterations=1, crop=64, fitted_crops=2)):
        with pytest.raises(BundleError, match="8 latents wide and high"):
            learn.trained(latents[1:2], plan, (2304, 1280), run, lesson, quiet=True)
    assert learn.trained(latents, plan, (2304, 1280), tmp_path / "smaller", lesson, quiet=True)


def test_what_cannot_be_read_is_passed_over(bundle: Path, tmp_path: Path) -> None:
    """Damage that Pillow answers with whatever it stumbles over, and more than 8 bits."""
    folder = tmp_path / "odd"
    folder.mkdir()
    stream = io.BytesIO()
    Image.fromarray(made_picture(64, 64)).save(stream, "AVIF")
    (folder / "a.avif").write_bytes(stream.getvalue().replace(b"pitm", b"none"))
    (folder / "b.png").write_bytes(b"")
    with (folder / "c.png").open("wb") as file:
        png.Writer(64, 64, bitdepth=16, greyscale=False).write_array(file, [999] * (3 * 64 * 64))
    with pytest.raises(BundleError, match="none of the 3 photos"):
        calibrate(Calibration(bundle, folder))
    made_photo(folder / "d.png", 64)
    (crop,) = crops_of(photos_in(folder), 4, 64, 8)
    assert crop.base is None  # a view would keep the whole photo


def test_networks_that_lose_nothing() -> None:
    points = [Point(code, 8.0, 0.0) for code in (2304, 2048, 1792)]
    coarse, fine = step_codes(points, own=0.0)
    assert 0 <= fine < coarse


def test_refused(tmp_path: Path, photos: Path, bundle: Path) -> None:
    with pytest.raises(BundleError, match="tiny ship with sdtrt"):
        calibrate(Calibration(find_bundle("tiny").folder, photos))
    with pytest.raises(BundleError, match="not a folder"):
        calibrate(Calibration(bundle, tmp_path / "missing"))


def test_command(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", str(bundle), str(photos), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "quality  bits per pixel" in said
    assert "the networks alone" in said


def test_the_scale_of_a_space_of_known_slope() -> None:
    """Error that is as the square of steps, 6 dB for a bit: where a bit buys what it should is known."""

    def point(code: int) -> Point:
        step = 2 ** ((code - 2048) / 256)
        return Point(code, 4 - np.log2(step), 100 * step**2)

    points = [point(code) for code in range(2560, 1216, -64)]
    price = operating_point(50, layers=1).lmbda
    # The derivative of error by bits is 2 ln 2 times the error.
    expected = 2048 + 128 * np.log2(price / (2 * np.log(2) * 100))
    assert code_of_slope(points, price) == pytest.approx(expected, abs=3)
    coarse, fine = step_codes(points, own=1e-3)
    assert coarse - fine == pytest.approx(99 * CODES_PER_QUALITY, abs=2)
    assert (coarse + fine) / 2 == pytest.approx(expected, abs=12)
    for factor in (1 / 64, 64):
        assert code_of_slope(points, price * factor) == pytest.approx(expected + 128 * np.log2(factor), abs=40)


def test_finer_steps_that_are_of_no_use() -> None:
    def point(code: int) -> Point:
        step = 2 ** ((code - 2048) / 256)
        return Point(code, 4 - np.log2(step), 400 + 100 * step**2)

    coarse, fine = step_codes([point(code) for code in range(2560, 1216, -64)], own=400)
    assert coarse - fine < 0.8 * 99 * CODES_PER_QUALITY


@pytest.mark.parametrize("channels", [1, 2, 4, 7, 16, 32, 48, 128, 255])
def test_plans(channels: int) -> None:
    """Every channel is in one group, and networks do not look at too much."""
    order = np.random.default_rng(channels).permutation(channels)
    arch = architecture(plan_for([*order]))
    assert [*arch.order] == [*order]
    assert max(step.inputs for step in arch.passes) <= 340
    assert all(0 < cut < len(arch.passes) for cut in arch.cuts)
