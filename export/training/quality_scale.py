"""Measure the constants of the quality scale, and weights of the residual's quantization steps, on training photos.

    python -m sdtrt.export.training.quality_scale PHOTOS --out FILE.json

PHOTOS is a folder of training photos, never the images on which the codec is measured. They are scaled down, which
removes traces of their own compression. Each photo is coded with latents of several qualities, and with residuals of
several quantization steps over them. PSNR, in dB, and SSIMULACRA2 are compared with a reference at equal bits per
pixel, interpolated in their logarithm. A comparison is the mean over the photos whose files reach the rate in both. The
package `ssimulacra2` is needed (extra `bench`).
"""

import argparse
import datetime
import io
import itertools
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from PIL import Image

from sdtrt._arrays import F32Array, I32Array, U8Array
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import KNEE, STEP_UNIT
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import QUANT_MATRIX, WEIGHT_UNIT, ZIGZAG, block_grid, forward_dct
from sdtrt.kernels import reference
from sdtrt.process.text import json_text

PHOTOS = 14
SMALLEST_SIDE, SCALE = 384, 0.75  # pixels; factor by which photos are scaled
LATENT_QUALITIES = (40, 50, 60, 65, 70, 80, 90, 100)
RESIDUAL_STEPS = (90, 64, 45, 32, 22, 16, 11, 8, 5.5)  # 8-bit values
RATES = (0.3, 0.5, 0.8, 1.2, 1.8)  # bits per pixel
SHIPPED = "shipped"
FREQUENCY_SLOPES = (0, 1 / 16, 1 / 8)  # relative increase of the step for each of u + v
RED_BLUE_FACTORS = (1, 1.5, 2)  # of the steps of channel 1


class Point(NamedTuple):
    """A file: quality of its latents, weights and step of its residual (0: no residual), rate and errors."""

    latent_quality: int
    weights: str
    residual_step: float
    bpp: float
    squared_error: float  # mean, in squared 8-bit values
    psnr: float
    ssimulacra2: float


Points = list[Point]  # of one photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of training photos")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the figures")
    options = parser.parse_args()
    command = f"python -m sdtrt.export.training.quality_scale {options.photos.name}"
    figures = {"date": datetime.date.today().isoformat(), "command": command, **measure(options.photos)}
    options.out.write_text(json_text(figures, indent=1) + "\n")


def measure(folder: Path) -> dict[str, Any]:
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    paths = [path for path in paths if min(Image.open(path).size) >= SMALLEST_SIDE]
    with ProcessPoolExecutor() as pool:
        photos = list(pool.map(points_of_photo, paths[5 :: max(len(paths) // PHOTOS, 1)][:PHOTOS]))
    knee = int(KNEE)
    return {
        "photos": len(photos),
        "prices_of_latents": lambdas(
            photos, lambda point: point.residual_step == 0, lambda point: point.latent_quality
        ),
        "prices_of_residuals": lambdas(
            photos,
            lambda point: (point.latent_quality, point.weights) == (knee, SHIPPED) and point.residual_step > 0,
            lambda point: -point.residual_step,
        ),
        "latents": {str(quality): gains(photos, (quality, SHIPPED), (knee, SHIPPED)) for quality in LATENT_QUALITIES},
        "latents_alone": gains(photos, None, (knee, SHIPPED)),
        "weights": {name: gains(photos, (knee, name), (knee, SHIPPED)) for name in weights_by_name()},
    }


def points_of_photo(path: Path) -> Points:
    """Code a photo in all combinations of latents and residual."""
    torch.set_num_threads(1)
    codec, image = EngineCodec("tiny", threads=1), Image.open(path).convert("RGB")
    size = round(image.width * SCALE), round(image.height * SCALE)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    points = []
    for quality in LATENT_QUALITIES:
        data = codec.encode(ImageData(pixels), EncodeOptions(quality=quality, layers=1))
        decoded = codec.decode(data).pixels
        points.append(point_of(pixels, decoded, len(data), (quality, SHIPPED, 0)))
        target = forward_dct(pixels.astype(np.int16) - decoded)
        for name, step in itertools.product(weights_by_name() if quality == KNEE else [SHIPPED], RESIDUAL_STEPS):
            with mock.patch.object(residual_codec, "QUANT_MATRIX", weights_by_name()[name]):
                coded = add_residual(decoded, target, round(STEP_UNIT * step))
            if coded:
                corrected, nbytes = coded
                points.append(point_of(pixels, corrected, len(data) + nbytes, (quality, name, step)))
    return points


def add_residual(decoded: U8Array, target: F32Array, residual_step: int) -> tuple[U8Array, int] | None:
    """Return the image with the coded residual, and its bytes; None if all coefficients are quantized to 0."""
    payload = residual_codec.encode_residual(target, residual_step)
    if not payload:
        return None
    values = residual_codec.decode_residual(payload, *block_grid(*decoded.shape[:2]), residual_step)
    corrected = decoded.copy()
    reference.add_residual(corrected, values)
    return corrected, len(payload)


def point_of(pixels: U8Array, decoded: U8Array, nbytes: int, settings: tuple[int, str, float]) -> Point:
    squared_error = float(np.square(pixels.astype(np.float64) - decoded).mean())
    bpp = 24 * nbytes / pixels.size
    return Point(*settings, bpp, squared_error, psnr(pixels, decoded), ssimulacra2(pixels, decoded))


def ssimulacra2(original: U8Array, other: U8Array) -> float:
    from ssimulacra2 import compute_ssimulacra2  # type: ignore[import]

    streams = []
    for pixels in (original, other):
        streams.append(io.BytesIO())
        Image.fromarray(pixels).save(streams[-1], "PNG", compress_level=0)
        streams[-1].seek(0)
    return float(compute_ssimulacra2(*streams))


def weights_by_name() -> dict[str, I32Array]:
    """Return the weights of quantization steps to compare, int32 (3, 64) each."""
    frequency = ZIGZAG // 8 + ZIGZAG % 8
    candidates = {
        f"frequency {slope:.4g}, red-blue {factor}": np.outer((1, factor, 1), 1 + slope * frequency)
        for slope, factor in itertools.product(FREQUENCY_SLOPES, RED_BLUE_FACTORS)
    }
    rounded = {name: np.rint(WEIGHT_UNIT * weights).astype(np.int32) for name, weights in candidates.items()}
    return {SHIPPED: QUANT_MATRIX} | rounded


def lambdas(
    photos: list[Points], condition: Callable[[Point], bool], order: Callable[[Point], float]
) -> list[dict[str, float]]:
    """Return the decrease of squared error per bit, in squared 8-bit values, between successive points of an order."""
    rows = []
    ladders = [sorted(filter(condition, points), key=order) for points in photos]
    for first, last in itertools.pairwise(sorted({order(point) for ladder in ladders for point in ladder})):
        pairs = list(pairs_of_points(ladders, order, first, last))
        decrease = 3 * sum(coarse.squared_error - fine.squared_error for coarse, fine in pairs)
        bits = sum(fine.bpp - coarse.bpp for coarse, fine in pairs)
        rows.append({"from": abs(first), "to": abs(last), "price": round(decrease / bits, 1)})
    return rows


def pairs_of_points(
    ladders: list[Points], order: Callable[[Point], float], first: float, last: float
) -> Iterator[tuple[Point, Point]]:
    for ladder in ladders:
        by_order = {order(point): point for point in ladder}
        if first in by_order and last in by_order:
            yield by_order[first], by_order[last]


def gains(photos: list[Points], curve: tuple[int, str] | None, other: tuple[int, str]) -> dict[str, Any]:
    """Return the mean gain of a curve over another in PSNR and SSIMULACRA2, by rate, and the number of photos."""
    rows = {}
    for rate in RATES:
        pairs = [(values_at_rate(points, curve, rate), values_at_rate(points, other, rate)) for points in photos]
        differences = [(a[0] - b[0], a[1] - b[1]) for a, b in pairs if a and b]
        if len(differences) >= 3:
            decibels, ssim = (statistics.fmean(values) for values in zip(*differences, strict=True))
            rows[str(rate)] = {"psnr": round(decibels, 2), "ssimulacra2": round(ssim, 1), "photos": len(differences)}
    return rows


def values_at_rate(points: Points, curve: tuple[int, str] | None, rate: float) -> tuple[float, float] | None:
    """Return PSNR and SSIMULACRA2 at a rate, of latents alone if `curve` is None; None outside the curve's rates."""
    if curve is None:
        ladder = [point for point in points if point.residual_step == 0]
    else:
        quality, weights = curve
        ladder = [
            point
            for point in points
            if point.latent_quality == quality and (point.residual_step == 0 or point.weights == weights)
        ]
    ladder = sorted(ladder, key=lambda point: point.bpp)
    rates = [point.bpp for point in ladder]
    if not rates[0] <= rate <= rates[-1]:
        return None
    decibels, ssim = (
        float(np.interp(np.log(rate), np.log(rates), values))
        for values in ([point.psnr for point in ladder], [point.ssimulacra2 for point in ladder])
    )
    return decibels, ssim


if __name__ == "__main__":
    main()
