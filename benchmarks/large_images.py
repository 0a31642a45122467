"""Large images: seams between network tiles, and access to parts of a file.

    python benchmarks/large_images.py KODAK --seams [--model BUNDLE ...]
    python benchmarks/large_images.py PHOTO [PHOTO...]
    python benchmarks/large_images.py PHOTO [PHOTO...] --huge 20000

`--seams`: PSNR near the borders of network tiles and elsewhere, on a mosaic of the images of a folder, encoded with
tiles and without. A border is the middle of the overlap of two tiles, up to `NEAR` pixels from it. Then time and memory
of the commands `sdtrt encode` and `sdtrt decode` for a mosaic of 6000x4000 pixels.
PHOTO, of about 12 megapixels: the cost of coding tiles in bytes, and the time and PSNR of regions, previews, prefixes
and damaged files. Times are medians of `RUNS` runs after a warm-up; calls that are compared take turns.
`--huge`: time and memory of the commands for a mosaic of the photos with SIDE x SIDE pixels.

NumPy's products run in one thread, as in the command `sdtrt`.
"""

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from harness import Pixels, image_paths, interleaved_ms, open_rgb, run_sdtrt, write_results
from numpy.typing import NDArray
from PIL import Image

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.latent_file import encode_latents_to_file
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.format.layout import tile_spans
from sdtrt.engine.image import psnr
from sdtrt.engine.layers.layer_reader import box_downscale
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.tiling import Tiling, choose_tiling
from sdtrt.process.threads import limit_blas_to_one_thread

QUALITY = 50


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure large images.")
    parser.add_argument("images", type=Path, nargs="+", help="photos, or with --seams a folder of images")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--seams", action="store_true", help="measure seams between network tiles")
    mode.add_argument("--huge", type=int, metavar="SIDE", help="measure a mosaic of SIDE x SIDE pixels")
    parser.add_argument("--model", action="append", default=["tiny"], help="with --seams: further bundles")
    parser.add_argument("--threads", type=int, help="with --seams: threads of the networks")
    arguments = parser.parse_args()
    limit_blas_to_one_thread()
    Image.MAX_IMAGE_PIXELS = None
    if arguments.seams:
        name, figures = "tiles", measure_tiles(arguments.images[0], arguments.model, arguments.threads)
    elif arguments.huge:
        name, figures = "access_huge", measure_huge(arguments.images, arguments.huge)
    else:
        name, figures = "access", {"quality": QUALITY, "photos": [measure_access(path) for path in arguments.images]}
    print(write_results(name, figures))


def mosaic(images: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return an image of a size (width, height), filled with the images row by row, again from the first if needed."""
    target = Image.new("RGB", size)
    x = y = number = row_height = 0
    while y < size[1]:
        image = images[number % len(images)]
        target.paste(image, (x, y))
        x, number, row_height = x + image.width, number + 1, max(row_height, image.height)
        if x >= size[0]:
            x, y, row_height = 0, y + row_height, 0
    return target


def measure_commands(image: Image.Image) -> dict[str, Any]:
    """Return seconds and peak memory of `sdtrt encode` and `sdtrt decode` for an image, and the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        source, encoded, decoded = (Path(folder) / name for name in ("image.png", "image.sdt", "decoded.png"))
        image.save(source, compress_level=1)
        limit = ("--quiet", "--max-pixels", str(image.width * image.height))
        return {
            "encode": run_sdtrt("encode", source, "-o", encoded, *limit),
            "nbytes": encoded.stat().st_size,
            "decode": run_sdtrt("decode", encoded, "-o", decoded, *limit),
        }


def measure_huge(paths: Sequence[Path], side: int) -> dict[str, Any]:
    image = mosaic([open_rgb(path) for path in paths], (side, side))
    figures = {"size": [side, side], **measure_commands(image)}
    print(figures, flush=True)
    return figures


# Seams

NEAR = 8  # pixels
SEAMS_SIZE, SEAMS_TILE = (2304, 1536), 1024
LARGE_SIZE = (6000, 4000)


def measure_tiles(folder: Path, models: list[str], threads: int | None) -> dict[str, Any]:
    images = [open_rgb(path) for path in image_paths(folder)]
    seams = [measure_seams(model, mosaic(images, SEAMS_SIZE), threads) for model in models]
    commands = measure_commands(mosaic(images, LARGE_SIZE))
    print(commands)
    large = {name: commands[name] for name in ("encode", "decode")}
    return {"size": SEAMS_SIZE, "quality": QUALITY, "seams": seams, "large": large}


def measure_seams(model: str, image: Image.Image, threads: int | None) -> dict[str, Any]:
    """Return PSNR near tile borders and elsewhere, of an image coded with tiles and without."""
    bundle, original, decoded = find_bundle(model), np.asarray(image), {}
    for name, tile in {"tiles": SEAMS_TILE, "whole": 0}.items():
        with sdtrt.Codec.open(model, tile=tile, threads=threads) as codec:
            decoded[name] = np.asarray(codec.decode(codec.encode(image, quality=QUALITY)))
    border = near_borders(choose_tiling(bundle, SEAMS_TILE), original.shape[:2], bundle.latent_profile.downscale)
    equal = bool((decoded["tiles"] == decoded["whole"]).all())
    row: dict[str, Any] = {"model": bundle.name, "tile": SEAMS_TILE, "equal": equal}
    for name, pixels in decoded.items():
        for place, mask in {"borders": border, "elsewhere": ~border}.items():
            row[f"{name} {place}"] = round(psnr(original[mask], pixels[mask]), 3)
    print(row)
    return row


def near_borders(tiling: Tiling, size: tuple[int, ...], downscale: int) -> NDArray[np.bool_]:
    """Return a mask of the pixels near a border of tiles, bool (H, W)."""
    masks = []
    for side in size:
        mask = np.zeros(side, bool)
        for (_, stop), (start, _) in pairwise(tiling.spans(-(-side // downscale))):
            middle = downscale * (start + stop) // 2
            mask[middle - NEAR : middle + NEAR] = True
        masks.append(mask)
    return masks[0][:, None] | masks[1][None, :]


# Access to parts

QUALITIES = (25, 50, 75)
RUNS = 3
REGION_SIDE = 512  # pixels
REGIONS = 5
PREFIX = 0.25
ONE_STREAM = 1 << 20  # latents a side, of a coding tile that covers any image


def measure_access(path: Path) -> dict[str, Any]:
    pixels = np.asarray(open_rgb(path))
    with sdtrt.Codec.open() as codec:
        data = codec.encode(pixels, quality=QUALITY)
        decoded = np.asarray(codec.decode(data))
        row = {
            "photo": path.stem,
            "size": [pixels.shape[1], pixels.shape[0]],
            "nbytes": len(data),
            "division_percent": cost_of_tiles(pixels),
            "entropy_speedup_of_2_threads": entropy_speedup(data),
            **measure_regions(codec, data, decoded),
            **measure_preview(codec, data, decoded, pixels),
            **measure_prefix(codec, data, pixels),
            "damage": measure_damage(codec, data, decoded),
        }
    print(row, flush=True)
    return row


def cost_of_tiles(pixels: Pixels) -> dict[str, float]:
    """Return the percentage by which a file with coding tiles is larger than one of a single stream, by quality."""
    codec, (height, width) = EngineCodec("tiny"), pixels.shape[:2]
    latents, default_tile = codec.analyse(pixels), latent_file.TILE
    percentages = {}
    for quality in QUALITIES:
        sizes = []
        for tile in (default_tile, ONE_STREAM):
            latent_file.TILE = tile
            file = encode_latents_to_file(latents, width, height, codec.profile, codec.profile.step_code(quality))
            sizes.append(len(container.write(file)))
        latent_file.TILE = default_tile
        percentages[str(quality)] = round(100 * (sizes[0] / sizes[1] - 1), 2)
    return percentages


def entropy_speedup(data: bytes) -> float:
    """Return the time of one thread over that of two threads, to entropy-decode the two halves of a file."""
    file = container.read(data)
    rows_of_tiles = tile_spans(LatentReader(file).shape[1], file.layout.rows)
    middle = rows_of_tiles[len(rows_of_tiles) // 2][0]
    halves = [(0, middle), (middle, rows_of_tiles[-1][1])]

    def decode(rows: tuple[int, int]) -> None:
        LatentReader(file).crop(rows, (0, LatentReader(file).shape[2]))

    with ThreadPoolExecutor(2) as pool:
        one, two = interleaved_ms(
            [lambda: [decode(rows) for rows in halves], lambda: [*pool.map(decode, halves)]], RUNS
        )
    return round(one / two, 2)


def measure_regions(codec: sdtrt.Codec, data: bytes, decoded: Pixels) -> dict[str, Any]:
    """Return times of regions of a file on disk, beside a file of the region's size, and whether pixels are equal."""
    rng, (height, width) = np.random.default_rng(1), decoded.shape[:2]
    small_file = codec.encode(decoded[:REGION_SIDE, :REGION_SIDE], quality=QUALITY)
    times, equal = [], True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.sdt"
        path.write_bytes(data)
        for _ in range(REGIONS):
            left, top = int(rng.integers(width - REGION_SIDE)), int(rng.integers(height - REGION_SIDE))
            region = (left, top, REGION_SIDE, REGION_SIDE)
            expected = decoded[top : top + REGION_SIDE, left : left + REGION_SIDE]
            equal &= bool((np.asarray(codec.decode(path, region=region)) == expected).all())
            calls: list[Callable[[], Any]] = [
                lambda region=region: codec.decode(path, region=region),
                lambda: codec.decode(small_file),
            ]
            times.append(interleaved_ms(calls, RUNS))
    return {
        "region_ms": round(statistics.median(region for region, _ in times), 1),
        "file_of_that_size_ms": round(statistics.median(file for _, file in times), 1),
        "region_ratio": round(statistics.median(region / file for region, file in times), 2),
        "regions_equal": equal,
    }


def measure_preview(codec: sdtrt.Codec, data: bytes, decoded: Pixels, original: Pixels) -> dict[str, Any]:
    """Return the times of the preview and of the complete image, and their PSNR at an eighth of the size."""
    preview_ms, decode_ms = interleaved_ms([lambda: codec.preview(data), lambda: codec.decode(data)], RUNS)
    expected = box_downscale(original, 8)
    return {
        "preview_ms": round(preview_ms, 1),
        "decode_ms": round(decode_ms, 1),
        "preview_percent_of_decode": round(100 * preview_ms / decode_ms, 2),
        "preview_psnr": round(psnr(expected, np.asarray(codec.preview(data))), 2),
        "reduced_psnr": round(psnr(expected, box_downscale(decoded, 8)), 2),
    }


def measure_prefix(codec: sdtrt.Codec, data: bytes, original: Pixels) -> dict[str, Any]:
    """Return the PSNR of the first quarter of a file, and of a complete file of the same number of bytes."""
    prefix = data[: int(PREFIX * len(data))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sdtrt.ImageWarning)
        decoded = np.asarray(codec.decode(prefix, partial=True))
    try:
        complete = psnr(original, np.asarray(codec.decode(codec.encode(original, max_bytes=len(prefix)))))
    except ValueError:  # the smallest file is larger
        complete = None
    return {
        "prefix_psnr": round(psnr(original, decoded), 2),
        "whole_file_of_so_many_bytes_psnr": None if complete is None else round(complete, 2),
    }


def measure_damage(codec: sdtrt.Codec, data: bytes, decoded: Pixels) -> dict[str, Any]:
    """Return the box (left, top, right, bottom) of the pixels that a flipped bit changes, and the warnings."""
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        salvaged = np.asarray(codec.decode(bytes(damaged), partial=True))
    rows, columns = np.nonzero((salvaged != decoded).any(2))
    box = [int(n) for n in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    return {"changed_box": box, "said": [str(warning.message) for warning in caught]}


if __name__ == "__main__":
    main()
