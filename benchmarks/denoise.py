"""The effect of a bundle's UNet: error of the latents and quality of the images, with denoising and without.

    python benchmarks/denoise.py KODAK --model BUNDLE

Files of several qualities are decoded with one and with four steps of denoising. Bundles with four channels also code
by the method palette, which is denoised as in 2022.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from harness import image_paths, open_rgb, write_results
from metrics import all_metrics
from numpy.typing import NDArray

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.latent_reader import LatentReader, channel_steps
from sdtrt.engine.denoising.denoise import run_ddim
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import resolve_profile
from sdtrt.engine.networks.backends.ort import OrtCpu

QUALITIES = (5, 15, 30, 50, 75)
STEPS = (0, 1, 4)  # of denoising
DIGITS = {"bytes": 0, "error": 5, "psnr": 3, "ms_ssim": 4, "ssimulacra2": 2}

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a bundle's UNet.")
    parser.add_argument("folder", type=Path, help="folder of images, such as the Kodak set")
    parser.add_argument("-m", "--model", required=True, help="folder of a bundle with a UNet")
    arguments = parser.parse_args()
    codec, paths = EngineCodec(arguments.model, device="cpu"), image_paths(arguments.folder)
    decoder = DenoisingDecoder(codec)
    figures: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for path in paths:
        for key, values in measure_image(codec, decoder, np.asarray(open_rgb(path))).items():
            figures[key].append(values)
        print(path.name, flush=True)
    rows = [mean_row(files, steps, values) for (files, steps), values in figures.items()]
    for row in rows:
        print(row)
    print(write_results(f"denoise_{codec.bundle.latent_space}", {"pictures": len(paths), "rows": rows}))


def measure_image(
    codec: EngineCodec, decoder: "DenoisingDecoder", pixels: NDArray[np.uint8]
) -> dict[tuple[str, int], dict[str, float]]:
    """Return bytes, error of the latents and metrics, by the kind of file and the number of denoising steps."""
    options = {f"quality {quality}": EncodeOptions(quality=quality) for quality in QUALITIES}
    if codec.profile.channels == 4:
        options["palette"] = EncodeOptions(method="palette")
    latents, rows = codec.analyse(pixels), {}
    for name, encode_options in options.items():
        data = encode_latents(latents, pixels.shape[1], pixels.shape[0], codec.profile, encode_options)
        for steps in STEPS:
            denoised = decoder.decode_latents(data, steps)
            error = float(np.square(denoised - latents, dtype=np.float64).mean())
            decoded = codec.synthesise(denoised, container.read(data).header)
            rows[name, steps] = {"bytes": len(data), "error": error, **all_metrics(pixels, decoded)}
    return rows


class DenoisingDecoder:
    """Decodes files to latents and denoises these with the UNet of a bundle."""

    def __init__(self, codec: EngineCodec) -> None:
        self._network = OrtCpu().load(codec.bundle.file("unet.onnx"))
        self._unet = codec.bundle.unet

    def decode_latents(self, data: bytes, steps: int) -> Floats:
        """Return the latents of a file after a number of denoising steps, float32 (C, h, w)."""
        assert self._unet is not None
        file = container.read(data)
        latents, header = decode_latents(file), file.header
        delta = channel_steps(resolve_profile(file), header)
        trajectory = self._unet.trajectory(header.prior, header.quant_step, delta, steps)
        if trajectory is None:
            return latents
        _, height, width = latents.shape
        padded = LatentReader(file).read().pad_to_multiple(self._unet.multiple).dequantize()
        return run_ddim(padded[None], trajectory, self._predict)[0, :, :height, :width]

    def _predict(self, latents: Floats, timestep: Floats) -> Floats:
        return self._network.run({"latents": latents, "timestep": timestep})["prediction"]


def mean_row(files: str, steps: int, figures: list[dict[str, float]]) -> dict[str, Any]:
    means = {name: round(fmean(values[name] for values in figures), digits) for name, digits in DIGITS.items()}
    return {"files": files, "steps": steps, **means}


if __name__ == "__main__":
    main()
