"""Size against image quality, from real files: sdtrt and other codecs on a folder of images.

    python benchmarks/rate_distortion.py KODAK [--plot docs/rate_distortion.svg]
    python benchmarks/rate_distortion.py KODAK --set photos [--plot docs/fidelity_photos.svg]
    python benchmarks/rate_distortion.py PAGES --set pages [--plot docs/fidelity_pages.svg]
    python benchmarks/rate_distortion.py KODAK --set sd1 --model BUNDLE
    python benchmarks/rate_distortion.py KODAK --set effort|region|time|blockiness
    python benchmarks/rate_distortion.py PHOTOS --set overlays --pages PAGES

codecs      the default: low rates, mean curves of each codec
effort      sdtrt's efforts beside two speeds of AVIF at 0.3 bits per pixel, and seconds to encode
photos      all rates, with the layers and without; a perfect image counts as 60 dB
pages       the same for the 24 measuring images of `make pages`
sd1         the same for a bundle of the latent space sd1, without other codecs
region      PSNR inside and outside a random ROI, beside files of the same size without ROI
time        milliseconds of the networks and of the layers of one photo; nothing else should run meanwhile
blockiness  steps across the borders of 8x8 blocks, beside JPEG of the same size
overlays    rate-distortion cost with an overlay relative to the same image without one, on training images

Bits per pixel are those of whole files. A value at a rate is interpolated linearly in log(bits per pixel): on the mean
curve in `codecs` and `effort`, on the curve of each image elsewhere.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from baselines import ALL_CODECS, VARIANTS, decode_rgb, encode_within
from harness import Pixels, image_paths, interleaved_ms, new_plot, open_rgb, save_plot, write_results
from metrics import METRICS, all_metrics, ssimulacra2, value_at_rate
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import sdtrt
from sdtrt.engine import codec as engine_codec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import operating_point
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.layers.overlay import choose_overlay

SDTRT_OPTIONS: dict[str, dict[str, int]] = {
    "sdtrt": {},
    "latents alone": {"layers": 1},
    **{f"sdtrt, effort {effort}": {"effort": effort} for effort in (5, 6, 7, 9)},
}
PERFECT_PSNR = 60.0  # dB, of an image without errors
DIGITS = {"psnr": 3, "ms_ssim": 5, "ssimulacra2": 2}
RESULT_NAMES = {
    "codecs": "rate_distortion",
    **{name: name for name in ("effort", "blockiness", "overlays")},
    **{name: f"fidelity_{name}" for name in ("photos", "pages", "sd1", "region", "time")},
}
EVERY = {"effort": 6, "region": 4}  # which images of the folder are used; all of them for the other sets

File = dict[str, float]  # quality, bpp, encode_seconds, and each metric
Curves = dict[str, list[File]]  # the files of one image, or their means over images, by codec


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure size against image quality.")
    parser.add_argument("folder", type=Path, help="folder of images, such as the Kodak set")
    parser.add_argument("--set", default="codecs", choices=RESULT_NAMES, help="what to measure (default codecs)")
    parser.add_argument("--pages", type=Path, help="with --set overlays: training images that are no photos")
    parser.add_argument("-m", "--model", default="tiny", help="name or folder of the bundle (default tiny)")
    parser.add_argument("--every", type=int, metavar="N", help="only every Nth image (default: as documented)")
    parser.add_argument("--name", help="name of the results (default: that of the set)")
    parser.add_argument("--plot", type=Path, help="with codecs, photos, pages: write the curves as a figure")
    arguments = parser.parse_args()
    if arguments.set == "overlays" and not arguments.pages:
        parser.error("--set overlays needs --pages FOLDER")
    paths = image_paths(arguments.folder, arguments.every or EVERY.get(arguments.set, 1))
    figures = SETS[arguments.set](paths, arguments)
    for row in figures.get("rows", figures.get("at_rates", [figures])):
        print(row)
    print(write_results(arguments.name or RESULT_NAMES[arguments.set], figures))


# Curves


@dataclass(frozen=True)
class CurveSet:
    """The codecs with their qualities, and the rates of the table, in bits per pixel."""

    qualities: dict[str, tuple[int, ...]]
    rates: tuple[float, ...]
    metrics: tuple[str, ...] = ("psnr", "ssimulacra2")
    limits: tuple[float, float] = (0.1, 3.0)  # bits per pixel, of the plot


LATENTS_ALONE = (5, 20, 35, 50, 75, 100)
AVIF = (10, 28, 45, 60, 72, 82, 90, 96)
WITH_LAYERS = {"sdtrt": (5, 20, 35, 50, 56, 62, 70, 78, 86, 93, 100), "latents alone": LATENTS_ALONE}
ALL_RATES = {
    **WITH_LAYERS,
    "WebP": (1, 10, 30, 60, 80, 90, 96, 100),
    "AVIF": AVIF,
    "AVIF 4:4:4": AVIF,
    "JPEG XL": (5, 15, 35, 60, 76, 86, 92, 97),
}
LOW_RATES = {
    "sdtrt": (10, 18, 26, 34, 42, 50, 58, 68, 80, 100),
    "sdtrt, effort 9": (8, 16, 24, 32, 40, 48),
    "AVIF": (8, 15, 22, 30, 38, 46, 54, 62),
    "JPEG XL": (2, 6, 10, 15, 20, 25, 35, 50, 65, 80),
    "WebP": (1, 4, 10, 18, 30, 45, 60, 75),
    "JPEG": (3, 6, 9, 13, 18, 25, 35, 50, 65),
}
EFFORTS = {
    **{f"sdtrt, effort {effort}": (30, 38, 46) for effort in (5, 6, 7, 9)},
    **{f"AVIF, speed {speed}": (8, 15, 22, 30, 38) for speed in (4, 0)},
}
CURVE_SETS = {
    "codecs": CurveSet(LOW_RATES, (0.15, 0.2, 0.3, 0.4, 0.6), tuple(METRICS), (0.0, 0.8)),
    "effort": CurveSet(EFFORTS, (0.3,), tuple(METRICS)),
    "photos": CurveSet(ALL_RATES, (0.1, 0.2, 0.3, 0.6, 1.0, 1.5, 2.0)),
    "pages": CurveSet(ALL_RATES, (0.1, 0.2, 0.35, 0.8), limits=(0.05, 1.5)),
    "sd1": CurveSet(WITH_LAYERS, (0.2, 0.4, 0.8)),
}


def image_curves(paths: list[Path], model: str, curve_set: CurveSet) -> list[Curves]:
    """Return the curves of each image, measured by two processes of one thread each."""
    measure = functools.partial(measure_image, model, curve_set, 1)
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(measure, paths))


def measure_image(model: str, curve_set: CurveSet, threads: int | None, path: Path) -> Curves:
    image = open_rgb(path)
    codec = open_codec(model, threads)
    return {
        name: [measure_file(codec, name, image, quality, curve_set.metrics) for quality in qualities]
        for name, qualities in curve_set.qualities.items()
    }


@functools.cache
def open_codec(model: str, threads: int | None = None) -> sdtrt.Codec:
    """Return a codec that is kept until the process ends."""
    return sdtrt.Codec.open(model, threads=threads)


def measure_file(
    codec: sdtrt.Codec, name: str, image: Image.Image, quality: int, metrics: tuple[str, ...]
) -> dict[str, float]:
    started = time.perf_counter()
    data = encode(codec, name, image, quality)
    seconds = time.perf_counter() - started
    original = np.asarray(image)
    decoded = np.asarray(codec.decode(data)) if name in SDTRT_OPTIONS else decode_rgb(data)
    if "ms_ssim" in metrics:
        values = all_metrics(original, decoded)
    else:
        values = {"psnr": psnr(original, decoded), "ssimulacra2": ssimulacra2(original, decoded)}
    values["psnr"] = min(values["psnr"], PERFECT_PSNR)
    return {
        "quality": quality,
        "bpp": 8 * len(data) / (image.width * image.height),
        "encode_seconds": seconds,
        **values,
    }


def encode(codec: sdtrt.Codec, name: str, image: Image.Image, quality: int) -> bytes:
    if name in SDTRT_OPTIONS:
        return codec.encode(image, quality=quality, **SDTRT_OPTIONS[name])
    return (ALL_CODECS | VARIANTS)[name](image, quality)


def mean_curves(curves: list[Curves], metrics: Iterable[str] = METRICS) -> Curves:
    """Return the means over the images, for each quality of a codec."""

    def mean_file(files: tuple[File, ...]) -> File:
        means = {metric: round(mean(file[metric] for file in files), DIGITS[metric]) for metric in metrics}
        return {"quality": files[0]["quality"], "bpp": round(mean(file["bpp"] for file in files), 4), **means}

    return {
        codec: [mean_file(files) for files in zip(*(image[codec] for image in curves), strict=True)]
        for codec in curves[0]
    }


def value_on_curve(files: list[File], metric: str, rate: float) -> float | None:
    """Return the value of a metric at a rate, None outside the rates of the curve."""
    rates = [file["bpp"] for file in files]
    if not min(rates) <= rate <= max(rates):
        return None
    return round(value_at_rate(rate, rates, [file[metric] for file in files]), 4)


def mean_at_rate(curves: list[Curves], codec: str, metric: str, rate: float) -> float | None:
    """Return the mean over the images at a rate; None if the smallest file of an image is larger.

    An image whose best file is smaller than the rate counts with that file.
    """
    values = []
    for image in curves:
        rates = [file["bpp"] for file in image[codec]]
        if min(rates) > rate:
            return None
        values.append(value_at_rate(rate, rates, [file[metric] for file in image[codec]]))
    return round(mean(values), 3)


def mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


# Sets of curves


def compare_codecs(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    curve_set = CURVE_SETS["codecs"]
    curves = mean_curves(image_curves(paths, arguments.model, curve_set))
    if arguments.plot:
        plot_codecs(curves, curve_set, arguments.plot)
    rows = [
        {"bpp": rate}
        | {m: {codec: value_on_curve(files, m, rate) for codec, files in curves.items()} for m in curve_set.metrics}
        for rate in curve_set.rates
    ]
    return {"pictures": len(paths), "at_rates": rows, "curves": curves}


def compare_efforts(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure in this process, one file after the other, since encoding is timed."""
    curve_set = CURVE_SETS["effort"]
    (rate,) = curve_set.rates
    for name, qualities in curve_set.qualities.items():
        encode(open_codec(arguments.model), name, open_rgb(paths[0]), qualities[0])  # warm-up
    images = [measure_image(arguments.model, curve_set, None, path) for path in paths]
    curves, rows = mean_curves(images), []
    for name, files in curves.items():
        seconds = statistics.median(file["encode_seconds"] for image in images for file in image[name])
        values = {metric: value_on_curve(files, metric, rate) for metric in METRICS}
        rows.append({"method": name, **values, "seconds": round(seconds, 3)})
    return {"pictures": len(paths), "bpp": rate, "rows": rows}


def compare_layers(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    curve_set = CURVE_SETS[arguments.set]
    curves = image_curves(paths, arguments.model, curve_set)
    if arguments.plot:
        plot_layers(curves, curve_set, arguments.plot)
    digits = {"psnr": 2, "ssimulacra2": 1}

    def cell(codec: str, metric: str, rate: float) -> float | None:
        value = mean_at_rate(curves, codec, metric, rate)
        return None if value is None else round(value, digits[metric])

    rows = [
        {"bpp": rate}
        | {metric: {codec: cell(codec, metric, rate) for codec in curves[0]} for metric in curve_set.metrics}
        for rate in curve_set.rates
    ]
    best = {codec: [image[codec][-1] for image in curves] for codec in WITH_LAYERS}
    return {
        "pictures": len(curves),
        "at_rates": rows,
        "ceiling": round(mean(file["psnr"] for file in best["latents alone"]), 3),
        "quality_100": {key: round(mean(file[key] for file in best["sdtrt"]), 3) for key in ("bpp", "psnr")},
    }


def plot_codecs(curves: Curves, curve_set: CurveSet, path: Path) -> None:
    """Draw each metric against bits per pixel."""
    figure, panels = new_plot(13, 4.2, len(METRICS))
    for panel, (metric, label) in zip(panels, METRICS.items(), strict=True):
        for codec, files in curves.items():
            files_in_range = [file for file in files if file["bpp"] <= curve_set.limits[1]]
            width = 2.6 if codec in SDTRT_OPTIONS else 1.4
            values = [file[metric] for file in files_in_range]
            panel.plot([file["bpp"] for file in files_in_range], values, label=codec, linewidth=width, marker=".")
        panel.set(xlabel="bits per pixel", title=label, xlim=curve_set.limits)
        panel.grid(alpha=0.3)
    panels[1].set_ylim(bottom=0.8)
    panels[2].set_ylim(bottom=-20)
    panels[0].legend(frameon=False)
    save_plot(figure, path)


def plot_layers(curves: list[Curves], curve_set: CurveSet, path: Path) -> None:
    """Draw the mean PSNR against bits per pixel, on a logarithmic axis."""
    figure, axes = new_plot(7, 4.5)
    for codec in curve_set.qualities:
        values = [(rate, mean_at_rate(curves, codec, "psnr", rate)) for rate in np.geomspace(*curve_set.limits, 25)]
        points = [(rate, value) for rate, value in values if value is not None]
        axes.plot(*zip(*points, strict=True), label=codec, linewidth=2.2 if codec == "sdtrt" else 1.2)
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", xscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_plot(figure, path)


# ROI

REGION_SEED, REGION_RATE, REGION_SHARE = 1, 0.8, 0.25


def compare_region(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the mean PSNR, in dB, of random regions and of the rest, with an ROI and without, at equal bytes."""
    rng, codec = np.random.default_rng(REGION_SEED), open_codec(arguments.model)
    values: dict[str, list[float]] = {"region": [], "region_without": [], "rest": [], "rest_without": []}
    for path in paths:
        image = open_rgb(path)
        pixels = np.asarray(image)
        mask = random_region(rng, *pixels.shape[:2])
        nbytes = int(REGION_RATE * pixels.size / 24)
        for suffix, options in (("", {"roi": mask, "roi_weight": 16.0}), ("_without", {})):
            decoded = np.asarray(codec.decode(codec.encode(image, max_bytes=nbytes, **options)))
            values[f"region{suffix}"].append(psnr(pixels[mask > 0], decoded[mask > 0]))
            values[f"rest{suffix}"].append(psnr(pixels[mask == 0], decoded[mask == 0]))
    return {name: round(mean(decibels), 3) for name, decibels in values.items()}


def random_region(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Return a mask, uint8 (height, width), 255 in a rectangle of a quarter of the image and 0 elsewhere."""
    rows, columns = (int(side * REGION_SHARE**0.5) for side in (height, width))
    top, left = int(rng.integers(height - rows)), int(rng.integers(width - columns))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + rows, left : left + columns] = 255
    return mask


# Decoding time of the layers

TIME_RUNS = 11


def layer_times(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the milliseconds of the networks and of the layers of one photo, by quality."""
    codec, image, rows = open_codec(arguments.model), open_rgb(paths[0]), []
    for quality in (60, 70, 80, 90, 100):
        file = container.read(codec.encode(image, quality=quality))
        latents_alone = codec.encode(image, quality=quality, layers=1)
        pixels = np.asarray(codec.decode(latents_alone)).copy()
        networks, layers = interleaved_ms(
            [lambda data=latents_alone: codec.decode(data), lambda f=file, p=pixels: LayerReader(f).apply(p)], TIME_RUNS
        )
        share = round(layers / networks, 3)
        rows.append({"quality": quality, "without": round(networks, 1), "layers": round(layers, 1), "share": share})
    return {"rows": rows}


# Blockiness

BLOCK_SIDE = 8  # pixels
FLAT_SHARE = 0.2


def compare_blockiness(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the mean step between neighbouring pixels across block borders, relative to that inside blocks.

    Only flat places of the original count, since a grid shows there. A ratio of 1 means no grid.
    """
    codec, rows = open_codec(arguments.model), []
    for quality in (10, 25, 50):
        steps: dict[str, list[tuple[float, float]]] = {"original": [], "sdtrt": [], "JPEG": []}
        for image in map(open_rgb, paths):
            data = codec.encode(image, quality=quality)
            versions = {
                "original": np.asarray(image),
                "sdtrt": np.asarray(codec.decode(data)),
                "JPEG": decode_rgb(encode_within(ALL_CODECS["JPEG"], image, len(data))[1]),
            }
            flat = flat_places(image)
            for name, pixels in versions.items():
                steps[name].append(border_and_inner_step(pixels, flat))
        ratios = {name: round(float(np.divide(*np.mean(pairs, axis=0))), 4) for name, pairs in steps.items()}
        rows.append({"quality": quality, **ratios})
    return {"pictures": len(paths), "border_step_over_inside_step": rows}


def flat_places(image: Image.Image) -> NDArray[np.bool_]:
    """Return the pixels whose local contrast, over about 16x16 pixels, is in the lowest fifth; bool (H, W)."""
    grey = image.convert("L")
    local_mean = np.asarray(grey.filter(ImageFilter.BoxBlur(8)), np.float64)
    contrast = np.abs(np.asarray(grey, np.float64) - local_mean)
    smoothed = np.asarray(Image.fromarray(contrast.astype(np.uint8)).filter(ImageFilter.BoxBlur(8)))
    return smoothed <= np.quantile(smoothed, FLAT_SHARE)


def border_and_inner_step(pixels: Pixels, flat: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean absolute difference of neighbours across block borders and inside blocks, in both directions."""
    brightness = pixels.astype(np.float64).mean(2)
    border, inner = [], []
    for plane, mask in ((brightness, flat), (brightness.T, flat.T)):
        difference = np.abs(np.diff(plane, axis=1))
        at_border = np.zeros(difference.shape, bool)
        at_border[:, BLOCK_SIDE - 1 :: BLOCK_SIDE] = True
        border.append(difference[at_border & mask[:, 1:]])
        inner.append(difference[~at_border & mask[:, 1:]])
    return float(np.concatenate(border).mean()), float(np.concatenate(inner).mean())


# Overlays

OVERLAY_QUALITIES = (15, 30, 50, 80)
COVERED_SHARES = (0.0, 0.1, 0.4, 1.0)  # of the pixels; limits of the rows


class OverlayCost(NamedTuple):
    """The share of pixels that an overlay covers, and the relative increase of the file's cost with it."""

    covered: float
    increase: float


def overlay_costs(paths: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return, by share of covered pixels, the change of the cost D + lambda R; below 0 the overlay pays."""
    rows = []
    for kind, images in (("photos", paths), ("pages", image_paths(arguments.pages, arguments.every or 1))):
        with ProcessPoolExecutor() as pool:
            costs = list(itertools.chain(*pool.map(overlay_costs_of_image, images, chunksize=4)))
        for low, high in itertools.pairwise(COVERED_SHARES):
            increases = [cost.increase for cost in costs if low < cost.covered <= high]
            rows.append(
                {
                    "kind": kind,
                    "covered": f"{low:.0%} to {high:.0%}",
                    "files": len(increases),
                    "dearer": sum(increase > 0 for increase in increases),
                    "mean": round(mean(increases or [0.0]), 4),
                    "worst": round(max(increases, default=0.0), 4),
                }
            )
    return {"rows": rows}


def overlay_costs_of_image(path: Path) -> list[OverlayCost]:
    """Return the cost of each quality at which an overlay covers a part of the image."""
    pixels, costs = np.asarray(open_rgb(path)), []
    for quality in OVERLAY_QUALITIES:
        overlay = choose_overlay(pixels, operating_point(quality, layers=2).lmbda)
        covered = 0.0 if overlay is None else float((overlay[:, :, 3] > 0).mean())
        if 0 < covered < 1:
            ratio = rd_cost(pixels, quality, overlay=True) / rd_cost(pixels, quality, overlay=False)
            costs.append(OverlayCost(covered, ratio - 1))
    return costs


def rd_cost(pixels: Pixels, quality: int, *, overlay: bool) -> float:
    """Return D + lambda R of a file: the squared error, and lambda times its bits."""
    codec, point = open_engine_codec(), operating_point(quality, layers=2)
    with nullcontext() if overlay else mock.patch.object(engine_codec, "overlay_for", return_value=None):
        data = codec.encode(ImageData(pixels), EncodeOptions(quality=quality))
    error = np.square(pixels.astype(np.float64) - codec.decode(data).pixels).sum()
    return float(error) + point.lmbda * 8 * len(data)


@functools.cache
def open_engine_codec() -> engine_codec.EngineCodec:
    return engine_codec.EngineCodec("tiny", threads=1)


SETS = {
    "codecs": compare_codecs,
    "effort": compare_efforts,
    **dict.fromkeys(("photos", "pages", "sd1"), compare_layers),
    "region": compare_region,
    "time": layer_times,
    "blockiness": compare_blockiness,
    "overlays": overlay_costs,
}


if __name__ == "__main__":
    main()
