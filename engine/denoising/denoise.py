"""The denoising of a file's latents: at which timestep the UNet is entered, and the steps to clean latents.

A quantizer of step s has an error of variance s^2 / 12 (Bennett, "Spectra of quantized signals", 1948). The error is
treated as noise: the UNet is entered at the timestep whose noise level equals it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.denoising.schedule import Schedule, Trajectory
from sdtrt.engine.denoising.steps import validate_steps
from sdtrt.engine.format.latent_space import PALETTE
from sdtrt.kernels import reference

MAX_MULTIPLE = 64  # latents
PALETTE_TIMESTEP = 45.0  # the first timestep of palette files, as in the method of 2022


@dataclass(frozen=True, slots=True)
class RecommendedDenoising:
    """The denoising that improved latents when the bundle was exported.

    Arguments:
        steps: of DDIM.
        min_quant_step: files of a smaller quantization step are not denoised.
    """

    steps: int
    min_quant_step: float


@dataclass(frozen=True, slots=True)
class UnetSpec:
    """The facts about a bundle's `unet.onnx` in its manifest.

    Arguments:
        schedule: the noise schedule that the UNet was trained with.
        multiple: height and width of the UNet's latents must be multiples of it.
        noise_scale: float32 (C,), or (1,) for all channels. Latents divided by it have equal noise in all channels.
        recommended: None if denoising did not improve latents.
    """

    schedule: Schedule
    multiple: int
    noise_scale: F32Array
    recommended: RecommendedDenoising | None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "UnetSpec":
        """Return the UNet of a manifest's fields; `ValueError` and its like if a field is missing or invalid."""
        multiple = fields["multiple"]
        if type(multiple) is not int or not 1 <= multiple <= MAX_MULTIPLE:
            raise ValueError(f"the UNet's multiple is {multiple!r}, expected 1 to {MAX_MULTIPLE}")
        noise_scale = np.array(fields.get("unit", [1.0]), np.float32)
        if noise_scale.ndim != 1 or not (np.isfinite(noise_scale).all() and (noise_scale > 0).all()):
            raise ValueError("the UNet's unit must be positive numbers, one for each channel")
        auto = fields.get("auto")
        recommended = (
            auto if auto is None else RecommendedDenoising(validate_steps(auto["steps"]), float(auto["from_step"]))
        )
        return cls(Schedule.from_fields(fields), multiple, noise_scale, recommended)

    def trajectory(
        self, prior: int, quant_step: float, channel_steps: F32Array, denoise: int | None
    ) -> Trajectory | None:
        """Return the denoising of a file's latents, None for none.

        Arguments:
            prior, quant_step: of the file's header.
            channel_steps: float32 (C,), the quantization step of each channel in units of the latents.
            denoise: number of steps; 0: none; None: as recommended.

        Latents are not denoised if the quantization error is below the noise at timestep 0. Palette files are denoised
        only if `denoise` is given: from timestep 45 to 0 in even steps, without scaling, as in the method of 2022. For
        example, 4 steps have the timesteps 45, 30, 15 and 0.
        """
        if prior == PALETTE:
            timesteps = np.linspace(PALETTE_TIMESTEP, 0, denoise or 0).tolist()
            return self.schedule.trajectory(timesteps, noisy=False) if timesteps else None
        if denoise is None:
            recommended = self.recommended
            denoise = recommended.steps if recommended and quant_step >= recommended.min_quant_step else 0
        noise = float(np.sqrt(np.square(channel_steps / self.noise_scale, dtype=np.float64).mean() / 12))
        if denoise == 0 or noise < self.schedule.noise_levels[0]:
            return None
        first = self.schedule.timestep_of(noise)
        return self.schedule.trajectory([first * (denoise - n) / denoise for n in range(denoise)], noisy=True)


def run_ddim(latents: F32Array, trajectory: Trajectory, predict: Callable[[F32Array, F32Array], F32Array]) -> F32Array:
    """Return denoised latents, float32 (N, C, h, w).

    Arguments:
        latents: float32 (N, C, h, w).
        trajectory: the steps.
        predict: the UNet, from latents and timesteps, float32 (N,), to its prediction.
    """
    latents = latents * np.float32(trajectory.input_scale)
    for ddim_step in trajectory.steps:
        values = ddim_step.timestep, ddim_step.a, ddim_step.b
        timestep, a, b = (np.full(len(latents), value, np.float32) for value in values)
        latents = reference.ddim_step(latents, predict(latents, timestep), a, b)
    return latents
