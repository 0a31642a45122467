"""Stage 2 of training `tiny`: the decoder alone, with a penalty for block artefacts.

    python -m sdtrt.export.training.tiny.stage2_decoder PHOTOS --start runs/tiny --run runs/tiny-finished

Encoder and quantization steps do not change, and so latents, profile and prior do not. A penalty is added to the
squared error: in flat areas, the mean difference of neighbouring pixels should be equal at all positions of a block. A
run resumes from its last checkpoint.
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
FLAT = 3 / 127.5  # luma differences of fewer than 3 levels are flat
FINE, COARSE = 0.67, 1.8  # these divide the trained quantization steps, 0.25 to 4.7, evenly on a log scale


def train_decoder(folder: Path, start: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train the decoder.

    Arguments:
        folder: Folder of training photos.
        start: Folder of stage 1's checkpoint.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
        device: Name of a PyTorch device.
    """
    torch.manual_seed(config.seed)
    photos = load_photos(folder, config.crop)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    # Not strict: the deblocking branch, which starts at zero, may be newer than stage 1's checkpoint.
    model.load_state_dict(averaged_weights(start), strict=False)
    model = model.to(device)

    def loss_of(crops: Tensor, quant_step: Tensor, dead_zone: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        decoded = model.decoder(model.quantized(crops, quant_step, dead_zone), quant_step)
        error = (decoded - crops).mul(127.5).square().mean((1, 2, 3))
        grid = grid_penalty(decoded, crops, quant_step)
        loss = (config.lambda_at_step_1 / quant_step * error).mean() + GRID_WEIGHT * grid
        return loss, {"mse": error.mean(), "grid": grid}

    TrainingRun(run, model, model.decoder, config).train(make_crop_drawer(photos, config), loss_of)


def grid_penalty(decoded: Tensor, original: Tensor, quant_step: Tensor) -> Tensor:
    """Return how strongly a block grid is visible in flat areas; 0 is no grid.

    It is the variance, over the positions of a block, of the mean absolute difference of neighbouring pixels, relative
    to the squared mean. Rows and columns are pooled, and so are positions at equal distance from a border, because
    averages over few samples are noisy. Images of fine, medium and coarse quantization steps are evaluated separately,
    so that a grid at one rate cannot compensate another.

    Arguments:
        decoded: Decoded images, float32 (N, 3, H, W) in [-1, 1].
        original: The original images, in the same form.
        quant_step: Quantization steps, float32 (N,).
    """
    totals = decoded.new_zeros(2, len(decoded), DOWNSCALE)
    for axis in (1, 2):
        differences = decoded.mean(1).diff(dim=axis).abs()
        flat = original.mean(1).diff(dim=axis).abs() < FLAT
        lines = torch.stack([flat * differences, flat]).sum(4 - axis)
        totals = totals + F.pad(lines, (0, 1)).reshape(2, len(decoded), -1, DOWNSCALE).sum(2)
    inside, border = totals.split([DOWNSCALE - 1, 1], dim=2)
    mirrored = torch.cat([inside + inside.flip(2), 2 * border], 2)[..., DOWNSCALE // 2 - 1 :]
    groups = torch.stack([quant_step < FINE, (quant_step >= FINE) & (quant_step < COARSE), quant_step >= COARSE]).to(
        mirrored.dtype
    )
    differences, flat = groups @ mirrored
    variance, mean = torch.var_mean(differences / flat.clamp_min(1e-6), 1, correction=0)
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
