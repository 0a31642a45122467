"""Whether overlays are put where they pay: training pictures that are given one over a part, beside files without it.

    python benchmarks/overlays.py PHOTOS PAGES

PHOTOS and PAGES are folders of training pictures, never those on which the codec is measured; pages are those that
`make pages` makes for training. What is told is squared error plus bits at the price of the quality, relative to the
same of a file without overlay: below 0 the overlay pays.
"""

import argparse
import functools
import itertools
import statistics
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image
from report import write_results

from sdtrt.engine import codec as pictures
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import operating_point
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.overlay import choose_overlay

QUALITIES = (15, 30, 50, 80)
SHARES = (0.0, 0.1, 0.4, 1.0)  # of pixels, covered


class Overlay(NamedTuple):
    """An overlay over a `share` of a picture, and by how much more the file costs with it."""

    share: float
    more: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure whether overlays pay.")
    parser.add_argument("photos", type=Path, help="folder of training photos")
    parser.add_argument("pages", type=Path, help="folder of training pictures that are no photos")
    arguments, rows = parser.parse_args(), []
    for kind, folder in (("photos", arguments.photos), ("pages", arguments.pages)):
        paths = sorted(p for p in folder.iterdir() if p.suffix in {".png", ".webp", ".jpg"})
        with ProcessPoolExecutor() as pool:
            found = [one for some in pool.map(overlays_of, paths, chunksize=4) for one in some]
        for low, high in itertools.pairwise(SHARES):
            rows.append({"kind": kind, "covered": f"{low:.0%} to {high:.0%}"} | summary(found, low, high))
            print(rows[-1])
    print(write_results("overlays", {"rows": rows}))


def summary(overlays: list[Overlay], low: float, high: float) -> dict[str, Any]:
    gains = [one.more for one in overlays if low < one.share <= high]
    return {
        "files": len(gains),
        "dearer": sum(more > 0 for more in gains),
        "mean": round(statistics.fmean(gains or [0.0]), 4),
        "worst": round(max(gains, default=0.0), 4),
    }


def overlays_of(path: Path) -> list[Overlay]:
    """Return the overlays that a picture is given over a part of it."""
    pixels, found = np.asarray(Image.open(path).convert("RGB")), []
    for quality in QUALITIES:
        overlay = choose_overlay(pixels, operating_point(quality, layers=2).lmbda)
        share = 0.0 if overlay is None else float((overlay[:, :, 3] > 0).mean())
        if 0 < share < 1:
            found.append(Overlay(share, cost(pixels, quality, True) / cost(pixels, quality, False) - 1))
    return found


def cost(pixels: Any, quality: float, overlays: bool) -> float:
    """Return what a picture's file costs: squared error, and bits at their price."""
    codec, known = opened(), operating_point(quality, layers=2)
    with nullcontext() if overlays else mock.patch.object(pictures, "overlay_for", return_value=None):
        data = codec.encode(ImageData(pixels), EncodeOptions(quality=quality))
    error = np.square(pixels.astype(np.float64) - codec.decode(data).pixels).sum()
    return float(error) + known.lmbda * 8 * len(data)


@functools.cache
def opened() -> pictures.EngineCodec:
    return pictures.EngineCodec("tiny", threads=1)


if __name__ == "__main__":
    main()
