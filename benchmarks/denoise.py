"""What a bundle's UNet does for its pictures: errors of latents, and likeness of pictures, with it and without.

    python benchmarks/denoise.py FOLDER --model BUNDLE

At several qualities, by one and by four steps of denoising; with four channels also for method palette, by four steps
as in 2022.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from metrics import likeness
from numpy.typing import NDArray
from PIL import Image
from report import write_results

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.denoising.denoise import run_ddim
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.format import container
from sdtrt.engine.format.model_profile import resolve_profile
from sdtrt.engine.networks.backends.ort import OrtCpu

QUALITIES = (5, 15, 30, 50, 75)
STEPS = (0, 1, 4)

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a bundle's UNet.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("-m", "--model", required=True, help="folder of a bundle with a UNet")
    arguments = parser.parse_args()
    codec = EngineCodec(arguments.model, device="cpu")
    wishes = {f"quality {quality}": EncodeOptions(quality=quality) for quality in QUALITIES}
    if codec.profile.channels == 4:
        wishes["palette"] = EncodeOptions(method="palette")
    denoise = Denoise(codec)
    figures: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    paths = sorted(arguments.folder.glob("*.png"))
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        latents = codec.analyse(pixels)
        for name, wish in wishes.items():
            data = encode_latents(latents, pixels.shape[1], pixels.shape[0], codec.profile, wish)
            for steps in STEPS:
                found = denoise(data, steps)
                back = codec.synthesise(found, container.read(data).header)
                psnr, ms_ssim, ssimulacra2 = likeness(pixels, back).values()
                figures[name, steps].append(
                    {
                        "bytes": len(data),
                        "error": float(np.square(found - latents, dtype=np.float64).mean()),
                        "psnr": psnr,
                        "ms_ssim": ms_ssim,
                        "ssimulacra2": ssimulacra2,
                    }
                )
        print(path.name, flush=True)
    rows = [row(name, steps, each) for (name, steps), each in figures.items()]
    for one in rows:
        print(one)
    print(write_results(f"denoise_{codec.bundle.latent_space}", {"pictures": len(paths), "rows": rows}))


class Denoise:
    """Files to latents, denoised."""

    def __init__(self, codec: EngineCodec) -> None:
        self._network = OrtCpu().load(codec.bundle.file("unet.onnx"))
        self._unet = codec.bundle.unet

    def __call__(self, data: bytes, steps: int) -> Floats:
        """Return a file's latents, float32 (C, h, w), after so many steps."""
        assert self._unet is not None
        file = container.read(data)
        latents, header = decode_latents(file), file.header
        trajectory = self._unet.trajectory(
            header.prior, header.quant_step, channel_steps(resolve_profile(file), header), steps
        )
        if trajectory is None:
            return latents
        _, height, width = latents.shape
        whole = latents.pad_to_multiple(self._unet.multiple).dequantize()
        return run_ddim(whole[None], trajectory, self._predict)[0, :, :height, :width]

    def _predict(self, latents: Floats, timestep: Floats) -> Floats:
        return self._network.run({"latents": latents, "timestep": timestep})["prediction"]


def row(name: str, steps: int, figures: list[dict[str, float]]) -> dict[str, Any]:
    means = {key: fmean(each[key] for each in figures) for key in figures[0]}
    digits = {"bytes": 0, "error": 5, "psnr": 3, "ms_ssim": 4, "ssimulacra2": 2}
    return {"files": name, "steps": steps} | {key: round(value, digits[key]) for key, value in means.items()}


if __name__ == "__main__":
    main()
