"""Bytes against likeness on a folder of pictures, real files: sdtrt and other codecs at equal bytes.

    python benchmarks/rate_distortion.py FOLDER [--plot docs/rate_distortion.svg]

For each quality of a codec the mean over the pictures is taken of bits per pixel (files on disk, headers and all) and
of each metric. A figure at a rate is interpolated between the points of such a curve, linearly in log(bits per pixel).
"""

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metrics import METRICS, Likeness, at_rate, likeness
from PIL import Image
from report import write_results
from rivals import ALL_RIVALS, decoded

import sdtrt

QUALITIES = {
    "sdtrt": (10, 18, 26, 34, 42, 50, 58, 68, 80, 100),
    "sdtrt, effort 9": (8, 16, 24, 32, 40, 48),
    "AVIF": (8, 15, 22, 30, 38, 46, 54, 62),
    "JPEG XL": (2, 6, 10, 15, 20, 25, 35, 50, 65, 80),
    "WebP": (1, 4, 10, 18, 30, 45, 60, 75),
    "JPEG": (3, 6, 9, 13, 18, 25, 35, 50, 65),
}
EFFORTS = {"sdtrt": 5, "sdtrt, effort 9": 9}
RATES = (0.15, 0.2, 0.3, 0.4, 0.6)

Curve = list[dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes against likeness: sdtrt and other codecs.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("-m", "--model", default="tiny", help="name or folder of the bundle")
    parser.add_argument("--name", default="rate_distortion", help="name of the results")
    parser.add_argument("--plot", type=Path, help="write the curves as a picture, too")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.png"))
    if not paths:
        parser.error(f"no PNG pictures in {arguments.folder}")
    with ProcessPoolExecutor(2) as pool:
        measured = list(pool.map(functools.partial(measure, arguments.model), paths))
    curves = {codec: [point(codec, q, measured) for q in QUALITIES[codec]] for codec in QUALITIES}
    at_rates = [{"bpp": rate, **{metric: row_at(curves, metric, rate) for metric in METRICS}} for rate in RATES]
    path = write_results(arguments.name, {"pictures": len(paths), "at_rates": at_rates, "curves": curves})
    if arguments.plot:
        plot(curves, arguments.plot)
    for row in at_rates:
        print(row)
    print(path)


def measure(model: str, path: Path) -> dict[tuple[str, int], tuple[float, Likeness]]:
    """Return bits per pixel and likeness of one picture, by codec and quality."""
    torch.set_num_threads(1)
    image = Image.open(path).convert("RGB")
    pixels = np.asarray(image)
    found = {}
    with sdtrt.Codec.open(model, threads=1) as codec:
        for name, qualities in QUALITIES.items():
            for quality in qualities:
                if name in EFFORTS:
                    data = codec.encode(image, quality=quality, effort=EFFORTS[name])
                    other = np.asarray(codec.decode(data))
                else:
                    data = ALL_RIVALS[name](image, quality)
                    other = decoded(data)
                found[name, quality] = 8 * len(data) / (image.width * image.height), likeness(pixels, other)
    return found


def point(codec: str, quality: int, measured: list[Any]) -> dict[str, float]:
    """Return the means over the pictures at one quality of a codec."""
    rates, found = zip(*(picture[codec, quality] for picture in measured), strict=True)
    means = np.mean([one.values() for one in found], axis=0)
    digits = {"psnr": 3, "ms_ssim": 5, "ssimulacra2": 2}
    figures = {m: round(float(mean), digits[m]) for m, mean in zip(METRICS, means, strict=True)}
    return {"quality": quality, "bpp": round(float(np.mean(rates)), 4), **figures}


def row_at(curves: dict[str, Curve], metric: str, rate: float) -> dict[str, float | None]:
    """Return each codec's mean at a rate; None where its curve does not reach so far."""
    row: dict[str, float | None] = {}
    for name, curve in curves.items():
        rates, values = [p["bpp"] for p in curve], [p[metric] for p in curve]
        row[name] = round(at_rate(rate, rates, values), 4) if min(rates) <= rate <= max(rates) else None
    return row


def plot(curves: dict[str, Curve], path: Path) -> None:
    """Draw each metric against bits per pixel, up to 0.8."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "sdtrt"  # the same picture from the same figures
    figure, panels = plt.subplots(1, len(METRICS), figsize=(13, 4.2), layout="constrained")
    for panel, (metric, label) in zip(panels, METRICS.items(), strict=True):
        for codec, curve in curves.items():
            shown = [p for p in sorted(curve, key=lambda p: p["bpp"]) if p["bpp"] <= 0.8]
            width = 2.6 if codec in EFFORTS else 1.4
            panel.plot([p["bpp"] for p in shown], [p[metric] for p in shown], label=codec, linewidth=width, marker=".")
        panel.set_xlabel("bits per pixel")
        panel.set_title(label)
        panel.grid(alpha=0.3)
        panel.set_xlim(0, 0.8)
    panels[1].set_ylim(bottom=0.8)
    panels[2].set_ylim(bottom=-20)
    panels[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
