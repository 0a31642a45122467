"""Which denoising a file gets: where a bundle's UNet is entered, and by which steps it leads to clean latents.

A quantizer of step s leaves an error of variance s^2 / 12 (Bennett, "Spectra of quantized signals", 1948), which is
taken for noise: the UNet is entered at the timestep that knows as much of it, so many times as there are steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.denoising.schedule import Schedule, Trajectory
from sdtrt.engine.format.arguments import checked_integer
from sdtrt.engine.format.profile import PALETTE
from sdtrt.kernels import reference

MAX_STEPS = 1000
MAX_MULTIPLE = 64
PALETTE_TIME = 45.0  # where the method of 2022 entered


@dataclass(frozen=True, slots=True)
class RecommendedDenoising:
    """What measurement recommends: so many steps for files of a quantizer's step of `from_step` or more."""

    steps: int
    from_step: float


@dataclass(frozen=True, slots=True)
class UnetSpec:
    """What a bundle says of its `unet.onnx`: noisy latents and timesteps, float32 (N,), to a prediction.

    Both sides of the latents must be multiples of `multiple`. Noise is alike in all channels if each is divided by its
    `unit`, float32 (C,) or a 1 for all. `auto` is None where denoising was not found to help.
    """

    schedule: Schedule
    multiple: int
    unit: F32Array
    auto: RecommendedDenoising | None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "UnetSpec":
        """Return what a manifest says; `ValueError` and its like if it makes no sense."""
        multiple = fields["multiple"]
        if type(multiple) is not int or not 1 <= multiple <= MAX_MULTIPLE:
            raise ValueError(f"the UNet's multiple is {multiple!r}, expected 1 to {MAX_MULTIPLE}")
        unit = np.array(fields.get("unit", [1.0]), np.float32)
        if unit.ndim != 1 or not (np.isfinite(unit).all() and (unit > 0).all()):
            raise ValueError("the UNet's unit must be positive numbers, one for each channel")
        auto = fields.get("auto")
        if auto is not None:
            auto = RecommendedDenoising(validate_steps(auto["steps"]), float(auto["from_step"]))
        return cls(Schedule.from_fields(fields), multiple, unit, auto)

    def trajectory(self, prior: int, step: float, deltas: F32Array, denoise: int | None) -> Trajectory | None:
        """Return how a file's latents are denoised, None if not at all.

        Arguments:
            prior, step: of the file's header.
            deltas: the quantizer's step of each channel, float32 (C,), in units of its latents.
            denoise: how many steps; None for as many as were measured to help.

        Files of method palette go through evenly spaced timesteps from 45 to 0, unscaled, as in 2022 (with 4 steps:
        45, 30, 15, 0), and only if asked to. Nothing is done where the error is less than the noise at timestep 0.
        """
        if prior == PALETTE:
            times = np.linspace(PALETTE_TIME, 0, denoise or 0).tolist()
            return self.schedule.trajectory(times, noisy=False) if times else None
        if denoise is None:
            denoise = self.auto.steps if self.auto and step >= self.auto.from_step else 0
        noise = float(np.sqrt(np.square(deltas / self.unit, dtype=np.float64).mean() / 12))
        if denoise == 0 or noise < self.schedule.noise_levels[0]:
            return None
        first = self.schedule.timestep_of(noise)
        return self.schedule.trajectory([first * (denoise - n) / denoise for n in range(denoise)], noisy=True)


def run_ddim(latents: F32Array, trajectory: Trajectory, predict: Callable[[F32Array, F32Array], F32Array]) -> F32Array:
    """Return latents, float32 (N, C, h, w), at the end of a trajectory; `predict` is the UNet."""
    latents = latents * np.float32(trajectory.scale)
    for step in trajectory.steps:
        timestep, a, b = (np.full(len(latents), value, np.float32) for value in (step.timestep, step.a, step.b))
        latents = reference.ddim_step(latents, predict(latents, timestep), a, b)
    return latents


def validate_steps(steps: object) -> int:
    """Return a number of steps of denoising; errors as of `checked_integer`."""
    return checked_integer("denoise", steps, 0, MAX_STEPS)
