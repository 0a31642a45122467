"""What the layers over the networks' picture bring: photos at high rates, pages and screens, a generative model.

    python benchmarks/fidelity.py photos KODAK [--plot docs/fidelity_photos.svg]
    python benchmarks/fidelity.py pages PAGES [--plot docs/fidelity_pages.svg]
    python benchmarks/fidelity.py sd1 KODAK --sd1 BUNDLE
    python benchmarks/fidelity.py region KODAK
    python benchmarks/fidelity.py time KODAK

Each picture is coded by each codec at a row of qualities; a figure at a rate is interpolated between a picture's files,
linearly in log(bits per pixel), and the mean taken over pictures. A picture of which a codec's best file is smaller
counts with that file, and errors of nothing at all as `MOST` dB. PAGES are the 24 measuring pictures of `make pages`.
For `time` all else must be quiet.
"""

import argparse
import functools
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metrics import at_rate, ssimulacra2
from numpy.typing import NDArray
from PIL import Image
from report import write_results
from rivals import ALL_RIVALS, decoded, psnr

import sdtrt
from sdtrt.compare.baselines import avif_444
from sdtrt.engine.format import container
from sdtrt.engine.layers.layer_reader import LayerReader

QUALITIES = {
    "sdtrt": (5, 20, 35, 50, 56, 62, 70, 78, 86, 93, 100),
    "latents alone": (5, 20, 35, 50, 75, 100),
    "WebP": (1, 10, 30, 60, 80, 90, 96, 100),
    "AVIF": (10, 28, 45, 60, 72, 82, 90, 96),
    "AVIF 4:4:4": (10, 28, 45, 60, 72, 82, 90, 96),
    "JPEG XL": (5, 15, 35, 60, 76, 86, 92, 97),
}
RATES = {
    "photos": (0.1, 0.2, 0.3, 0.6, 1.0, 1.5, 2.0),
    "pages": (0.1, 0.2, 0.35, 0.8),
    "sd1": (0.2, 0.4, 0.8),
}
RANGES = {"photos": (0.1, 3), "pages": (0.05, 1.5)}  # bits per pixel that are plotted
METRICS = {"psnr": 2, "ssimulacra2": 1}  # and digits
MOST = 60.0  # dB
RUNS = 11
REGION_SEED, REGION_RATE, REGION_SHARE = 1, 0.8, 0.25

Curve = list[tuple[float, float, float]]  # bits per pixel, PSNR, SSIMULACRA2 of each file


def main() -> None:
    parser = argparse.ArgumentParser(description="What the layers bring.")
    parser.add_argument("what", choices=("photos", "pages", "sd1", "region", "time"))
    parser.add_argument("folder", type=Path, help="folder of PNG pictures: the Kodak set, or of pages for `pages`")
    parser.add_argument("--sd1", type=Path, metavar="BUNDLE", help="folder of a bundle of the latent space sd1")
    parser.add_argument("--plot", type=Path, help="write the curves as a picture, too")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth picture")
    arguments = parser.parse_args()
    what, paths = arguments.what, sorted(arguments.folder.glob("*.png"))[:: arguments.every]
    if what == "time":
        found: dict[str, Any] = {"rows": decoding_time(paths[0])}
    elif what == "region":
        found = region(paths[::4])
    elif what == "sd1":
        curves = curves_of(paths, str(arguments.sd1), ("sdtrt", "latents alone"))
        ceiling = mean(curve["latents alone"][-1][1] for curve in curves)
        found = {"ceiling": ceiling, "at_rates": at_rates(curves, RATES[what])}
    else:
        curves = curves_of(paths, "tiny", tuple(QUALITIES))
        best = [curve["sdtrt"][-1] for curve in curves]
        found = {
            "pictures": len(curves),
            "at_rates": at_rates(curves, RATES[what]),
            "quality_100": {"bpp": mean(one[0] for one in best), "psnr": mean(one[1] for one in best)},
        }
    print(write_results(f"fidelity_{what}", found))
    if arguments.plot:
        plot(curves, RANGES[what], arguments.plot)


def curves_of(paths: list[Path], model: str, codecs: tuple[str, ...]) -> list[dict[str, Curve]]:
    """Return the curves of each picture, by codec."""
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(functools.partial(measure, model, codecs), paths))


def measure(model: str, codecs: tuple[str, ...], path: Path) -> dict[str, Curve]:
    torch.set_num_threads(1)
    image = Image.open(path).convert("RGB")
    pixels, curves = np.asarray(image), {}
    with sdtrt.Codec.open(model, threads=1) as codec:
        for name in codecs:
            points = []
            for quality in QUALITIES[name]:
                data = coded(codec, name, image, quality)
                ours = data.startswith(b"SDT")
                other = np.asarray(codec.decode(data)) if ours else decoded(data)
                rate = 8 * len(data) / (image.width * image.height)
                points.append((rate, min(psnr(pixels, other), MOST), ssimulacra2(pixels, other)))
            curves[name] = points
    return curves


def coded(codec: sdtrt.Codec, name: str, image: Image.Image, quality: int) -> bytes:
    if name in {"sdtrt", "latents alone"}:
        return codec.encode(image, quality=quality, layers=2 if name == "sdtrt" else 1)
    return avif_444(image, quality) if name == "AVIF 4:4:4" else ALL_RIVALS[name](image, quality)


def at_rates(curves: list[dict[str, Curve]], rates: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return each codec's mean metrics at each rate; None where it has no files as small for all pictures."""
    rows = []
    for rate in rates:
        row: dict[str, Any] = {"bpp": rate}
        for number, (metric, digits) in enumerate(METRICS.items(), 1):
            row[metric] = {codec: over(curves, codec, rate, number, digits) for codec in curves[0]}
        rows.append(row)
    return rows


def over(curves: list[dict[str, Curve]], codec: str, rate: float, number: int, digits: int) -> float | None:
    values = []
    for curve in curves:
        points = sorted(curve[codec])
        if points[0][0] > rate:
            return None
        values.append(at_rate(rate, [p[0] for p in points], [p[number] for p in points]))
    return round(float(np.mean(values)), digits)


def mean(values: Any) -> float:
    return round(statistics.fmean(values), 3)


def decoding_time(path: Path) -> list[dict[str, float]]:
    """Return how long, in ms, the networks and the layers of a photo take, and their share, by quality."""
    image, rows = Image.open(path).convert("RGB"), []
    with sdtrt.Codec.open("tiny") as codec:
        for quality in (60, 70, 80, 90, 100):
            data = codec.encode(image, quality=quality)
            alone = codec.encode(image, quality=quality, layers=1)
            file = container.read(data)
            pixels = np.asarray(codec.decode(alone)).copy()
            networks, layers = [], []
            for _ in range(RUNS):
                start = time.perf_counter()
                codec.decode(alone)
                middle = time.perf_counter()
                LayerReader(file).apply(pixels)
                networks.append(1e3 * (middle - start))
                layers.append(1e3 * (time.perf_counter() - middle))
            without, over = statistics.median(networks), statistics.median(layers)
            share = round(over / without, 3)
            rows.append({"quality": quality, "without": round(without, 1), "layers": round(over, 1), "share": share})
    return rows


def region(paths: list[Path]) -> dict[str, float]:
    """Return the PSNR, in dB, of random regions and of the rest, with interest in them and without, at equal bytes."""
    rng = np.random.default_rng(REGION_SEED)
    found: dict[str, list[float]] = {"region": [], "region_without": [], "rest": [], "rest_without": []}
    with sdtrt.Codec.open("tiny") as codec:
        for path in paths:
            image = Image.open(path).convert("RGB")
            pixels = np.asarray(image)
            mask = random_region(rng, *pixels.shape[:2])
            nbytes = int(REGION_RATE * pixels.size / 24)
            for suffix, options in (("", {"roi": mask, "roi_weight": 16.0}), ("_without", {})):
                other = np.asarray(codec.decode(codec.encode(image, max_bytes=nbytes, **options)))
                found[f"region{suffix}"].append(psnr(pixels[mask > 0], other[mask > 0]))
                found[f"rest{suffix}"].append(psnr(pixels[mask == 0], other[mask == 0]))
    return {name: mean(values) for name, values in found.items()}


def random_region(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Return a mask, 255 in a rectangle of a quarter of the picture."""
    down, across = (int(side * REGION_SHARE**0.5) for side in (height, width))
    top, left = int(rng.integers(height - down)), int(rng.integers(width - across))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + down, left : left + across] = 255
    return mask


def plot(curves: list[dict[str, Curve]], limits: tuple[float, float], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "sdtrt"
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    rates = np.geomspace(*limits, 25)
    for codec in QUALITIES:
        values = [over(curves, codec, rate, 1, 3) for rate in rates]
        shown = [(rate, value) for rate, value in zip(rates, values, strict=True) if value is not None]
        axis.plot(*zip(*shown, strict=True), label=codec, linewidth=2.2 if codec == "sdtrt" else 1.2)
    axis.set(xlabel="bits per pixel", ylabel="PSNR, dB", xscale="log")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
