"""Stage 5 of training `tiny`: the decoder alone, on latents decoded from files.

    python -m sdtrt.export.training.tiny.stage5_decoder PHOTOS PAGES --start runs/tiny-refined --run runs/tiny-polished

Stages 1 to 3 round latents with a dead zone, but the codec uses RDOQ. Here latents are coded as in the codec, with the
profile and the prior that `tiny.build` and `prior.train` made from stage 4. Encoder, profile and prior do not change.
The loss is the squared error and the grid penalty: a decoder trained with the perceptual loss gained no SSIMULACRA2
and lost 0.4 dB. A run resumes from its last checkpoint.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.format.profile import LatentProfile, shipped_profile
from sdtrt.export.training.tiny.build import PROFILE_ID, load_model
from sdtrt.export.training.tiny.common import StageConfig, make_crop_drawer, use_bfloat16
from sdtrt.export.training.tiny.photos import load_photos
from sdtrt.export.training.tiny.stage2_decoder import GRID_WEIGHT, grid_penalty
from sdtrt.export.training.tiny.stage3_refine import squared_error
from sdtrt.export.training_loop import TrainingRun

CONFIG = StageConfig(
    iterations=5_000, learning_rate=2e-4, warmup=200, batch=3, crop=192, steps=(0.25, 4.5), ema_decay=0.9995
)


def train_decoder(folder: Path, pages_folder: Path, start: Path, run: Path, config: StageConfig) -> None:
    """Train the decoder.

    Arguments:
        folder: Folder of training photos.
        pages_folder: Folder of training pages and screens.
        start: Folder of stage 4's checkpoint.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
    """
    torch.manual_seed(config.seed)
    photos, pages = load_photos(folder, config.crop), load_photos(pages_folder, config.crop)
    profile = shipped_profile(PROFILE_ID)
    model = load_model(start)
    use_bfloat16([model.encoder, model.decoder], "cpu")

    def loss_of(crops: Tensor, quant_step: Tensor, _: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            exact = model.encoder(crops).numpy()
        codes = [round(2048 + 256 * math.log2(s)) for s in quant_step.tolist()]
        latents = np.stack([round_trip(one, profile, code) for one, code in zip(exact, codes, strict=True)])
        decoded = model.decoder(torch.from_numpy(latents), quant_step)
        error = squared_error(decoded, crops)
        grid = grid_penalty(decoded, crops, quant_step)
        loss = (config.lambda_at_step_1 / quant_step * error).mean() + GRID_WEIGHT * grid
        return loss, {"loss": loss, "mse": error.mean(), "grid": grid}

    TrainingRun(run, model, model.decoder, config).train(make_crop_drawer(photos, config, pages), loss_of)


def round_trip(latents: np.ndarray, profile: LatentProfile, step_code: int) -> np.ndarray:
    """Encode and decode an image's latents, float32 (C, h, w)."""
    height, width = (profile.downscale * side for side in latents.shape[1:])
    return decode_latents(encode_latents_to_file(latents, width, height, profile, step_code))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the decoder of `tiny` on latents as files hold them.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("pages", type=Path, help="folder of training pages and screens, as `make pages` makes them")
    parser.add_argument("--start", type=Path, default=Path("runs/tiny-refined"), help="folder of refine's checkpoint")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-polished"), help="folder of its checkpoint")
    arguments = parser.parse_args()
    train_decoder(arguments.photos, arguments.pages, arguments.start, arguments.run, CONFIG)


if __name__ == "__main__":
    main()
