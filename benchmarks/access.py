"""Parts of large pictures: what division into tiles costs, and what regions, previews, prefixes and damage bring.

    python benchmarks/access.py PHOTO [PHOTO...]
    python benchmarks/access.py PHOTO [PHOTO...] --huge 20000

PHOTO is a photo of some 12 megapixels. Times are medians of `RUNS` runs after one that does not count; what is
compared is run in turn. With `--huge`, instead, a mosaic of the photos of so many pixels a side is encoded and decoded
by the command line, each in a process of its own, for the peak of its memory. NumPy's products run in one thread, as
in the command `sdtrt`. Not measured: GPUs, other models.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from report import write_results
from rivals import psnr
from tiles import mosaic, run_command

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.latent_file import encode_latents_to_file
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.format.layout import tile_spans
from sdtrt.engine.layers.preview import box_downscale
from sdtrt.process.threads import limit_blas_to_one_thread

QUALITIES = (25, 50, 75)
QUALITY = 50
RUNS = 3
SIDE = 512  # pixels, of a region
REGIONS = 5
PREFIX = 0.25

Pixels = NDArray[np.uint8]


def main() -> None:
    limit_blas_to_one_thread()
    parser = argparse.ArgumentParser(description="Measure access to parts of large pictures.")
    parser.add_argument("photos", type=Path, nargs="+", help="photos of some 12 megapixels")
    parser.add_argument("--huge", type=int, metavar="SIDE", help="measure a mosaic of so many pixels a side")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    if options.huge:
        print(write_results("access_huge", measure_huge(options.photos, options.huge)))
    else:
        rows = [measure(path) for path in options.photos]
        print(write_results("access", {"quality": QUALITY, "photos": rows}))


def measure(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    with sdtrt.Codec.open() as codec:
        data = codec.encode(pixels, quality=QUALITY)
        whole = np.asarray(codec.decode(data))
        row = {
            "photo": path.stem,
            "size": [pixels.shape[1], pixels.shape[0]],
            "nbytes": len(data),
            "division_percent": division(pixels),
            "entropy_speedup_of_2_threads": entropy_speedup(data),
            **regions(codec, data, whole),
            **previews(codec, data, whole, pixels),
            **prefixes(codec, data, pixels),
            "damage": damage(codec, data, whole),
        }
    print(row, flush=True)
    return row


def division(pixels: Pixels) -> dict[str, float]:
    """Return by how many per cent files are larger than those of a single stream, by quality."""
    codec, (height, width) = EngineCodec("tiny"), pixels.shape[:2]
    planes, usual = codec.analyse(pixels), latent_file.TILE
    found = {}
    for quality in QUALITIES:
        sizes = []
        for tile in (usual, 1 << 20):
            latent_file.TILE = tile
            file = encode_latents_to_file(planes, width, height, codec.profile, codec.profile.step_code(quality))
            sizes.append(len(container.write(file)))
        latent_file.TILE = usual
        found[str(quality)] = round(100 * (sizes[0] / sizes[1] - 1), 2)
    return found


def entropy_speedup(data: bytes) -> float:
    """Return how many times as fast two threads decode the streams of a file's two halves as one does both."""
    file = container.read(data)
    rows_of_tiles = tile_spans(LatentReader(file).shape[1], file.layout.rows)
    middle = rows_of_tiles[len(rows_of_tiles) // 2][0]
    halves = [(0, middle), (middle, rows_of_tiles[-1][1])]

    def decode(rows: tuple[int, int]) -> None:
        LatentReader(file).read(rows)

    with ThreadPoolExecutor(2) as pool:
        one, two = in_turn(lambda: [decode(rows) for rows in halves], lambda: [*pool.map(decode, halves)])
    return round(one / two, 2)


def regions(codec: sdtrt.Codec, data: bytes, whole: Pixels) -> dict[str, Any]:
    """Return times of regions, from a file on disk, and of a file of that size; and whether all were equal."""
    rng, (height, width) = np.random.default_rng(1), whole.shape[:2]
    small = codec.encode(whole[:SIDE, :SIDE], quality=QUALITY)
    times, equal = [], True
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "photo.sdt"
        stored.write_bytes(data)
        for _ in range(REGIONS):
            left, top = int(rng.integers(width - SIDE)), int(rng.integers(height - SIDE))
            place = (left, top, SIDE, SIDE)
            found = np.asarray(codec.decode(stored, region=place))
            equal &= bool((found == whole[top : top + SIDE, left : left + SIDE]).all())
            times.append(in_turn(lambda place=place: codec.decode(stored, region=place), lambda: codec.decode(small)))
    ratios = [region / file for region, file in times]
    return {
        "region_ms": round(1e3 * statistics.median(region for region, _ in times), 1),
        "file_of_that_size_ms": round(1e3 * statistics.median(file for _, file in times), 1),
        "region_ratio": round(statistics.median(ratios), 2),
        "regions_equal": equal,
    }


def previews(codec: sdtrt.Codec, data: bytes, whole: Pixels, original: Pixels) -> dict[str, Any]:
    """Return times of preview and whole picture, and their PSNR at an eighth of the size."""
    preview, everything = in_turn(lambda: codec.preview(data), lambda: codec.decode(data))
    expected = box_downscale(original, 8)
    return {
        "preview_ms": round(1e3 * preview, 1),
        "decode_ms": round(1e3 * everything, 1),
        "preview_percent_of_decode": round(100 * preview / everything, 2),
        "preview_psnr": round(psnr(expected, np.asarray(codec.preview(data))), 2),
        "reduced_psnr": round(psnr(expected, box_downscale(whole, 8)), 2),
    }


def prefixes(codec: sdtrt.Codec, data: bytes, original: Pixels) -> dict[str, Any]:
    """Return the PSNR of the first quarter of a file, and of a whole file of so many bytes."""
    part = data[: int(PREFIX * len(data))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sdtrt.ImageWarning)
        found = np.asarray(codec.decode(part, partial=True))
    try:
        complete = np.asarray(codec.decode(codec.encode(original, max_bytes=len(part))))
    except ValueError:  # fewer bytes than the smallest file has
        complete = None
    return {
        "prefix_psnr": round(psnr(original, found), 2),
        "whole_file_of_so_many_bytes_psnr": None if complete is None else round(psnr(original, complete), 2),
    }


def damage(codec: sdtrt.Codec, data: bytes, whole: Pixels) -> dict[str, Any]:
    """Return what one flipped bit changes: a rectangle of pixels, none outside it."""
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = np.asarray(codec.decode(bytes(damaged), partial=True))
    rows, columns = np.nonzero((found != whole).any(2))
    box = [int(n) for n in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    return {"changed_box": box, "said": [str(warning.message) for warning in told]}


def measure_huge(photos: Sequence[Path], side: int) -> dict[str, Any]:
    """Return seconds and peak memory, in bytes, of encoding and decoding a mosaic of so many pixels a side."""
    pictures = []
    for path in photos:
        with Image.open(path) as image:
            pictures.append(image.convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        source, packed, back = (str(Path(folder) / name) for name in ("image.png", "image.sdt", "back.png"))
        mosaic(pictures, (side, side)).save(source, compress_level=1)
        limit = ["--max-pixels", str(side * side)]
        found: dict[str, Any] = {"size": [side, side]}
        found["encode"] = run_command("encode", source, packed, *limit)
        found["nbytes"] = Path(packed).stat().st_size
        found["decode"] = run_command("decode", packed, back, *limit)
    print(found, flush=True)
    return found


def in_turn(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of two calls, each done once before and then in turn."""
    times: list[list[float]] = [[], []]
    for call in (first, second):
        call()
    for _ in range(RUNS):
        for call, taken in zip((first, second), times, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
