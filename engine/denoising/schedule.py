"""The noise schedule of a diffusion model, and the steps of DDIM.

At timestep t, noisy latents are sqrt(A_t) * clean + sqrt(1 - A_t) * noise. A_t, `alphas_cumprod`, is the cumulative
product of alpha = 1 - beta (Ho et al., "Denoising Diffusion Probabilistic Models", 2020, equation 4). A step of DDIM
with eta 0 (Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12) is linear in the latents and the
prediction. So two factors define it, see `kernels.reference.ddim_step`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sdtrt._arrays import F64Array
from sdtrt.errors import BundleError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
MAX_TIMESTEPS = 1 << 16


@dataclass(frozen=True, slots=True)
class DdimStep:
    """One step: the UNet predicts at `timestep`, then latents become a * latents + b * prediction."""

    timestep: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The way to clean latents: they are multiplied by `input_scale`, then go through the steps."""

    input_scale: float
    steps: tuple[DdimStep, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A noise schedule.

    Arguments:
        alphas_cumprod: float64 (T,), falling.
        prediction: of the UNet, one of `PREDICTIONS`.
    """

    alphas_cumprod: F64Array
    prediction: str

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Schedule":
        """Return the schedule in the fields of a manifest, whose names are those of diffusers.

        Raises `BundleError` if a field is missing or invalid.
        """
        try:
            count = int(fields["num_train_timesteps"])
            if not 1 <= count <= MAX_TIMESTEPS:
                raise ValueError(f"{count} timesteps, expected 1 to {MAX_TIMESTEPS}")
            if fields["prediction_type"] not in PREDICTIONS:
                raise ValueError(f"prediction {fields['prediction_type']!r}, expected one of {', '.join(PREDICTIONS)}")
            start, end = float(fields["beta_start"]), float(fields["beta_end"])
            alphas = np.cumprod(1 - betas(fields["beta_schedule"], start, end, count)).astype(np.float64)
            if fields["rescale_betas_zero_snr"]:
                alphas = rescale_zero_terminal_snr(alphas)
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(f"the UNet's schedule is invalid: {error!r}") from error
        if not (np.isfinite(alphas).all() and (np.diff(alphas) < 0).all() and alphas[-1] >= 0 and alphas[0] < 1):
            raise BundleError("the UNet's schedule is invalid: its noise does not grow at every timestep")
        return cls(alphas, fields["prediction_type"])

    @property
    def noise_levels(self) -> F64Array:
        """Standard deviation of the noise relative to the signal, float64 (T,); infinite where A_t is 0."""
        with np.errstate(divide="ignore"):
            return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    def timestep_of(self, noise: float) -> float:
        """Return the timestep of a noise level, interpolated in the logarithm of the noise level.

        It is 0 if the noise level is below the first one.
        """
        levels = self.noise_levels
        levels = levels[np.isfinite(levels)]
        return float(np.interp(np.log(max(noise, 1e-12)), np.log(levels), np.arange(len(levels))))

    def alpha_cumprod_at(self, timestep: float) -> float:
        """Return A_t, linearly interpolated between integer timesteps."""
        return float(np.interp(timestep, np.arange(len(self.alphas_cumprod)), self.alphas_cumprod))

    def trajectory(self, timesteps: Sequence[float], *, noisy: bool) -> Trajectory:
        """Return the steps of DDIM from each timestep to the next, and from the last to clean latents.

        Arguments:
            timesteps: falling, and not empty.
            noisy: whether latents are clean latents plus noise. They are then scaled by sqrt(A_t) of the first
                timestep, which is the scale that the UNet was trained with.
        """
        alphas = [*map(self.alpha_cumprod_at, timesteps), 1.0]
        factors = [self.ddim_factors(*pair) for pair in pairwise(alphas)]
        steps = tuple(DdimStep(timestep, *pair) for timestep, pair in zip(timesteps, factors, strict=True))
        return Trajectory(alphas[0] ** 0.5 if noisy else 1.0, steps)

    def ddim_factors(self, alpha: float, next_alpha: float) -> tuple[float, float]:
        """Return the factors of latents and prediction in a step from one A_t to another."""
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        next_signal, next_noise = next_alpha**0.5, (1 - next_alpha) ** 0.5
        if self.prediction == "epsilon":
            return next_signal / signal, next_noise - next_signal * noise / signal
        if self.prediction == "v_prediction":
            return next_signal * signal + next_noise * noise, next_noise * signal - next_signal * noise
        return next_noise / noise, next_signal - next_noise * signal / noise


def betas(schedule: str, start: float, end: float, count: int) -> F64Array:
    """Return beta of each timestep, float64 (count,). The names of schedules are those of diffusers."""
    if schedule == "linear":
        return np.linspace(start, end, count)
    if schedule == "scaled_linear":  # of Stable Diffusion
        return np.linspace(start**0.5, end**0.5, count) ** 2
    if schedule == "squaredcos_cap_v2":  # Nichol and Dhariwal, "Improved DDPM", 2021, equation 17
        angles = (np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2
        alphas_cumprod = np.cos(angles) ** 2
        return np.minimum(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)
    raise ValueError(f"beta_schedule {schedule!r} is unknown; expected linear, scaled_linear or squaredcos_cap_v2")


def rescale_zero_terminal_snr(alphas_cumprod: F64Array) -> F64Array:
    """Return `alphas_cumprod` shifted and scaled so that the last is 0 and the first does not change.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2024, algorithm 1.
    """
    roots: F64Array = np.sqrt(alphas_cumprod)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
