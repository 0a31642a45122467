"""What effort buys: likeness at a size, and what it takes to encode, beside AVIF at two speeds.

    python benchmarks/effort.py FOLDER

Of the pictures every sixth is taken. A figure at the rate is interpolated on the mean curve as in `rate_distortion`;
seconds are the median over all files.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from metrics import METRICS, at_rate, likeness
from PIL import Image
from report import write_results
from rivals import decoded

import sdtrt

RATE = 0.3  # bits per pixel
QUALITIES, AVIF_QUALITIES = (30, 38, 46), (8, 15, 22, 30, 38)  # whose files lie around that
SPEEDS = (4, 0)

Code = Callable[[Image.Image, int], bytes]
Show = Callable[[bytes], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what effort buys.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("--every", type=int, default=6, help="which of the pictures are taken")
    parser.add_argument("-m", "--model", default="tiny", help="name or folder of the bundle")
    arguments = parser.parse_args()
    images = [Image.open(path).convert("RGB") for path in sorted(arguments.folder.glob("*.png"))[:: arguments.every]]
    rows = []

    def add(method: str, code: Code, show: Show, qualities: Sequence[int]) -> None:
        rows.append({"method": method} | measured(images, code, show, qualities))
        print(rows[-1], flush=True)

    with sdtrt.Codec.open(arguments.model) as codec:
        for effort in (5, 6, 7, 9):
            code = partial(by_sdtrt, codec, effort)
            add(f"sdtrt, effort {effort}", code, lambda data: np.asarray(codec.decode(data)), QUALITIES)
    for speed in SPEEDS:
        add(f"AVIF, speed {speed}", partial(by_avif, speed), decoded, AVIF_QUALITIES)
    print(write_results("effort", {"pictures": len(images), "bpp": RATE, "rows": rows}))


def by_sdtrt(codec: sdtrt.Codec, effort: int, image: Image.Image, quality: int) -> bytes:
    return codec.encode(image, quality=quality, effort=effort)


def by_avif(speed: int, image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "AVIF", quality=quality, speed=speed)
    return stream.getvalue()


def measured(images: list[Image.Image], code: Code, show: Show, qualities: Sequence[int]) -> dict[str, float | None]:
    """Return each metric at the rate, None where the curve does not reach it, and the median seconds of an encode."""
    code(images[0], qualities[0])  # whatever is made ready once
    seconds, rates, points = [], [], []
    for quality in qualities:
        found = []
        for image in images:
            start = time.perf_counter()
            data = code(image, quality)
            seconds.append(time.perf_counter() - start)
            found.append(
                (8 * len(data) / (image.width * image.height), *likeness(np.asarray(image), show(data)).values())
            )
        rate, *values = np.mean(found, axis=0)
        rates.append(rate)
        points.append(values)
    figures = zip(METRICS, np.transpose(points), strict=True)
    reached = min(rates) <= RATE <= max(rates)
    at = {metric: round(at_rate(RATE, rates, values), 4) if reached else None for metric, values in figures}
    return at | {"seconds": round(float(np.median(seconds)), 3)}


if __name__ == "__main__":
    main()
