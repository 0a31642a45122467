"""Train a checkpoint that stands in for a third party's model: diffusers' `AutoencoderTiny` with 16 channels.

    python -m sdtrt.export.training.stand_in PHOTOS FOLDER [--iterations 1400]

Published models have better weights and other statistics. This one serves to measure `sdtrt calibrate` on a model that
is independent of our training. It has the shape of TAESD3 and TAEF1 with half the width and fewer layers, so that two
CPU cores train it in an hour. The loss is the squared error alone, which leaves the statistics of the latents free. An
interrupted run continues from its last checkpoint.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import AutoencoderTiny
from torch import Tensor

from sdtrt.export.training.tiny.photos import load_photos, pixels_to_planes, random_crops
from sdtrt.export.training_loop import Batch, Figures, TrainingConfig, TrainingRun, averaged_weights

SHAPE: dict[str, Any] = {
    "latent_channels": 16,
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "num_encoder_blocks": (1, 1, 1, 3),
    "num_decoder_blocks": (3, 1, 1, 1),
}
RECIPE = TrainingConfig(iterations=1400, learning_rate=1e-3, warmup=100, batch=4, crop=128, ema_decay=0.995)
PSNR_OFFSET = 6.02  # dB, since pixels are in [-1, 1], a range of 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path, help="the run, and in FOLDER/vae the checkpoint")
    parser.add_argument("--iterations", type=int, default=RECIPE.iterations)
    options = parser.parse_args()
    train(options.photos, options.folder, replace(RECIPE, iterations=options.iterations))


def train(photos: Path, folder: Path, recipe: TrainingConfig) -> None:
    """Train on random crops of the photos, and write the checkpoint in diffusers' format."""
    loaded, model = load_photos(photos, recipe.crop), AutoencoderTiny(**SHAPE)

    def draw(rng: np.random.Generator) -> Batch:
        return (pixels_to_planes(random_crops(loaded, recipe.batch, recipe.crop, rng)),)

    def loss_of(pixels: Tensor) -> tuple[Tensor, Figures]:
        error = (model.decoder(model.encoder(pixels)) - pixels).square().mean()
        return error, {"psnr": -10 * error.log10() + PSNR_OFFSET}

    TrainingRun(folder, model, model, recipe).train(draw, loss_of)
    model.load_state_dict(averaged_weights(folder))
    model.save_pretrained(folder / "vae")


if __name__ == "__main__":
    main()
