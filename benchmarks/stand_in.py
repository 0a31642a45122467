"""A checkpoint that stands in for a stranger's: diffusers' `AutoencoderTiny` with 16 channels, trained on photos.

    python benchmarks/stand_in.py PHOTOS FOLDER [--iterations 1400]

What is published has better weights, and other statistics; that a model knows nothing of our training is what counts.
It is shaped like TAESD3 and TAEF1, but half as wide and less deep, so that two CPU cores train it in an hour. It is
trained for squared error alone, so that its latents carry what they like. A run that was cut off goes on.
"""

import argparse
from pathlib import Path

import numpy as np
from diffusers import AutoencoderTiny
from torch import Tensor

from sdtrt.export.training.tiny.photos import load_photos, pixels_to_planes, random_crops
from sdtrt.export.training_loop import Batch, Figures, TrainingConfig, TrainingRun, averaged_weights

SHAPE = {
    "latent_channels": 16,
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "num_encoder_blocks": (1, 1, 1, 3),
    "num_decoder_blocks": (3, 1, 1, 1),
}
CONFIG = TrainingConfig(iterations=1400, learning_rate=1e-3, warmup=100, batch=4, crop=128, ema_decay=0.995)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=CONFIG.iterations)
    options = parser.parse_args()
    train(options.photos, options.folder, TrainingConfig(**vars(CONFIG) | {"iterations": options.iterations}))


def train(photos: Path, folder: Path, config: TrainingConfig) -> None:
    """Train, and write the checkpoint in diffusers' format."""
    loaded, model = load_photos(photos, config.crop), AutoencoderTiny(**SHAPE)

    def draw(rng: np.random.Generator) -> Batch:
        return (pixels_to_planes(random_crops(loaded, config.batch, config.crop, rng)),)

    def loss_of(pixels: Tensor) -> tuple[Tensor, Figures]:
        shown = model.decoder(model.encoder(pixels))
        error = (shown - pixels).square().mean()
        return error, {"psnr": -10 * error.log10() + 6.02}

    TrainingRun(folder, model, model, config).train(draw, loss_of)
    model.load_state_dict(averaged_weights(folder))
    model.save_pretrained(folder / "vae")


if __name__ == "__main__":
    main()
