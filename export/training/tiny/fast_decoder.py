"""Train the fast decoder of `tiny`, which imitates the shipped decoder by a quarter of its arithmetic.

    python -m sdtrt.export.training.tiny.fast_decoder PHOTOS PAGES --run runs/tiny-fast

Encoder, profile and prior do not change, and so files do not. First the shipped codec encodes and decodes crops at
random quantization steps. Then the fast decoder is trained on their latents, as files hold them. The loss is the
squared error against the originals and against the images of the shipped decoder, and the grid penalty. The images of
the shipped decoder have less noise than the originals, which speeds up the training (G. Hinton, O. Vinyals and J. Dean,
"Distilling the Knowledge in a Neural Network", 2015). At the end `fast.onnx` is added to the built-in bundle. An
interrupted run resumes.
"""

import argparse
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from sdtrt._arrays import I16Array, U8Array
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.networks.bundle import MANIFEST, file_hash
from sdtrt.export.training.tiny.build import export, halve_parameters, parity_of
from sdtrt.export.training.tiny.common import StageConfig, use_bfloat16
from sdtrt.export.training.tiny.model import DOWNSCALE, LATENT_CHANNELS, FastDecoder
from sdtrt.export.training.tiny.photos import load_photos, mixed_crops, pixels_to_planes
from sdtrt.export.training.tiny.restore import restore_model
from sdtrt.export.training.tiny.stage2_decoder import GRID_WEIGHT, grid_penalty
from sdtrt.export.training.tiny.stage3_refine import squared_error
from sdtrt.export.training_loop import Batch, Draw, Figures, TrainingRun, add_device_option, averaged_weights
from sdtrt.process.threads import available_cpus

CONFIG = StageConfig(
    iterations=12_000, learning_rate=2e-3, warmup=100, batch=8, crop=160, steps=(0.25, 4.97), ema_decay=0.999
)
CROPS = 8192
IMITATION = 0.5  # share of the squared error against the shipped decoder's images
FILE = "fast.onnx"


@dataclass(frozen=True, slots=True)
class Samples:
    """Crops, as a bundle encodes and decodes them.

    Attributes:
        originals: uint8 (N, H, W, 3).
        decoded: The images of the bundle's decoder, uint8 (N, H, W, 3).
        latents: Dequantized latents, float16 (N, 40, h, w).
        codes: Codes of the quantization steps, int16 (N,); 0 for a crop that has not been made yet.
    """

    originals: U8Array
    decoded: U8Array
    latents: NDArray[np.float16]
    codes: I16Array

    @classmethod
    def open(cls, folder: Path, count: int, crop: int) -> "Samples":
        """Open the samples in a folder, in files that are mapped to memory; create them if there are none."""
        folder.mkdir(parents=True, exist_ok=True)
        side = crop // DOWNSCALE

        def mapped(name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
            path = folder / f"{name}.npy"
            return open_memmap(path, "r+" if path.exists() else "w+", dtype, (count, *shape))

        return cls(
            mapped("originals", np.uint8, (crop, crop, 3)),
            mapped("decoded", np.uint8, (crop, crop, 3)),
            mapped("latents", np.float16, (LATENT_CHANNELS, side, side)),
            mapped("codes", np.int16, ()),
        )


def make_samples(samples: Samples, bundle: Path, photos_folder: Path, pages_folder: Path, config: StageConfig) -> None:
    """Encode and decode the crops that are missing.

    Arguments:
        samples: The crops, which are written in place.
        bundle: Folder of the bundle that encodes and decodes them.
        photos_folder: Folder of training photos.
        pages_folder: Folder of training pages and screens.
        config: The hyperparameters.
    """
    missing = np.flatnonzero(samples.codes == 0)
    if not len(missing):
        return
    photos, pages = load_photos(photos_folder, config.crop), load_photos(pages_folder, config.crop)
    codec = EngineCodec(bundle, backend="ort", device="cpu", precision="fp32", threads=1)

    def make(number: int) -> None:
        rng = np.random.default_rng((config.seed, number))
        (pixels,) = mixed_crops(photos, pages, 1, config.crop, rng)
        code = round(2048 + 256 * rng.uniform(math.log2(config.steps[0]), math.log2(config.steps[1])))
        file = encode_latents_to_file(codec.analyse(pixels), config.crop, config.crop, codec.profile, code)
        latents = decode_latents(file)
        samples.originals[number], samples.latents[number] = pixels, latents
        samples.decoded[number] = codec.synthesise(latents, file.header)
        samples.codes[number] = code

    with ThreadPoolExecutor(available_cpus()) as pool:
        for done, _ in enumerate(pool.map(make, missing.tolist())):
            if done % 500 == 0:
                print(f"{done} of {len(missing)} crops encoded", flush=True)


def train(samples: Samples, bundle: Path, run: Path, config: StageConfig, device: str) -> None:
    """Train the fast decoder.

    Arguments:
        samples: The crops.
        bundle: Folder of the bundle, whose decoder's linear transform the training begins with.
        run: Folder of the checkpoint, from which training resumes.
        config: The hyperparameters.
        device: Name of a PyTorch device.
    """
    torch.manual_seed(config.seed)
    model = new_decoder(bundle).to(device)
    use_bfloat16([model], device)

    def loss_of(original: Tensor, target: Tensor, latents: Tensor, quant_step: Tensor) -> tuple[Tensor, Figures]:
        crops = pixels_to_planes(original)
        decoded = model(latents.float(), quant_step)
        error = squared_error(decoded, crops)
        imitation = squared_error(decoded, pixels_to_planes(target))
        grid = grid_penalty(decoded, crops, quant_step)
        mixed = (1 - IMITATION) * error + IMITATION * imitation
        # The penalty depends on the few flat areas of a batch, and at its full weight holds back the decoder.
        loss = (config.lambda_at_step_1 / quant_step * mixed).mean() + GRID_WEIGHT / 4 * grid
        return loss, {"loss": loss, "mse": error.mean(), "imitation": imitation.mean(), "grid": grid}

    TrainingRun(run, model, model, config).train(make_drawer(samples, config), loss_of)


def new_decoder(bundle: Path) -> FastDecoder:
    """Return an untrained fast decoder, with the linear transform of a bundle's decoder."""
    return FastDecoder(restore_model(bundle).decoder.linear.data)


def make_drawer(samples: Samples, config: StageConfig) -> Draw:
    """Return a function that draws originals, decoded images, latents, and quantization steps, float32 (N,)."""

    def draw(rng: np.random.Generator) -> Batch:
        chosen = np.sort(rng.choice(len(samples.codes), config.batch, replace=False))
        steps = np.exp2((samples.codes[chosen].astype(np.float32) - 2048) / 256)
        arrays = samples.originals[chosen], samples.decoded[chosen], samples.latents[chosen], steps
        return tuple(torch.from_numpy(np.array(array)) for array in arrays)

    return draw


def add_to_bundle(samples: Samples, bundle: Path, run: Path) -> None:
    """Write `fast.onnx` into a bundle, and change its manifest; `ValueError` if ONNX and torch differ.

    Arguments:
        samples: The crops, of which some are decoded to compare ONNX and torch.
        bundle: Folder of the bundle.
        run: Folder of the checkpoint.
    """
    model = new_decoder(bundle)
    model.load_state_dict(averaged_weights(run))
    halve_parameters(model)
    latents = torch.from_numpy(samples.latents[:4].astype(np.float32))
    inputs = {"latents": latents[:2, :, :, :12].contiguous(), "step": torch.tensor([0.5, 2.0])}
    export(model.eval(), inputs, "pixels", bundle / FILE)
    parity = parity_of(model, {"latents": latents[2:, :, :9], "step": inputs["step"]}, bundle / FILE)
    fields = json.loads((bundle / MANIFEST).read_text())
    fields["files"] = dict(sorted({**fields["files"], FILE: file_hash(bundle / FILE)}.items()))
    fields["parity"][FILE] = {"largest_difference": parity}
    (bundle / MANIFEST).write_text(json.dumps(fields, indent=2, allow_nan=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the fast decoder of `tiny`.")
    parser.add_argument("photos", type=Path, help="folder of training photos (PNG, WebP, JPEG)")
    parser.add_argument("pages", type=Path, help="folder of training pages and screens, as `make pages` makes them")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-fast"), help="folder of samples and checkpoint")
    parser.add_argument("--bundle", type=Path, default=Path("engine/data/bundles/tiny"), help="folder of the bundle")
    add_device_option(parser)
    options = parser.parse_args()
    samples = Samples.open(options.run, CROPS, CONFIG.crop)
    make_samples(samples, options.bundle, options.photos, options.pages, CONFIG)
    train(samples, options.bundle, options.run, CONFIG, options.device)
    add_to_bundle(samples, options.bundle, options.run)


if __name__ == "__main__":
    main()
