"""Train a small UNet that denoises a model's latents, and add it to a copy of the model's bundle.

    python -m sdtrt.export.training.denoiser PHOTOS --model tiny --run runs/denoiser-tiny --out runs/tiny-denoising

Like the UNets of diffusion models it predicts, at every timestep, the noise that was added to latents of the photos.
Channels are in units of their quantization step, so that all channels have the same noise level. The network is of a
class of diffusers and is exported like Stable Diffusion's. A run resumes from its last checkpoint.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from sdtrt.engine.denoising.schedule import Schedule
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, find_bundle
from sdtrt.export.folder import new_bundle, write_manifest
from sdtrt.export.graphs.bundle_part import BundlePart, ExportRecord, write_part
from sdtrt.export.latents.denoising import measure_unet_gain
from sdtrt.export.latents.photo_latents import latents_of_photos
from sdtrt.export.training_loop import Batch, TrainingConfig, TrainingRun, averaged_weights

SCHEDULE = {  # the noise schedule of Stable Diffusion
    "prediction_type": "epsilon",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "rescale_betas_zero_snr": False,
}
MULTIPLE = 4


@dataclass(frozen=True, kw_only=True)
class DenoiserTrainingConfig(TrainingConfig):
    """The hyperparameters of a denoiser's training; `crop` is in latents.

    Attributes:
        timestep_power: Timesteps are drawn as uniform numbers to this power. Above 1 early timesteps, which have the
            noise levels of quantization, are more frequent.
    """

    iterations: int = 5000
    learning_rate: float = 8e-4
    warmup: int = 200
    batch: int = 8
    crop: int = 32
    ema_decay: float = 0.998
    timestep_power: float = 2.0


class LatentDenoiser(nn.Module):
    """Noisy latents at unit scale (N, C, h, w) and timesteps, float32 (N,), to the noise in them."""

    def __init__(self, unit: Tensor, size: Tensor) -> None:
        super().__init__()
        self.register_buffer("unit", unit[:, None, None])  # quantization step of each channel
        self.register_buffer("size", size[:, None, None])  # root mean square of noisy latents, in quantization steps
        self.unet = diffusers.UNet2DModel(
            in_channels=len(unit),
            out_channels=len(unit),
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            block_out_channels=(48, 96, 112),
            layers_per_block=1,
            norm_num_groups=16,
            add_attention=False,
        )

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        scaled = latents / (self.unit * self.size)
        return self.unet(scaled, timestep, return_dict=False)[0] * self.unit  # type: ignore[no-any-return]


def train(
    latents: list[np.ndarray], profile: LatentProfile, run: Path, config: DenoiserTrainingConfig
) -> LatentDenoiser:
    """Train a denoiser, and return it with averaged weights.

    Arguments:
        latents: Latents in quantization steps, float32 (C, h, w) each.
        profile: The model's profile.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
    """
    torch.manual_seed(config.seed)
    denoiser = new_denoiser(latents, profile)
    shares = torch.from_numpy(Schedule.from_fields(SCHEDULE).alphas_cumprod).float()

    def draw(rng: np.random.Generator) -> Batch:
        crops = np.stack([random_crop(latents, config.crop, rng) for _ in range(config.batch)])
        uniform = rng.random(config.batch).astype(np.float32)
        timestep = torch.from_numpy(uniform**config.timestep_power * len(shares)).long().clamp_max(len(shares) - 1)
        return torch.from_numpy(crops), timestep

    def loss_of(crops: Tensor, timestep: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        share, noise = shares[timestep][:, None, None, None], torch.randn_like(crops)
        noisy = (share.sqrt() * crops + (1 - share).sqrt() * noise) * denoiser.unit
        error = (denoiser(noisy, timestep.float()) / denoiser.unit - noise).square().mean()
        return error, {"loss": error}

    TrainingRun(run, denoiser, denoiser, config).train(draw, loss_of)
    denoiser.load_state_dict(averaged_weights(run))
    return denoiser.eval()


def new_denoiser(latents: list[np.ndarray], profile: LatentProfile) -> LatentDenoiser:
    unit = torch.from_numpy(profile.std * profile.step_weight)
    values = np.concatenate([plane.reshape(len(plane), -1) for plane in latents[::8]], axis=1)
    return LatentDenoiser(unit, torch.from_numpy(np.sqrt(np.square(values).mean(1) + 1)))


def random_crop(latents: list[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    plane = latents[rng.integers(len(latents))]
    top, left = (int(rng.integers(n - side + 1)) for n in plane.shape[1:])
    return plane[:, top : top + side, left : left + side]


def add_to_bundle(bundle: Bundle, denoiser: LatentDenoiser, example: Tensor, photos: Path, out: Path) -> str:
    """Write a copy of a bundle with the denoiser, measure the denoiser's gain, and return a message about it."""
    fields = json.loads((bundle.folder / MANIFEST).read_text())
    written = ExportRecord()
    with new_bundle(out, force=True) as folder, torch.no_grad():
        for name in bundle.files:
            shutil.copy(bundle.folder / name, folder)
        inputs = {"latents": example * denoiser.unit, "timestep": torch.tensor([20.0, 150.0])}
        write_part(BundlePart("unet", denoiser, inputs, "prediction"), folder, written, half=False, quiet=False)
        unit = [float(f"{value:.7g}") for value in denoiser.unit.flatten().tolist()]
        fields["unet"] = {"multiple": MULTIPLE, "unit": unit, **SCHEDULE}
        fields["parity"] = fields.get("parity", {}) | written.parity
        write_manifest(folder, {name: value for name, value in fields.items() if name not in {"schema", "files"}})
        return measure_unet_gain(folder, photos, quiet=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small UNet for a model's latents.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--model", required=True, help="a name or a bundle's folder")
    parser.add_argument("--run", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    options = parser.parse_args()
    bundle, config = find_bundle(options.model), DenoiserTrainingConfig()
    profile = bundle.latent_profile
    latents = latents_of_photos(options.photos, options.model, config.crop)
    denoiser = train(latents, profile, options.run, config)
    rng = np.random.default_rng(config.seed)
    example = torch.from_numpy(np.stack([random_crop(latents, config.crop, rng) for _ in range(2)]))
    print(add_to_bundle(bundle, denoiser, example, options.photos, options.out))


if __name__ == "__main__":
    main()
