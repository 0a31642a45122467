"""Bytes against PSNR on a folder of pictures, real files: sdtrt, JPEG and WebP at equal bytes.

    python benchmarks/rate_distortion.py FOLDER

For each quality of sdtrt the mean over the pictures is taken of bits per pixel (files on disk, headers and all) and of
PSNR. A rival's figure at a rate is interpolated, linearly in log(bits per pixel), between its own mean curve's points.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from report import write_results
from rivals import RIVALS, Encode, Pixels, decoded, psnr

import sdtrt

QUALITIES = (1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80, 90, 100)
RIVAL_QUALITIES = (1, 3, 5, 7, 10, 13, 16, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90)
RATES = (0.15, 0.2, 0.3, 0.4, 0.6)

Curve = list[dict[str, float]]
Code = Callable[[Image.Image, int], tuple[int, Pixels]]  # picture and quality to (bytes, decoded pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes against PSNR: sdtrt, JPEG, WebP.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("-m", "--model", default="tiny", help="name or folder of the bundle")
    parser.add_argument("--name", default="rate_distortion", help="name of the results")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.png"))
    if not paths:
        parser.error(f"no PNG pictures in {arguments.folder}")
    images = [Image.open(path).convert("RGB") for path in paths]

    curves = {"sdtrt": own_curve(images, arguments.model)}
    for name, encode in RIVALS.items():
        curves[name] = rival_curve(images, encode)
    at_rates = [rates_row(curves, rate) for rate in RATES]
    path = write_results(arguments.name, {"pictures": len(images), "at_rates": at_rates, "curves": curves})
    for row in at_rates:
        print("  ".join(f"{key} {'-' if value is None else f'{value:.2f}'}" for key, value in row.items()))
    print(path)


def own_curve(images: list[Image.Image], model: str) -> Curve:
    with sdtrt.Codec.open(model) as codec, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.sdt"

        def code(image: Image.Image, quality: int) -> tuple[int, Pixels]:
            path.write_bytes(codec.encode(image, quality=quality))
            return path.stat().st_size, np.asarray(codec.decode(path.read_bytes()))

        return curve_of(images, QUALITIES, code)


def rival_curve(images: list[Image.Image], encode: Encode) -> Curve:
    def code(image: Image.Image, quality: int) -> tuple[int, Pixels]:
        data = encode(image, quality)
        return len(data), decoded(data)

    return curve_of(images, RIVAL_QUALITIES, code)


def curve_of(images: list[Image.Image], qualities: tuple[int, ...], code: Code) -> Curve:
    """Return the mean bits per pixel and PSNR at each quality."""
    curve = []
    for quality in qualities:
        results = [(image, *code(image, quality)) for image in images]
        bpp = [8 * nbytes / (image.width * image.height) for image, nbytes, _ in results]
        quality_db = [psnr(np.asarray(image), pixels) for image, _, pixels in results]
        curve.append({"quality": quality, "bpp": round(np.mean(bpp), 4), "psnr": round(np.mean(quality_db), 3)})
    return curve


def rates_row(curves: dict[str, Curve], rate: float) -> dict[str, float | None]:
    """Return each codec's mean PSNR at a rate; None where its curve does not reach so far."""
    row: dict[str, float | None] = {"bpp": rate}
    for name, curve in curves.items():
        logs, decibels = (np.array(v) for v in ([np.log(p["bpp"]) for p in curve], [p["psnr"] for p in curve]))
        inside = logs.min() <= np.log(rate) <= logs.max()
        row[name] = round(float(np.interp(np.log(rate), logs, decibels)), 2) if inside else None
    return row


if __name__ == "__main__":
    main()
