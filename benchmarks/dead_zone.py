"""Where the quantizer's dead zone stands: PSNR at equal bytes for several widths of it.

    python benchmarks/dead_zone.py FOLDER

FOLDER holds training photos, never the pictures on which the codec is measured: the width is fitted on them.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from report import write_results
from rivals import psnr

from sdtrt.engine import container, latents
from sdtrt.engine.codec import PictureCodec

WIDTHS = (0.0, 0.06, 0.12, 0.18, 0.24)
QUALITIES = (10, 25, 40, 55)
RATES = (0.2, 0.4)
EVERY = 20  # of the photos, one in so many


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure dead zones.")
    parser.add_argument("folder", type=Path, help="folder of training photos")
    paths = sorted(p for p in parser.parse_args().folder.iterdir() if p.suffix in {".png", ".webp", ".jpg"})
    codec = PictureCodec("tiny")
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths[::EVERY]]
    analysed = [codec.analyse(photo) for photo in photos]
    rows = []
    for width in WIDTHS:
        latents.DEAD_ZONE = width
        points = [point(codec, photos, analysed, quality) for quality in QUALITIES]
        logs, decibels = zip(*points, strict=True)
        rows.append({"dead_zone": width})
        rows[-1] |= {f"psnr at {rate}": round(float(np.interp(np.log(rate), logs, decibels)), 3) for rate in RATES}
        print(rows[-1])
    print(write_results("dead_zone", {"photos": len(photos), "rows": rows}))


def point(codec: PictureCodec, photos: list, analysed: list, quality: int) -> tuple[float, float]:
    """Return log of the mean bits per pixel, and mean PSNR."""
    bpp, decibels = [], []
    for photo, values in zip(photos, analysed, strict=True):
        height, width = photo.shape[:2]
        file = latents.file_of_latents(values, width, height, codec.profile, codec.profile.step_code(quality))
        bpp.append(8 * len(container.write(file)) / (width * height))
        decibels.append(psnr(photo, codec.synthesise(latents.latents_of_file(file), file.header)))
    return float(np.log(np.mean(bpp))), float(np.mean(decibels))


if __name__ == "__main__":
    main()
