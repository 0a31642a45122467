"""Warnings of latents that are not at unit scale, and none for the latents of any image."""

import re
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.format.latent_space import PROFILE_NAMES
from sdtrt.engine.format.profile import LatentProfile, shipped_profile
from sdtrt.export.checkpoints.spaces import KNOWN, name_in_files
from sdtrt.latents.spaces import scaling_of_space
from sdtrt.latents.spread import MIN_POSITIONS, warning_of_spread

PROFILES = {shipped_profile(identifier).latent_space: shipped_profile(identifier) for identifier in PROFILE_NAMES}
SIDES = 24, 32
CONTRASTS = 0.5, 0.75, 1.2  # of images, in terms of the profile's spread: usual ones


def profile_of(space: str) -> LatentProfile:
    """Return the profile of a known space; where none ships, one with mean 0 and spread 1."""
    if space in PROFILES:
        return PROFILES[space]
    channels = KNOWN[space].channels
    return LatentProfile(
        latent_space=name_in_files(space),
        channels=channels,
        downscale=KNOWN[space].downscale,
        step_codes=(2300, 1300),
        prior=0,
        mean=np.zeros(channels, np.float32),
        std=np.ones(channels, np.float32),
        step_weight=np.ones(channels, np.float32),
        recon_offset=np.zeros(channels, np.float32),
    )


def synthetic(profile: LatentProfile, contrast: float, seed: int = 0) -> np.ndarray:
    """Return latents at unit scale, float64 (C, h, w), of a made-up image: some channels vary more than others."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=(profile.channels, *SIDES)) / np.sqrt(2)
    values *= contrast * rng.uniform(0.7, 1.4, (profile.channels, 1, 1))
    values += 0.3 * rng.normal(size=(profile.channels, 1, 1))
    return profile.mean[:, None, None] + profile.std[:, None, None] * values


def said(latents: np.ndarray, profile: LatentProfile) -> str | None:
    return warning_of_spread(latents.astype(np.float32), profile)


@pytest.mark.parametrize("space", sorted({*KNOWN, *PROFILES}))
def test_latents_at_unit_scale_of_each_space_give_no_warning(space: str) -> None:
    profile = profile_of(space)
    for seed, contrast in enumerate((0.3, *CONTRASTS, 1.5)):
        assert said(synthetic(profile, contrast, seed), profile) is None


@pytest.mark.parametrize(
    "space", [name for name in KNOWN if scaling_of_space(name) and scaling_of_space(name)[0] < 0.3]
)
def test_latents_scaled_twice_or_not_at_all_name_the_factor(space: str) -> None:
    profile, (factor, _) = profile_of(space), scaling_of_space(space) or (1, 0)
    for seed, contrast in enumerate(CONTRASTS):
        latents = synthetic(profile, contrast, seed)
        raw = said(latents / factor, profile)
        assert raw is not None
        assert f"not multiplied by {factor}; {space} expects unit scale: multiply by {factor}" in raw
        twice = said(latents * factor, profile)
        assert twice is not None
        assert f"look multiplied by {factor} twice; {space} expects unit scale" in twice


def test_raw_latents_with_a_shift_name_it() -> None:
    profile = profile_of("flux1")
    raw = said(synthetic(profile, 1.2) / 0.3611 + 0.1159, profile)
    assert raw is not None
    assert "flux1 expects unit scale: (latents - 0.1159) * 0.3611" in raw


@pytest.mark.parametrize("factor", [0.18215, 0.13025])
def test_latents_of_a_space_without_a_factor_scaled_by_that_of_another_are_recognised(factor: float) -> None:
    profile = PROFILES["tiny"]
    small, large = said(synthetic(profile, 0.75) * factor, profile), said(synthetic(profile, 0.9) / factor, profile)
    assert small is not None
    assert re.search(f"multiplied by the scaling factor of another.*{factor}.*tiny expects unit scale: divide", small)
    assert large is not None
    assert re.search(f"divided by the scaling factor of another.*{factor}.*tiny expects unit scale: multiply", large)


@pytest.mark.parametrize("space", sorted(PROFILES))
@pytest.mark.parametrize(("scale", "verb", "number"), [(100, "multiply", 1 / 100), (1 / 255, "divide", 1 / 255)])
def test_latents_far_from_unit_scale_tell_the_factor(space: str, scale: float, verb: str, number: float) -> None:
    message = said(synthetic(PROFILES[space], 0.75) * scale, PROFILES[space])
    assert message is not None
    match = re.search(rf"{verb} by about (\S+)$", message)
    assert match is not None
    assert 0.5 < float(match[1]) / number < 2


@pytest.mark.parametrize("space", sorted(PROFILES))
def test_latents_as_8_bit_values_are_recognised(space: str) -> None:
    message = said(np.clip(np.rint(synthetic(PROFILES[space], 0.75) * 30 + 127), 0, 255), PROFILES[space])
    assert message is not None
    assert "8-bit values, 0 to 255" in message


@pytest.mark.parametrize("shape", [(1, 1), (1, MIN_POSITIONS - 1), (15, 17)])
def test_latents_of_few_positions_are_not_judged(shape: tuple[int, int]) -> None:
    profile = PROFILES["sd1"]
    few = np.random.default_rng(0).normal(size=(4, *shape))
    for factor in (0.001, 1, 100):
        assert said(few * factor, profile) is None


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 40.0])
@pytest.mark.parametrize("space", sorted(PROFILES))
def test_constant_latents_give_no_warning(space: str, value: float) -> None:
    assert said(np.full((PROFILES[space].channels, *SIDES), value), PROFILES[space]) is None


def images(photo: Callable[[int, int], np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield images from usual to extreme, uint8 (H, W, 3)."""
    rng = np.random.default_rng(2)
    real = photo(200, 152)
    yield "photo", real
    yield "pale photo", (225 + 0.1 * real).astype(np.uint8)
    yield "dark photo", real // 8
    yield "photo in two colours", (real > 128).astype(np.uint8) * np.uint8(255)
    yield "small photo", photo(20, 12)
    for name, colour in {"black": 0, "white": 255, "grey": 128, "red": [255, 0, 0], "blue": [0, 0, 255]}.items():
        yield name, np.zeros((136, 136, 3), np.uint8) + np.array(colour, np.uint8)
    yield "noise", rng.integers(0, 256, (136, 136, 3), dtype=np.uint8)
    yield "faint noise", rng.integers(126, 130, (136, 136, 3), dtype=np.uint8)
    yield "grey noise", rng.integers(0, 256, (136, 136, 1), dtype=np.uint8).repeat(3, 2)
    for side in (1, 2, 4):
        blocks = rng.integers(0, 2, (136 // side, 136 // side, 3), dtype=np.uint8) * np.uint8(255)
        yield f"noise of squares {side}", blocks.repeat(side, 0).repeat(side, 1)
        yield (
            f"checks {side}",
            (np.indices((136, 136)).sum(0) // side % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, 2),
        )
    yield "slope", np.linspace(0, 255, 136).astype(np.uint8)[None, :, None].repeat(136, 0).repeat(3, 2)
    yield "one pixel", np.full((1, 1, 3), 9, np.uint8)


def test_latents_of_images_usual_and_extreme_give_no_warning(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray]
) -> None:
    for name, pixels in images(photo):
        latents = codec.decode_latents(codec.encode(pixels, quality=100, effort=1, layers=1))
        assert said(latents, PROFILES["tiny"]) is None, name


def test_encode_latents_warns_at_the_callers_line(codec: sdtrt.Codec) -> None:
    wrong, right = 9 * synthetic(PROFILES["sd1"], 1.0), synthetic(PROFILES["sd1"], 1.0)
    with pytest.warns(sdtrt.LatentsWarning, match="sd1 expects unit scale") as caught:
        sdtrt.encode_latents(wrong, latent_space="sd1")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(sdtrt.LatentsWarning, match="tiny expects unit scale") as caught:
        codec.encode_latents(20 * synthetic(PROFILES["tiny"], 1.0))
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sdtrt.encode_latents(right, latent_space="sd1")
