"""Denoising through the UNet that the export stage writes, beside diffusers' own loop."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from sdtrt.engine.denoising.denoise import UnetSpec, run_ddim
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.format.latent_space import PALETTE
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.export.build import build
from sdtrt.export.checkpoints.checkpoint import schedule_of
from sdtrt.export.checkpoints.prompt import empty_prompt
from sdtrt.export.export_options import ExportOptions
from sdtrt.export.latents.denoising import choose_auto_steps

Make = Callable[..., Path]


def ours(bundle: Bundle, latents: np.ndarray, trajectory: Trajectory) -> np.ndarray:
    network = OrtCpu(1).load(bundle.file("unet.onnx"))
    return run_ddim(
        latents, trajectory, lambda x, timestep: network.run({"latents": x, "timestep": timestep})["prediction"]
    )


@torch.inference_mode()
def theirs(folder: Path, unet: Any, latents: np.ndarray, times: list[int]) -> np.ndarray:
    """Return what diffusers' scheduler makes of latents by steps from one timestep to the next, the last to clean."""
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        folder, subfolder="scheduler", clip_sample=False, set_alpha_to_one=True
    )
    embedding = empty_prompt(folder).embedding.expand(len(latents), -1, -1)
    x = torch.from_numpy(latents)
    for time, following in zip(times, [*times[1:], None], strict=True):
        # The scheduler goes down by 1000 // num_inference_steps, or beyond the first timestep.
        scheduler.num_inference_steps = 1 if following is None else 1000 // (time - following)
        prediction = unet(x, float(time), embedding).sample
        x = scheduler.step(prediction, time, x, eta=0.0).prev_sample
    return x.numpy()


@pytest.fixture
def photos(tmp_path: Path, photo: Callable[[int, int], np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(3):
        Image.fromarray(photo(64 + n, 72)).save(folder / f"{n}.png")
    return folder


def test_build_with_unet_denoises_as_diffusers_and_records_gains(
    tmp_path: Path, photos: Path, pipeline: Make, models: SimpleNamespace
) -> None:
    unet = models.unet_2d_condition()
    vae = models.autoencoder_tiny(num_encoder_blocks=(0, 0, 0, 1), num_decoder_blocks=(1, 0, 0, 0))
    folder = pipeline(vae=vae, unet=unet)
    request = ExportOptions(str(folder), tmp_path / "bundle", latent_space="sd1", unet=True, half=False, photos=photos)
    told = build(request)
    file = tmp_path / "bundle" / "bundle.json"
    fields = json.loads(file.read_text())
    assert set(fields["files"]) == {"encoder.onnx", "decoder.onnx", "unet.onnx"} == set(fields["parity"])
    assert fields["unet"]["num_train_timesteps"] == 1000
    assert fields["unet"]["prediction_type"] == "epsilon"
    gains = fields["unet"]["gains"]
    assert [gain["step"] for gain in gains] == sorted(gain["step"] for gain in gains)
    assert fields["unet"]["auto"] == choose_auto_steps({gain["step"]: gain["psnr"] for gain in gains})
    assert told[-1].startswith("the UNet is used")
    denoises_as_diffusers_does(Bundle.open(tmp_path / "bundle"), folder, unet)

    # Of another prediction nothing but the schedule is another.
    diffusers.DDIMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    fields["unet"] |= schedule_of(folder)
    assert fields["unet"]["prediction_type"] == "v_prediction"
    file.write_text(json.dumps(fields))
    denoises_as_diffusers_does(Bundle.open(tmp_path / "bundle"), folder, unet)


def denoises_as_diffusers_does(bundle: Bundle, folder: Path, unet: Any) -> None:
    assert isinstance(bundle.unet, UnetSpec)
    assert bundle.unet.multiple == 8
    latents = np.random.default_rng(1).normal(size=(2, 4, 16, 24)).astype(np.float32)

    level = bundle.unet.schedule.noise_levels[100]
    deltas = np.full(4, level * 12**0.5, np.float32)
    trajectory = bundle.unet.trajectory(1, 1.0, deltas, 5)
    assert trajectory is not None
    assert [step.timestep for step in trajectory.steps] == pytest.approx([100, 80, 60, 40, 20], abs=1e-3)
    noisy = latents * np.float32(trajectory.input_scale)
    expected = theirs(folder, unet, noisy, [100, 80, 60, 40, 20])
    np.testing.assert_allclose(ours(bundle, latents, trajectory), expected, rtol=1e-5, atol=1e-5)

    trajectory = bundle.unet.trajectory(PALETTE, 1.0, deltas, 4)
    assert trajectory is not None
    # The steps are of 15; 1000 // 66 is what diffusers makes of that.
    expected = theirs(folder, unet, latents, [45, 30, 15, 0])
    np.testing.assert_allclose(ours(bundle, latents, trajectory), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("gains", "from_step"),
    [
        ({0.5: -0.1, 1.0: 0.1, 2.0: 0.3}, 1.0),
        ({0.5: 0.1, 1.0: -0.1, 2.0: 0.3}, 2.0),
        ({0.5: 0.1, 1.0: 0.1, 2.0: 0.01}, None),
        ({0.5: 0.1, 1.0: 0.1, 2.0: 0.1}, 0.5),
    ],
)
def test_choose_auto_steps_returns_the_finest_step_of_a_helpful_range(
    gains: dict[float, float], from_step: float | None
) -> None:
    assert choose_auto_steps(gains) == (None if from_step is None else {"steps": 1, "from_step": from_step})
