"""Second stage of training `tiny`: the decoder alone, without a grid.

    python -m sdtrt.export.training.tiny.stage2_decoder PHOTOS --start runs/tiny --run runs/tiny-finished

Encoder and steps stay as the first stage left them, and so do latents, profile and prior. To the squared error a
penalty is added: in flat places, the mean step between neighbouring pixels should be the same at every position of a
block. A run goes on from its last checkpoint.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sdtrt.export.training.tiny.common import StageConfig, make_crop_drawer
from sdtrt.export.training.tiny.model import DOWNSCALE, LATENT_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos
from sdtrt.export.training_loop import TrainingRun, add_device_option, averaged_weights

CONFIG = StageConfig(iterations=3_500, learning_rate=5e-4, warmup=200)
GRID_WEIGHT = 4.0
FLAT = 3 / 127.5  # a step of fewer than 3 levels, in brightness, counts as flat
FINE, COARSE = 0.67, 1.8  # steps that part those trained for, 0.25 to 4.7, evenly by octave


def train_decoder(folder: Path, start: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train the decoder to the end of `config`, from the checkpoint in `run`, or else the averaged model in `start`."""
    torch.manual_seed(config.seed)
    photos = load_photos(folder, config.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: the deblocking branch, silent at first, may be younger than the first stage's checkpoint.
    model.load_state_dict(averaged_weights(start), strict=False)
    model = model.to(device)

    def loss_of(crops: Tensor, step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        decoded = model.decoder(model.quantized(crops, step, dead_zone), step)
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        grid = grid_penalty(decoded, crops, step)
        loss = (config.lambda_at_step_1 / step * error).mean() + GRID_WEIGHT * grid
        return loss, {"mse": error.mean(), "grid": grid}

    TrainingRun(run, model, model.decoder, config).train(make_crop_drawer(photos, config), loss_of)


def grid_penalty(decoded: Tensor, original: Tensor, step: Tensor) -> Tensor:
    """Return how uneven the mean step in flat places is over the positions of a block: 0 is no grid.

    The variance over positions of the mean absolute step, relative to its squared mean. Rows and columns count
    together, and so do positions as far from a border on either side: of few means each is less by chance. Images
    whose quantizer `step`, float32 (N,), is fine, middling or coarse count apart, as far as there are any: what grid
    one leaves another cannot make up for.
    """
    totals = decoded.new_zeros(2, len(decoded), DOWNSCALE)
    for axis in (1, 2):
        steps = decoded.mean(1).diff(dim=axis).abs()
        flat = original.mean(1).diff(dim=axis).abs() < FLAT
        lines = torch.stack([flat * steps, flat]).sum(4 - axis)
        totals = totals + F.pad(lines, (0, 1)).reshape(2, len(decoded), -1, DOWNSCALE).sum(2)
    inside, border = totals.split([DOWNSCALE - 1, 1], dim=2)
    mirrored = torch.cat([inside + inside.flip(2), 2 * border], 2)[..., DOWNSCALE // 2 - 1 :]
    alike = torch.stack([step < FINE, (step >= FINE) & (step < COARSE), step >= COARSE]).to(mirrored.dtype)
    steps, flat = alike @ mirrored
    variance, mean = torch.var_mean(steps / flat.clamp_min(1e-6), 1, correction=0)
    return (variance / mean.square().clamp_min(1e-12)).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the decoder of `tiny` alone, after the first stage.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--start", type=Path, default=Path("runs/tiny"), help="folder of the first stage's checkpoint")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/tiny-finished"), help="folder of this stage's checkpoint"
    )
    add_device_option(parser)
    arguments = parser.parse_args()
    train_decoder(arguments.photos, arguments.start, arguments.run, CONFIG, arguments.device)


if __name__ == "__main__":
    main()
