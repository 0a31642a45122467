"""What the dial's constants, and the weights of the residual's steps, were chosen by: figures of training photos.

    python benchmarks/dial.py PHOTOS

PHOTOS is a folder of training photos, never the pictures on which the codec is measured. They are scaled down, so that
no trace of how they were compressed is left. Each is coded with latents of several qualities and over them a residual
of several steps; figures are those of PSNR, in dB, and SSIMULACRA2 at equal bits per pixel, interpolated in their
logarithm, beside those of a reference, mean over the photos whose files reach that rate in both.
"""

import argparse
import itertools
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from metrics import at_rate, likeness
from numpy.typing import NDArray
from PIL import Image
from report import write_results

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import KNEE, STEP_UNIT
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import QUANT_MATRIX, WEIGHT_UNIT, ZIGZAG, block_grid, forward_dct
from sdtrt.kernels import reference

PHOTOS = 14
SMALLEST, SCALE = 384, 0.75  # pixels a side
LATENTS = (40, 50, 60, 65, 70, 80, 90, 100)  # qualities
STEPS = (90, 64, 45, 32, 22, 16, 11, 8, 5.5)  # levels
RATES = (0.3, 0.5, 0.8, 1.2, 1.8)
SHIPPED = "shipped"
FREQUENCY = (0, 1 / 16, 1 / 8)  # by how much coarser steps are for each of u + v
RED_BLUE = (1, 1.5, 2)  # how many times as coarse those of channel 1 are


class Point(NamedTuple):
    """A file: latents' quality, the weights and step of its residual (0: none), and what came of it."""

    latents: int
    weights: str
    step: float
    bpp: float
    squared: float  # error, mean, in levels
    psnr: float
    ssimulacra2: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the dial's constants are chosen by.")
    parser.add_argument("photos", type=Path, help="folder of training photos")
    paths = sorted(p for p in parser.parse_args().photos.iterdir() if p.suffix in {".png", ".webp", ".jpg"})
    paths = [path for path in paths if min(Image.open(path).size) >= SMALLEST]
    with ProcessPoolExecutor() as pool:
        photos = list(pool.map(points_of, paths[5 :: len(paths) // PHOTOS][:PHOTOS]))
    figures = {
        "photos": len(photos),
        "prices_of_latents": prices(photos, lambda p: p.step == 0, lambda p: p.latents),
        "prices_of_residuals": prices(
            photos, lambda p: p.latents == KNEE and p.weights == SHIPPED and p.step > 0, lambda p: -p.step
        ),
        "latents": {str(quality): beside(photos, (quality, SHIPPED), (int(KNEE), SHIPPED)) for quality in LATENTS},
        "latents_alone": beside(photos, None, (int(KNEE), SHIPPED)),
        "weights": {name: beside(photos, (int(KNEE), name), (int(KNEE), SHIPPED)) for name in weights_by_name()},
    }
    print(write_results("dial", figures))


def points_of(path: Path) -> list[Point]:
    """Return the files of a photo."""
    torch.set_num_threads(1)
    codec, image = EngineCodec("tiny", threads=1), Image.open(path).convert("RGB")
    size = round(image.width * SCALE), round(image.height * SCALE)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    points = []
    for quality in LATENTS:
        data = codec.encode(ImageData(pixels), EncodeOptions(quality=quality, layers=1))
        shown = codec.decode(data).pixels
        points.append(point(pixels, shown, len(data), quality, SHIPPED, 0))
        wanted = forward_dct(pixels.astype(np.int16) - shown)
        for name, step in itertools.product(weights_by_name() if quality == KNEE else [SHIPPED], STEPS):
            residual_codec.QUANT_MATRIX = weights_by_name()[name]
            coded = residual_codec.encode_residual(wanted, round(STEP_UNIT * step))
            if coded:
                values = residual_codec.decode_residual(coded, *block_grid(*pixels.shape[:2]), round(STEP_UNIT * step))
                whole = shown.copy()
                reference.add_residual(whole, values)
                points.append(point(pixels, whole, len(data) + len(coded), quality, name, step))
    return points


def point(pixels: Any, shown: Any, nbytes: int, latents: int, weights: str, step: float) -> Point:
    alike, squared = likeness(pixels, shown), float(np.square(pixels.astype(np.float64) - shown).mean())
    return Point(latents, weights, step, 24 * nbytes / pixels.size, squared, alike.psnr, alike.ssimulacra2)


def weights_by_name() -> dict[str, NDArray[np.int32]]:
    """Return the weights of steps that are tried, int32 (3, 64) each."""
    sums = ZIGZAG // 8 + ZIGZAG % 8
    tried = {
        f"frequency {slope:.4g}, red-blue {more}": np.outer((1, more, 1), 1 + slope * sums)
        for slope, more in itertools.product(FREQUENCY, RED_BLUE)
    }
    return {SHIPPED: QUANT_MATRIX} | {
        name: np.rint(WEIGHT_UNIT * each).astype(np.int32) for name, each in tried.items()
    }


def prices(photos: list[list[Point]], of: Any, order: Any) -> list[dict[str, float]]:
    """Return what a bit buys from one file to the next of an order: squared error, in squared levels."""
    rows = []
    ladders = [sorted(filter(of, points), key=order) for points in photos]
    for first, last in itertools.pairwise(sorted({order(p) for ladder in ladders for p in ladder})):
        found = list(steps_between(ladders, order, first, last))
        saved = 3 * sum(coarse.squared - fine.squared for coarse, fine in found)
        rows.append({"from": abs(first), "to": abs(last)})
        rows[-1]["price"] = round(saved / sum(fine.bpp - coarse.bpp for coarse, fine in found), 1)
    return rows


def steps_between(ladders: list[list[Point]], order: Any, first: float, last: float) -> Iterator[tuple[Point, Point]]:
    for ladder in ladders:
        by_order = {order(p): p for p in ladder}
        if first in by_order and last in by_order:
            yield by_order[first], by_order[last]


def beside(photos: list[list[Point]], one: tuple[int, str] | None, other: tuple[int, str]) -> dict[str, Any]:
    """Return by rate the gains of one curve over another in PSNR and SSIMULACRA2, and over how many photos."""
    rows = {}
    for rate in RATES:
        pairs = [(at(points, one, rate), at(points, other, rate)) for points in photos]
        gains = [(a[0] - b[0], a[1] - b[1]) for a, b in pairs if a and b]
        if len(gains) >= 3:
            psnr, ssimulacra2 = (statistics.fmean(values) for values in zip(*gains, strict=True))
            rows[str(rate)] = {"psnr": round(psnr, 2), "ssimulacra2": round(ssimulacra2, 1), "photos": len(gains)}
    return rows


def at(points: list[Point], curve: tuple[int, str] | None, rate: float) -> tuple[float, float] | None:
    """Return PSNR and SSIMULACRA2 of a curve, None for latents alone, at a rate; None if it does not reach it."""
    if curve is None:
        ladder = [p for p in points if p.step == 0]
    else:
        ladder = [p for p in points if p.latents == curve[0] and (p.step == 0 or p.weights == curve[1])]
    rates = [p.bpp for p in ladder]
    if not min(rates) <= rate <= max(rates):
        return None
    return at_rate(rate, rates, [p.psnr for p in ladder]), at_rate(rate, rates, [p.ssimulacra2 for p in ladder])


if __name__ == "__main__":
    main()
