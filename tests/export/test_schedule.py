"""The mathematics of denoising beside diffusers' DDIMScheduler."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from sdtrt.engine.denoising.schedule import Schedule
from sdtrt.errors import BundleError

SD1 = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}
CASES = [
    SD1,
    SD1 | {"prediction_type": "v_prediction"},
    SD1 | {"prediction_type": "sample"},
    SD1 | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    SD1 | {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    SD1 | {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
]


def scheduler_of(fields: dict[str, Any]) -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(**fields, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")


@pytest.mark.parametrize("fields", CASES)
def test_schedule_shares_equal_diffusers(fields: dict[str, Any]) -> None:
    shares = Schedule.from_fields(fields).alphas_cumprod
    np.testing.assert_allclose(shares, scheduler_of(fields).alphas_cumprod, atol=2e-6)


@pytest.mark.parametrize("fields", CASES)
@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_trajectory_steps_equal_diffusers(fields: dict[str, Any], count: int) -> None:
    """Down from a timestep of which `count` steps of one length lead to clean latents, as diffusers spaces them."""
    schedule, scheduler = Schedule.from_fields(fields), scheduler_of(fields)
    stride = len(schedule.alphas_cumprod) // 20
    scheduler.set_timesteps(20)
    generator = torch.Generator().manual_seed(count)
    expected = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)
    found = expected.numpy().copy()
    times = [stride * n for n in reversed(range(count))]
    for time, following in zip(times, [*times[1:], -1], strict=True):
        prediction = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        expected = scheduler.step(prediction, time, expected, eta=0.0).prev_sample
        share, next_share = (
            schedule.alpha_cumprod_at(time),
            schedule.alpha_cumprod_at(following) if following >= 0 else 1.0,
        )
        a, b = schedule.ddim_factors(share, next_share)
        found = a * found + b * prediction.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fields", CASES[:3])
def test_run_ddim_one_step_returns_the_clean_estimate(fields: dict[str, Any]) -> None:
    schedule, scheduler = Schedule.from_fields(fields), scheduler_of(fields)
    scheduler.set_timesteps(20)
    generator = torch.Generator().manual_seed(3)
    latents, prediction = (torch.randn(1, 4, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    (step,) = schedule.trajectory([350], noisy=True).steps
    clean = scheduler.step(prediction, 350, latents).pred_original_sample
    np.testing.assert_allclose(step.a * latents + step.b * prediction, clean, rtol=1e-5, atol=1e-5)


def test_trajectory_scale_reduces_noisy_latents() -> None:
    schedule = Schedule.from_fields(SD1)
    assert schedule.trajectory([90.5, 30], noisy=True).input_scale == schedule.alpha_cumprod_at(90.5) ** 0.5
    assert schedule.trajectory([90.5, 30], noisy=False).input_scale == 1


@pytest.mark.parametrize("fields", CASES)
def test_schedule_timestep_of_noise_level_is_interpolated(fields: dict[str, Any]) -> None:
    schedule = Schedule.from_fields(fields)
    for timestep in (0, 1, 17, 200, len(schedule.alphas_cumprod) - 2):
        assert schedule.timestep_of(float(schedule.noise_levels[timestep])) == pytest.approx(timestep, abs=1e-6)
    assert schedule.timestep_of(0) == schedule.timestep_of(1e-9) == 0
    between = schedule.timestep_of(float(np.sqrt(schedule.noise_levels[9] * schedule.noise_levels[10])))
    assert between == pytest.approx(9.5)


def test_schedule_noise_levels_of_the_2022_timesteps_are_as_published() -> None:
    """Its timesteps 45, 30, 15 and 0 have noise of 0.21, 0.17, 0.12 and 0.03 on unit signal."""
    levels = Schedule.from_fields(SD1).noise_levels
    np.testing.assert_allclose(levels[[45, 30, 15, 0]], [0.21, 0.17, 0.12, 0.03], atol=0.006)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction_type": "flow"},
        {"beta_schedule": "sigmoid"},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": 1 << 20},
        {"beta_start": 0.0, "beta_end": 0.0},
        {"beta_end": 2.0},
        {"beta_start": float("nan")},
        {"beta_end": "x"},
    ],
)
def test_schedule_invalid_fields_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="schedule is invalid"):
        Schedule.from_fields(SD1 | wrong)
    with pytest.raises(BundleError, match="schedule is invalid"):
        Schedule.from_fields({})
