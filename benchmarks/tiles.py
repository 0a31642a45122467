"""Do tiles show? Error along their borders, and there without tiles; then time and memory of a large picture.

    python benchmarks/tiles.py FOLDER [--model DIR ...]

Mosaics are made of the pictures in FOLDER. A border is the middle of the overlap of two tiles, to `NEAR` pixels of it.
At the end a mosaic of 6000x4000 is encoded and decoded with default tiles, each by a command of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from report import write_results
from rivals import psnr

import sdtrt
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.tiling import Tiling, choose_tiling

NEAR = 8
SEAMS_SIZE, SEAMS_TILE = (2304, 1536), 1024
LARGE_SIZE = (6000, 4000)
QUALITY = 50

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure seams between tiles, and a large picture's time and memory.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("--model", action="append", default=["tiny"], help="further bundles whose seams are measured")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    pictures = [Image.open(path).convert("RGB") for path in sorted(arguments.folder.glob("*.png"))]
    seams = [measure_seams(model, mosaic(pictures, SEAMS_SIZE), arguments.threads) for model in arguments.model]
    large = measure_commands(mosaic(pictures, LARGE_SIZE))
    print(large)
    print(write_results("tiles", {"size": SEAMS_SIZE, "quality": QUALITY, "seams": seams, "large": large}))


def mosaic(pictures: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return an image of the pictures, one beside the other and again from the first, cut to a size."""
    whole = Image.new("RGB", size)
    x = y = number = row_height = 0
    while y < size[1]:
        picture = pictures[number % len(pictures)]
        whole.paste(picture, (x, y))
        x, number, row_height = x + picture.width, number + 1, max(row_height, picture.height)
        if x >= size[0]:
            x, y, row_height = 0, y + row_height, 0
    return whole


def measure_seams(model: str, image: Image.Image, threads: int | None) -> dict[str, Any]:
    """Return PSNR near tile borders and elsewhere, of an image encoded and decoded with and without tiles."""
    bundle = find_bundle(model)
    original = np.asarray(image)
    found = {}
    for name, tile in {"tiles": SEAMS_TILE, "whole": 0}.items():
        with sdtrt.Codec.open(model, tile=tile, threads=threads) as codec:
            found[name] = np.asarray(codec.decode(codec.encode(image, quality=QUALITY)))
    border = near_borders(choose_tiling(bundle, SEAMS_TILE), original.shape[:2], bundle.latent_profile.downscale)
    row: dict[str, Any] = {
        "model": bundle.name,
        "tile": SEAMS_TILE,
        "equal": bool((found["tiles"] == found["whole"]).all()),
    }
    for name, pixels in found.items():
        for place, where in {"borders": border, "elsewhere": ~border}.items():
            row[f"{name} {place}"] = round(psnr(original[where], pixels[where]), 3)
    print(row)
    return row


def near_borders(tiling: Tiling, size: tuple[int, ...], scale: int) -> NDArray[np.bool_]:
    """Return where a picture's pixels are near a border of tiles, bool (H, W)."""
    near = []
    for side in size:
        lines = np.zeros(side, bool)
        spans = tiling.spans(-(-side // scale))
        for (_, stop), (start, _) in pairwise(spans):
            middle = scale * (start + stop) // 2
            lines[middle - NEAR : middle + NEAR] = True
        near.append(lines)
    return near[0][:, None] | near[1][None, :]


def measure_commands(image: Image.Image) -> dict[str, dict[str, float]]:
    """Return seconds and peak memory, in bytes, of `sdtrt encode` and `sdtrt decode` of an image."""
    with tempfile.TemporaryDirectory() as folder:
        source, packed, back = (str(Path(folder) / name) for name in ("image.png", "image.sdt", "back.png"))
        image.save(source, compress_level=1)
        return {
            name: run_command(name, *paths) for name, *paths in (("encode", source, packed), ("decode", packed, back))
        }


def run_command(name: str, source: str, target: str, *options: str) -> dict[str, float]:
    started = time.perf_counter()
    # Of a child of its own: the peak that is asked for is the largest of all children.
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        sys.executable,
        "-m",
        "sdtrt",
        name,
        "--quiet",
        source,
        "-o",
        target,
        *options,
    ]
    peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"seconds": round(time.perf_counter() - started, 1), "peak_nbytes": int(peak) * 1024}


if __name__ == "__main__":
    main()
