"""Bytes at equal error: sdtrt's entropy coder beside other ways to store latents, and a bundle's own prior.

    python benchmarks/rate.py KODAK --model BUNDLE
    python benchmarks/rate.py KODAK --priors BUNDLE [BUNDLE ...] [--against NAME=BUNDLE]

`--model`: the latents of 512x512 crops by a bundle of the latent space sd1. The palette method of 2022 sets the mean
squared error, of latents at unit scale. Each other method uses the quantization step at which its mean error is the
same. The sizes of sdtrt and of the palette method are those of whole files.
`--priors`: each bundle has its own prior (`sdtrt calibrate --prior`). The images are encoded at five qualities with
that prior and with the adaptive one, without layers. `--against sd1-light=sd1` compares the bundle of that name with a
bundle of the same networks in a shipped latent space. Bytes are compared over the common range of PSNR (Bjøntegaard,
VCEG-M33, 2001).
"""

import argparse
import json
import statistics
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Pixels, image_paths, milliseconds, open_rgb, write_results
from numpy.typing import NDArray
from PIL import Image

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT
from sdtrt.engine.coding.latent_file import (
    TileCodingOptions,
    decode_latents,
    encode_latents_to_file,
    encode_palette_file,
)
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.rdoq_search import rd_costs
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.format import container
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.latent_space import PRIOR_NAMES
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.kernels import reference

Latents = NDArray[np.float32]
# From latents and a quantization step (sdtrt: its code) to bytes and decoded latents.
Method = Callable[[Latents, float], tuple[float, Latents]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure bytes at equal error.")
    parser.add_argument("folder", type=Path, help="folder of images, such as the Kodak set")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("-m", "--model", help="folder of a bundle of the latent space sd1")
    mode.add_argument("--priors", type=Path, nargs="+", metavar="BUNDLE", help="bundles that have their own priors")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=BUNDLE", help="with --priors")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth image")
    arguments = parser.parse_args()
    images = [open_rgb(path) for path in image_paths(arguments.folder, arguments.every)]
    if arguments.priors:
        against = dict(pair.split("=", 1) for pair in arguments.against)
        name, figures = "priors", compare_priors(images, arguments.priors, against)
    else:
        name, figures = "rate", compare_methods([centre_crop(image) for image in images], arguments.model)
    print(json.dumps(figures, indent=1))
    print(write_results(name, figures))


# Ways to store latents

SIDE = 512  # pixels
EFFORTS = (1, DEFAULT_EFFORT, 9)
QUALITIES = (1, 10, 25, 50, 75, 90, 100)
ROUNDED_STEPS = (0.4, 1.0)  # limits of the search, for latents that are only rounded
SDTRT_STEP_CODES = (1792, 2048)
VAEPACK_BITS, VAEPACK_CLIP = 10, 4.0  # vaepack's defaults


def centre_crop(image: Image.Image) -> Pixels:
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def compare_methods(crops: list[Pixels], model: str) -> dict[str, Any]:
    codec = EngineCodec(model)
    latents, profile = [codec.analyse(crop) for crop in crops], codec.profile
    rows = method_rows(latents, profile)
    return {
        "pictures": len(crops),
        "latent_shape": list(latents[0].shape),
        "rows": rows,
        "over_cross_entropy": round(payload_over_cross_entropy(latents, profile, rows), 4),
        "qualities": [quality_row(latents, profile, quality) for quality in QUALITIES],
    }


def method_rows(latents: list[Latents], profile: LatentProfile) -> list[dict[str, Any]]:
    nbytes, target = means(latents, palette_method(profile), 0)
    rows = [{"method": "palette, the method of 2022, whole file", "bytes": round(nbytes), "mse": round(target, 5)}]
    methods: dict[str, tuple[Method, tuple[float, float]]] = {
        "zlib -9 of rounded latents": (zlib_method, ROUNDED_STEPS),
        "JPEG XL lossless of rounded latents": (jpeg_xl_method, ROUNDED_STEPS),
        "entropy of rounded latents, order 0 by channel": (order_0_method, ROUNDED_STEPS),
    }
    for effort in EFFORTS:
        methods[f"sdtrt, effort {effort}, whole file"] = (sdtrt_method(profile, effort), SDTRT_STEP_CODES)
    for name, (method, limits) in methods.items():
        step, nbytes, mse = coarsest_step(latents, method, target, limits)
        rows.append({"method": name, "step": round(step, 4), "bytes": round(nbytes), "mse": round(mse, 5)})
        if "sdtrt" in name:
            times = [milliseconds(lambda m=method, p=planes, s=step: m(p, s)) for planes in latents]
            rows[-1]["ms"] = round(statistics.median(times), 1)
    nbytes, mse = means(latents, vaepack_method, 0)
    name = "vaepack's way: 10 bits, JPEG XL lossless"
    return [*rows, {"method": name, "bytes": round(nbytes), "mse": float(f"{mse:.2g}")}]


def quality_row(latents: list[Latents], profile: LatentProfile, quality: int) -> dict[str, float]:
    """Return the mean bytes and error of a quality at the default effort."""
    nbytes, mse = means(latents, sdtrt_method(profile, DEFAULT_EFFORT), profile.step_code(quality))
    power = float(np.mean([np.square(planes).mean() for planes in latents]))
    relative = round((mse / power) ** 0.5, 4)
    return {"quality": quality, "bytes": round(nbytes), "mse": float(f"{mse:.3g}"), "relative": relative}


def coarsest_step(
    latents: list[Latents], method: Method, target: float, limits: tuple[float, float]
) -> tuple[float, float, float]:
    """Return the largest step whose mean squared error is at most `target`, with its mean bytes and error."""
    fine, coarse = limits
    best = (fine, *means(latents, method, fine))
    for _ in range(8):
        step = (fine + coarse) / 2
        nbytes, mse = means(latents, method, step)
        if mse <= target:
            fine, best = step, (step, nbytes, mse)
        else:
            coarse = step
    return best


def means(latents: list[Latents], method: Method, step: float) -> tuple[float, float]:
    """Return the mean bytes and the mean squared error of a method."""
    sizes, errors = [], []
    for planes in latents:
        nbytes, decoded = method(planes, step)
        sizes.append(nbytes)
        errors.append(float(np.square(planes - decoded).mean()))
    return float(np.mean(sizes)), float(np.mean(errors))


def palette_method(profile: LatentProfile) -> Method:
    def method(latents: Latents, _: float) -> tuple[float, Latents]:
        data = container.write(encode_palette_file(latents, *image_size(latents), profile))
        return len(data), decode_latents(container.read(data))

    return method


def sdtrt_method(profile: LatentProfile, effort: int) -> Method:
    def method(latents: Latents, step_code: float) -> tuple[float, Latents]:
        file = encode_latents_to_file(
            latents, *image_size(latents), profile, round(step_code), TileCodingOptions(effort=effort)
        )
        data = container.write(file)
        return len(data), decode_latents(container.read(data))

    return method


def zlib_method(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    return len(zlib.compress(np.clip(symbols, -128, 127).astype(np.int8).tobytes(), 9)), symbols * np.float32(step)


def jpeg_xl_method(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    return lossless_jpeg_xl_size((symbols - symbols.min()).astype(np.uint8)), symbols * np.float32(step)


def order_0_method(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    counts = [np.unique(plane, return_counts=True)[1] for plane in symbols]
    bits = -sum((n * np.log2(n / n.sum())).sum() for n in counts)
    return bits / 8, symbols * np.float32(step)


def vaepack_method(latents: Latents, _: float) -> tuple[float, Latents]:
    largest = (1 << VAEPACK_BITS) - 1
    scaled = np.rint((np.clip(latents, -VAEPACK_CLIP, VAEPACK_CLIP) / VAEPACK_CLIP + 1) / 2 * largest)
    decoded = ((scaled / largest * 2 - 1) * VAEPACK_CLIP).astype(np.float32)
    return lossless_jpeg_xl_size(scaled.astype(np.uint16)), decoded


def lossless_jpeg_xl_size(planes: NDArray[Any]) -> int:
    import imagecodecs

    return len(imagecodecs.jpegxl_encode(planes.transpose(1, 2, 0), lossless=True, effort=7))


def payload_over_cross_entropy(latents: list[Latents], profile: LatentProfile, rows: list[dict[str, Any]]) -> float:
    """Return the payload bytes over the cross-entropy of the symbols under the prior's tables, at the default effort.

    The quantization step is that of the row of the default effort.
    """
    step_code = next(round(row["step"]) for row in rows if f"effort {DEFAULT_EFFORT}" in row["method"])
    prior = shipped_prior(PRIOR_NAMES[profile.prior])
    payload_nbytes = cross_entropy_nbytes = 0.0
    for planes in latents:
        header = Header(*image_size(planes), profile.id, profile.prior, step_code)
        scaled = reference.scale_to_steps(planes, profile.mean, channel_steps(profile, header))
        payload = stream_codec.quantize_and_encode(scaled, prior, step_code, DEFAULT_EFFORT).data
        symbols = stream_codec.decode_stream(payload, planes.shape, prior, step_code).symbols
        payload_nbytes += len(payload)
        cross_entropy_nbytes += rd_costs(symbols, scaled, prior, step_code).bits.sum(dtype=np.float64) / 8
    return payload_nbytes / cross_entropy_nbytes


def image_size(latents: Latents) -> tuple[int, int]:
    """Return the width and height, in pixels, of the image that latents stand for."""
    return 8 * latents.shape[2], 8 * latents.shape[1]


# Priors

PRIOR_QUALITIES = (15, 30, 45, 60, 75)

Curve = list[tuple[float, float]]  # bits per pixel and PSNR of each quality, means over the images


def compare_priors(images: list[Image.Image], bundles: list[Path], against: dict[str, str]) -> dict[str, Any]:
    pixels, rows = [np.asarray(image) for image in images], []
    for bundle in bundles:
        codec = EngineCodec(bundle, device="cpu")
        own = rate_curve(codec, codec.profile, pixels)
        adaptive = rate_curve(codec, replace(codec.profile, id=0, prior=0, prior_file=None), pixels)
        row = {"bundle": bundle.name, "own": own, "adaptive": adaptive, "over_adaptive": relative_bytes(own, adaptive)}
        if bundle.name in against:
            other = EngineCodec(against[bundle.name], device="cpu")
            row["shipped"] = rate_curve(other, other.profile, pixels)
            row["over_shipped"] = relative_bytes(own, row["shipped"])
        rows.append(row)
    return {"pictures": len(images), "qualities": PRIOR_QUALITIES, "rows": rows}


def rate_curve(codec: EngineCodec, profile: LatentProfile, images: list[Pixels]) -> Curve:
    curve = []
    for quality in PRIOR_QUALITIES:
        rates, errors = [], []
        for pixels in images:
            height, width = pixels.shape[:2]
            file = encode_latents_to_file(codec.analyse(pixels), width, height, profile, profile.step_code(quality))
            decoded = codec.synthesise(decode_latents(file, model_profile=profile), file.header)
            rates.append(8 * len(container.write(file)) / (width * height))
            errors.append(np.square(decoded.astype(np.float64) - pixels).mean())
        curve.append((float(np.mean(rates)), float(10 * np.log10(255**2 / np.mean(errors)))))
    return curve


def relative_bytes(curve: Curve, other: Curve) -> float:
    """Return the mean relative difference of a curve's bytes from another's, at equal PSNR."""
    lowest = max(min(psnr for _, psnr in points) for points in (curve, other))
    highest = min(max(psnr for _, psnr in points) for points in (curve, other))
    psnrs = np.linspace(lowest, highest, 100)
    logs = [np.interp(psnrs, [p for _, p in points], [np.log(b) for b, _ in points]) for points in (curve, other)]
    return float(np.exp(np.mean(logs[0] - logs[1])) - 1)


if __name__ == "__main__":
    main()
