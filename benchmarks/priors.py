"""What a prior of a model's own is worth: bytes at equal error, against the adaptive prior and against a shipped one.

    python benchmarks/priors.py PICTURES BUNDLE [BUNDLE …] [--against sd1=FOLDER]

Each bundle must have a prior of its own (`sdtrt calibrate --prior`). Pictures are encoded at five qualities with it and
without it, latents alone; `--against` names a bundle of the same networks in a shipped latent space, whose files are
by the shipped prior. Bytes are compared over the range of PSNR that both have (Bjøntegaard, VCEG-M33, 2001).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from report import write_results

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import LatentProfile

QUALITIES = (15, 30, 45, 60, 75)
Curve = list[tuple[float, float]]  # of qualities: bits per pixel and PSNR, means over pictures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a model's own prior is worth.")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(arguments.pictures.glob("*.png"))]
    shipped = dict(pair.split("=", 1) for pair in arguments.against)
    rows = []
    for bundle in arguments.bundles:
        codec = EngineCodec(bundle, device="cpu")
        own = curve(codec, codec.profile, pictures)
        adaptive = curve(codec, replace(codec.profile, id=0, prior=0, prior_file=None), pictures)
        row = {"bundle": bundle.name, "own": own, "adaptive": adaptive, "over_adaptive": saving(own, adaptive)}
        if bundle.name in shipped:
            reference = EngineCodec(shipped[bundle.name], device="cpu")
            row["shipped"] = curve(reference, reference.profile, pictures)
            row["over_shipped"] = saving(own, row["shipped"])
        rows.append(row)
    print(json.dumps(rows, indent=1))
    print(write_results("priors", {"pictures": len(pictures), "qualities": QUALITIES, "rows": rows}))


def curve(codec: EngineCodec, profile: LatentProfile, pictures: list[np.ndarray]) -> Curve:
    points = []
    for quality in QUALITIES:
        bits, errors = [], []
        for pixels in pictures:
            height, width = pixels.shape[:2]
            file = encode_latents_to_file(codec.analyse(pixels), width, height, profile, profile.step_code(quality))
            shown = codec.synthesise(decode_latents(file, model_profile=profile), file.header)
            bits.append(8 * len(container.write(file)) / (width * height))
            errors.append(np.square(shown.astype(np.float64) - pixels).mean())
        points.append((float(np.mean(bits)), float(10 * np.log10(255**2 / np.mean(errors)))))
    return points


def saving(one: Curve, other: Curve) -> float:
    """Return by what share one curve's bytes differ from the other's at equal PSNR, on average of their logarithms."""
    low = max(min(psnr for _, psnr in curve) for curve in (one, other))
    high = min(max(psnr for _, psnr in curve) for curve in (one, other))
    at = np.linspace(low, high, 100)
    logs = [np.interp(at, [p for _, p in curve], [np.log(b) for b, _ in curve]) for curve in (one, other)]
    return float(np.exp(np.mean(logs[0] - logs[1])) - 1)


if __name__ == "__main__":
    main()
