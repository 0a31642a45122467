"""Files that refer to the profile and prior of a model, read with the model and without it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt import api
from sdtrt.engine.coding.latent_file import encode_latents_to_file
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import BUNDLED, DIGEST_NBYTES, INLINE, PROFILE_NBYTES
from sdtrt.engine.format.profile import LatentProfile, resolve_profile, serialize_profile, shipped_profile
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, file_hash, find_bundle

Make = Callable[..., Path]
DATA = find_bundle("tiny").folder.parents[1]


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[:44, :60]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a bundle with the networks of `tiny`, its own latent space and its own prior."""

    def make_bundle(name: str = "mine", *, prior: bool = True, mean: float = 0.0) -> Path:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        fields = json.loads((find_bundle("tiny").folder / MANIFEST).read_text())
        for file in fields["files"]:
            shutil.copy(find_bundle("tiny").folder / file, folder)
        profile = json.loads((DATA / "profiles" / "tiny-1.json").read_text())
        profile |= {"latent_space": "x-01020304", "mean": [value + mean for value in profile["mean"]]}
        fields |= {"name": name, "latent_space": "x-01020304", "profile": profile}
        if prior:
            shutil.copy(DATA / "priors" / "tiny-1.npz", folder / "prior.npz")
            fields |= {"prior": "prior.npz", "files": fields["files"] | {"prior.npz": file_hash(folder / "prior.npz")}}
        (folder / MANIFEST).write_text(json.dumps(fields))
        return folder

    return make_bundle


@pytest.fixture
def models(make: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("SDTRT_MODELS", str(make().parent))
    return make


def test_model_prior_round_trip_equals_the_shipped_prior(models: Make, pixels: np.ndarray) -> None:
    with sdtrt.Codec.open("mine") as codec, sdtrt.Codec.open("tiny") as tiny:
        # Only the built-in profile names the channels for masking. Effort 1 does not mask.
        data, tiny_data = (each.encode(pixels, quality=30, effort=1) for each in (codec, tiny))
        np.testing.assert_array_equal(np.asarray(codec.decode(data)), np.asarray(tiny.decode(tiny_data)))
        latents = codec.decode_latents(data)
    assert len(data) == len(tiny_data) + PROFILE_NBYTES + DIGEST_NBYTES
    assert container.write(container.read(data)) == data
    np.testing.assert_array_equal(np.asarray(sdtrt.decode(data)), np.asarray(sdtrt.decode(tiny_data)))
    np.testing.assert_array_equal(api.decode_latents(data), latents)
    assert sdtrt.verify(data) == ""
    assert sdtrt.preview(data, scale=8).size == tuple(-(-side // 8) for side in pixels.shape[1::-1])


def test_model_prior_region_partial_and_batch_decode(models: Make) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (140, 200, 3), np.uint8)
    with sdtrt.Codec.open("mine") as codec:
        data = codec.encode(pixels, quality=20)
        decoded = np.asarray(codec.decode(data))
        np.testing.assert_array_equal(np.asarray(codec.decode(data, region=(50, 40, 64, 32))), decoded[40:72, 50:114])
        with pytest.warns(sdtrt.ImageWarning, match="incomplete"):
            codec.decode(data[:-200], partial=True)
        assert [np.asarray(image).shape for image in codec.decode_batch([data, data])] == [decoded.shape] * 2


def test_model_prior_without_the_model_is_described_but_not_decoded(
    models: Make, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sdtrt.Codec.open("mine") as codec:
        data = codec.encode(pixels, quality=70)
    monkeypatch.delenv("SDTRT_MODELS")
    info = sdtrt.info(data)
    assert (info.width, info.height) == pixels.shape[1::-1]
    assert (info.latent_space, info.profile, info.prior) == ("x-01020304", BUNDLED, BUNDLED)
    assert info.quality == pytest.approx(70, abs=0.5)
    assert len(info.model_prior or "") == 16
    assert "latents not checked" in sdtrt.verify(data)
    for function in (sdtrt.decode, api.decode_latents, sdtrt.preview):
        with pytest.raises(sdtrt.BundleError, match=r"x-01020304.*\$SDTRT_MODELS"):
            function(data)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    with pytest.raises(sdtrt.FormatError):
        sdtrt.verify(bytes(damaged))


def test_decode_with_another_prior_raises_bundle_error(models: Make, pixels: np.ndarray) -> None:
    plain, other = models("a-plain", prior=False), models("another", mean=0.5)
    with sdtrt.Codec.open("mine") as codec:
        data = codec.encode(pixels)
    for folder in (plain, other):
        with sdtrt.Codec.open(folder) as codec, pytest.raises(sdtrt.BundleError, match="the latents need the prior"):
            codec.decode(data)
    sdtrt.decode(data)  # the search over all bundles finds the right prior
    with sdtrt.Codec.open(plain) as codec:
        sdtrt.decode(codec.encode(pixels))


@pytest.mark.parametrize("downscale", [1, 4, 16, 255])
def test_decode_profile_that_does_not_fit_the_networks_raises_bundle_error(models: Make, downscale: int) -> None:
    """The inline profile has another downscale factor or channel count than the networks of the model."""
    inline = replace(own_profile(), id=INLINE, prior=0, prior_file=None)
    for profile in (replace(inline, downscale=downscale), first_channels(inline, 39)):
        latents = np.zeros(profile.grid(64, 48), np.float32)
        data = container.write(encode_latents_to_file(latents, 64, 48, profile, 2048))
        assert sdtrt.verify(data) == ""
        for decode in (sdtrt.decode, sdtrt.preview, partial(sdtrt.decode, region=(0, 0, 9, 9))):
            with pytest.raises(sdtrt.BundleError, match=r"at 1/\d+ of the image"):
                decode(data)


def first_channels(profile: LatentProfile, count: int) -> LatentProfile:
    vectors = {name: getattr(profile, name)[:count] for name in ("mean", "std", "step_weight", "recon_offset")}
    return replace(profile, channels=count, **vectors)


def test_verify_too_many_latents_of_a_missing_model_raises_limit_error() -> None:
    large = replace(
        file_with_bundled_profile(), header=replace(file_with_bundled_profile().header, width=1 << 13, height=1 << 13)
    )
    data = container.write(large)
    outline = serialize_profile(own_profile())
    assert sdtrt.verify(data, limits=sdtrt.Limits(max_pixels=1 << 27)).startswith("latents not checked")
    too_many = container.write(replace(large, profile=outline[:4] + b"\xff\x01" + outline[6:]))
    with pytest.raises(sdtrt.LimitError, match="latents"):
        sdtrt.verify(too_many)


def test_latent_profile_damaged_prior_raises_bundle_error(make: Make) -> None:
    folder = make()
    with (folder / "prior.npz").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(sdtrt.BundleError, match=r"prior\.npz is damaged"):
        _ = Bundle.open(folder).latent_profile
    fields = json.loads((folder / MANIFEST).read_text())
    fields["files"]["prior.npz"] = file_hash(folder / "prior.npz")
    (folder / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(sdtrt.BundleError, match="prior is not an"):
        _ = Bundle.open(folder).latent_profile


def file_with_bundled_profile(**changes: Any) -> File:
    return File(
        Header(8, 8, **{"profile": BUNDLED, "prior": BUNDLED, "step_code": 2048} | changes),
        (b"",),
        profile=serialize_profile(own_profile()),
    )


def own_profile() -> LatentProfile:
    shipped = shipped_profile(1)
    fields = {
        name: getattr(shipped, name) for name in ("mean", "std", "step_weight", "recon_offset", "channels", "downscale")
    }
    plain = LatentProfile(latent_space="x-01020304", step_codes=shipped.step_codes, prior=0, **fields)
    return plain.with_prior((DATA / "priors" / "tiny-1.npz").read_bytes())


def test_file_space_bundled_profile_has_grid_and_step_codes() -> None:
    own, outline = own_profile(), file_with_bundled_profile().space
    assert (outline.latent_space, outline.grid(9, 8)) == ("x-01020304", (40, 1, 2))
    assert outline.step_code(50) == own.step_code(50)
    assert resolve_profile(file_with_bundled_profile(), own) is own
    for changes in ({"profile": 1}, {"prior": 1}, {"prior": 255}, {"profile": 0}):
        with pytest.raises(sdtrt.FormatError, match="malformed"):
            assert file_with_bundled_profile(**changes).space
