"""Denoising: which files are denoised, at which timestep it begins, and the latents that result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quantized_latents import QuantizedLatents
from sdtrt.engine.denoising.denoise import RecommendedDenoising, UnetSpec, run_ddim
from sdtrt.engine.denoising.steps import validate_steps
from sdtrt.engine.format import container
from sdtrt.engine.format.latent_space import PALETTE
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.errors import BundleError

Photo = Callable[[int, int], np.ndarray]
FIELDS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "multiple": 8,
}
PRIOR, CHANNEL_STEPS = 3, np.full(4, 0.5, np.float32)


def test_trajectory_first_timestep_has_the_noise_of_the_quantizer() -> None:
    unet = UnetSpec.from_fields(FIELDS)
    trajectory = unet.trajectory(PRIOR, 1.0, np.array([0.3, 0.6, 0.5, 0.7], np.float32), 4)
    assert trajectory is not None
    noise = np.sqrt((0.3**2 + 0.6**2 + 0.5**2 + 0.7**2) / 4 / 12)
    first = trajectory.steps[0].timestep
    alpha = unet.schedule.alpha_cumprod_at(first)
    assert np.sqrt((1 - alpha) / alpha) == pytest.approx(noise, rel=1e-3)
    assert trajectory.input_scale == pytest.approx(alpha**0.5)
    assert [step.timestep for step in trajectory.steps] == pytest.approx([first, first * 3 / 4, first / 2, first / 4])


def test_run_ddim_with_perfect_prediction_returns_clean_latents() -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(1, 4, 8, 8)).astype(np.float32)
    noise = rng.normal(size=clean.shape).astype(np.float32)
    trajectory = UnetSpec.from_fields(FIELDS).trajectory(PRIOR, 1.0, CHANNEL_STEPS, 3)
    assert trajectory is not None
    level = np.float32(0.5 / 12**0.5)
    denoised = run_ddim(clean + level * noise, trajectory, lambda latents, timestep: noise)
    np.testing.assert_allclose(denoised, clean, atol=2e-4)


def test_trajectory_of_palette_files_has_timesteps_of_2022() -> None:
    unet = UnetSpec.from_fields(FIELDS | {"auto": {"steps": 2, "from_step": 0.1}})
    trajectory = unet.trajectory(PALETTE, 1.0, CHANNEL_STEPS, 4)
    assert trajectory is not None
    assert trajectory.input_scale == 1
    assert [step.timestep for step in trajectory.steps] == [45, 30, 15, 0]
    assert unet.trajectory(PALETTE, 1.0, CHANNEL_STEPS, None) is None
    assert unet.trajectory(PALETTE, 1.0, CHANNEL_STEPS, 0) is None


def test_trajectory_by_default_is_the_recommended_one() -> None:
    unet = UnetSpec.from_fields(FIELDS | {"auto": {"steps": 2, "from_step": 1.5}})
    assert unet.recommended == RecommendedDenoising(2, 1.5)
    assert unet.trajectory(PRIOR, 1.4, CHANNEL_STEPS, None) is None
    trajectory = unet.trajectory(PRIOR, 1.5, CHANNEL_STEPS, None)
    assert trajectory is not None
    assert len(trajectory.steps) == 2
    assert UnetSpec.from_fields(FIELDS).trajectory(PRIOR, 4.0, CHANNEL_STEPS, None) is None


def test_trajectory_of_fine_quantizer_is_none() -> None:
    assert UnetSpec.from_fields(FIELDS).trajectory(PRIOR, 0.1, np.full(4, 0.1, np.float32), 3) is None


@pytest.mark.parametrize(
    "change",
    [
        {"multiple": 0},
        {"multiple": "8"},
        {"multiple": True},
        {"auto": {"steps": -1, "from_step": 1}},
        {"auto": {"steps": 1}},
        {"auto": 3},
        {"prediction_type": "x0"},
        {"beta_end": float("nan")},
        {"num_train_timesteps": 1 << 40},
    ],
)
def test_from_fields_with_invalid_field_raises(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, BundleError)):
        UnetSpec.from_fields(FIELDS | change)


@pytest.mark.parametrize("steps", [-1, 1001, 1.0, True, "2", None])
def test_validate_steps_with_invalid_number_raises(steps: object) -> None:
    assert validate_steps(1000) == 1000
    kind = ValueError if type(steps) is int else TypeError
    with pytest.raises(kind, match=r"denoise is .*, expected a whole number from 0 to 1000"):
        validate_steps(steps)


def test_pad_to_multiple_repeats_the_edges() -> None:
    symbols = np.arange(12, dtype=np.int16).reshape(2, 2, 3)
    vector = np.ones(2, np.float32)
    for points in (np.zeros(2, np.float32), (symbols % 5).astype(np.int8)):
        padded = QuantizedLatents(symbols, 0 * vector, vector, points).pad_to_multiple(4)
        expected = np.pad(
            QuantizedLatents(symbols, 0 * vector, vector, points).dequantize(), ((0, 0), (0, 2), (0, 1)), "edge"
        )
        np.testing.assert_array_equal(padded.dequantize(), expected)


def test_decode_by_default_denoises_coarse_files_only(denoising: Bundle, photo: Photo) -> None:
    codec = EngineCodec(denoising.folder, device="cpu")
    coarse, fine = (codec.encode(ImageData(photo(37, 26)), EncodeOptions(quality=q)) for q in (20, 90))
    plain = EngineCodec("tiny", device="cpu")
    for data, steps in ((coarse, 2), (fine, 0)):
        pixels = codec.decode(data).pixels
        np.testing.assert_array_equal(pixels, codec.decode(data, options=DecodeOptions(steps)).pixels)
        assert (pixels == plain.decode(data).pixels).all() == (steps == 0)
        assert pixels.shape == (26, 37, 3)


def test_decode_passes_denoised_latents_to_the_decoder(denoising: Bundle, photo: Photo) -> None:
    codec = EngineCodec(denoising.folder, device="cpu")
    data = codec.encode(ImageData(photo(32, 32)), EncodeOptions(quality=20))
    file = container.read(data)
    parsed = codec.prepare(LatentReader(file), DecodeOptions(3))
    assert parsed.trajectory is not None
    latents = run_ddim(
        LatentReader(file).read().dequantize()[None],
        parsed.trajectory,
        lambda latents, timestep: np.float32(0.01) * latents + np.float32(1e-6) * timestep.reshape(-1, 1, 1, 1),
    )
    np.testing.assert_array_equal(
        codec.decode(data, options=DecodeOptions(3)).pixels, codec.synthesise(latents[0], file.header)
    )


def test_decode_with_denoise_without_unet_raises(photo: Photo) -> None:
    codec = EngineCodec("tiny", device="cpu")
    data = codec.encode(ImageData(photo(16, 16)), EncodeOptions())
    with pytest.raises(BundleError, match="no UNet to denoise with; export one with --unet"):
        codec.decode(data, options=DecodeOptions(1))


def test_open_bundle_with_invalid_unet_raises(denoising: Bundle, tmp_path: Path) -> None:
    text = (denoising.folder / "bundle.json").read_text()
    (tmp_path / "bundle.json").write_text(text.replace('"multiple": 2', '"multiple": -2'))
    with pytest.raises(BundleError, match="multiple is -2"):
        Bundle.open(tmp_path)
