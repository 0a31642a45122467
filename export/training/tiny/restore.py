"""Write a checkpoint from a shipped bundle, so that training can continue without its earlier stages.

    python -m sdtrt.export.training.tiny.restore PHOTOS --run runs/tiny-restored

The rate model is not shipped. It is trained again, alone, on the latents of the bundle's encoder.
"""

import argparse
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from sdtrt.engine.format.profile import shipped_profile
from sdtrt.export.training.tiny.build import HALF, PROFILE_ID
from sdtrt.export.training.tiny.common import StageConfig, make_crop_drawer
from sdtrt.export.training.tiny.model import LATENT_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos
from sdtrt.export.training_loop import TrainingRun

CONFIG = StageConfig(
    iterations=1_500, learning_rate=2e-3, warmup=100, batch=8, crop=128, steps=(0.3, 4.5), ema_decay=0.99
)


def restore(bundle: Path, folder: Path, run: Path, config: StageConfig) -> None:
    """Restore the model from a bundle, and train its rate model.

    Arguments:
        bundle: The bundle's folder.
        folder: Folder of training photos.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
    """
    torch.manual_seed(config.seed)
    photos = load_photos(folder, config.crop)
    model = restore_model(bundle)

    def loss_of(crops: Tensor, quant_step: Tensor, _: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            channel_steps = model.channel_steps(quant_step)
            exact = model.encoder(crops) / channel_steps
            noisy = exact + torch.rand_like(exact) - 0.5
        bpp = model.rate(noisy, noisy * channel_steps, channel_steps, quant_step).sum((1, 2, 3)) / config.crop**2
        loss = (quant_step * bpp).mean()
        return loss, {"loss": loss, "bpp": bpp.mean()}

    TrainingRun(run, model, model.rate, config).train(make_crop_drawer(photos, config), loss_of)


def restore_model(bundle: Path) -> Autoencoder:
    """Return the model in a bundle; blocks that the bundle lacks stay at zero. `ValueError` for another model."""
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        own, weights = network.state_dict(), weights_of(bundle / f"{name}.onnx")
        known = {key: value for key, value in weights.items() if key in own}
        if mismatches := [key for key, value in known.items() if value.shape != own[key].shape] or not known:
            raise ValueError(f"{bundle / name}.onnx has weights of another model: {mismatches}")
        network.load_state_dict(own | known)
    profile = shipped_profile(PROFILE_ID)
    model.log_weight.data = torch.log(torch.from_numpy(profile.step_weight * profile.std)).float()
    return model


def weights_of(path: Path) -> dict[str, Tensor]:
    """Return a graph's weights by their names in the torch model."""
    initializers = onnx.load(path).graph.initializer
    return {t.name.removesuffix(HALF): torch.tensor(numpy_helper.to_array(t)).float() for t in initializers}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a checkpoint of the weights in a bundle of `tiny`.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("--bundle", type=Path, default=Path("engine/data/bundles/tiny"))
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-restored"), help="folder of the checkpoint")
    arguments = parser.parse_args()
    restore(arguments.bundle, arguments.photos, arguments.run, CONFIG)


if __name__ == "__main__":
    main()
