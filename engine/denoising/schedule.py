"""The mathematics of denoising: how noisy latents are at a timestep, and what one step of DDIM does with them.

At timestep t noisy latents are sqrt(s) * clean + sqrt(1 - s) * noise, where s, the signal's share, is the product of
(1 - beta) up to t (Ho et al., "Denoising Diffusion Probabilistic Models", 2020, equation 4). What a step of DDIM with
eta 0 (Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12) makes of them is linear in latents and
prediction, so two numbers say it all: `kernels.reference.step` takes them.
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
    """One step: the network predicts at `timestep`, then latents become a * latents + b * prediction."""

    timestep: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The way to clean latents: they are multiplied by `scale`, then go through the steps."""

    scale: float
    steps: tuple[DdimStep, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The signal's share at each timestep, float64 (T,), falling; and what the network predicts."""

    shares: F64Array
    prediction: str

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Schedule":
        """Return the schedule of a bundle's manifest, in diffusers' words; `BundleError` if it makes no sense."""
        try:
            count = int(fields["num_train_timesteps"])
            if not 1 <= count <= MAX_TIMESTEPS:
                raise ValueError(f"{count} timesteps")
            if fields["prediction_type"] not in PREDICTIONS:
                raise ValueError(f"prediction {fields['prediction_type']!r}, expected one of {', '.join(PREDICTIONS)}")
            start, end = float(fields["beta_start"]), float(fields["beta_end"])
            shares = np.cumprod(1 - betas(fields["beta_schedule"], start, end, count)).astype(np.float64)
            if fields["rescale_betas_zero_snr"]:
                shares = rescale_zero_terminal_snr(shares)
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(f"the UNet's schedule makes no sense: {error!r}") from error
        if not (np.isfinite(shares).all() and (np.diff(shares) < 0).all() and shares[-1] >= 0 and shares[0] < 1):
            raise BundleError("the UNet's schedule makes no sense: its noise does not grow from step to step")
        return cls(shares, fields["prediction_type"])

    @property
    def noise_levels(self) -> F64Array:
        """The noise's standard deviation over the signal's at each timestep, float64 (T,); infinite without signal."""
        with np.errstate(divide="ignore"):
            return np.sqrt((1 - self.shares) / self.shares)

    def timestep_of(self, noise: float) -> float:
        """Return the timestep, between whole ones, at which noise has a standard deviation on latents of unit signal.

        Interpolated in the noise's logarithm; 0 if there is less noise than at the first timestep.
        """
        levels = self.noise_levels
        levels = levels[np.isfinite(levels)]
        return float(np.interp(np.log(max(noise, 1e-12)), np.log(levels), np.arange(len(levels))))

    def share_at(self, timestep: float) -> float:
        """Return the signal's share at a timestep, interpolated between whole ones."""
        return float(np.interp(timestep, np.arange(len(self.shares)), self.shares))

    def trajectory(self, times: Sequence[float], *, noisy: bool) -> Trajectory:
        """Return the steps of DDIM from one timestep to the next, and from the last to clean latents.

        `noisy` latents are clean ones with noise added, and scaled down to what the network knows at the first
        timestep; others go as they are.
        """
        shares = [*map(self.share_at, times), 1.0]
        steps = [DdimStep(time, *self.factors(*pair)) for time, pair in zip(times, pairwise(shares), strict=True)]
        return Trajectory(shares[0] ** 0.5 if noisy else 1.0, tuple(steps))

    def factors(self, share: float, next_share: float) -> tuple[float, float]:
        """Return what latents and prediction are multiplied by in a step to another share of the signal."""
        signal, noise = share**0.5, (1 - share) ** 0.5
        next_signal, next_noise = next_share**0.5, (1 - next_share) ** 0.5
        if self.prediction == "epsilon":
            return next_signal / signal, next_noise - next_signal * noise / signal
        if self.prediction == "v_prediction":
            return next_signal * signal + next_noise * noise, next_noise * signal - next_signal * noise
        return next_noise / noise, next_signal - next_noise * signal / noise


def betas(schedule: str, start: float, end: float, count: int) -> F64Array:
    """Return the share of the signal that each timestep takes, float64 (count,); names are diffusers'."""
    if schedule == "linear":
        return np.linspace(start, end, count)
    if schedule == "scaled_linear":  # of Stable Diffusion
        return np.linspace(start**0.5, end**0.5, count) ** 2
    if schedule == "squaredcos_cap_v2":  # Nichol and Dhariwal, "Improved DDPM", 2021, equation 17
        angles = (np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2
        shares = np.cos(angles) ** 2
        return np.minimum(1 - shares[1:] / shares[:-1], 0.999)
    raise ValueError(f"beta_schedule {schedule!r} is unknown; there are: linear, scaled_linear, squaredcos_cap_v2")


def rescale_zero_terminal_snr(shares: F64Array) -> F64Array:
    """Return shares shifted and scaled so that the last is 0 and the first as it was.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2024, algorithm 1.
    """
    roots: F64Array = np.sqrt(shares)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
