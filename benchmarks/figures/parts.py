"""Tables of network tiles, and of access to parts of a file."""

import math
from collections.abc import Callable
from typing import Any

from figures.text import cell, load_results, markdown, prose, source


def tiles() -> str:
    results = load_results("tiles")
    width, height = results["size"]
    head = [f"{width}x{height}, tiles of {results['seams'][0]['tile']}", "borders, PSNR dB", "there without tiles"]
    columns = ("tiles borders", "whole borders", "tiles elsewhere", "whole elsewhere")
    rows = [[row["model"], *(f"{row[key]:.3f}" for key in columns)] for row in results["seams"]]
    large = " ".join(
        f"{name}: {times['seconds']:.0f} s, {times['peak_nbytes'] / 1e9:.2f} GB at most."
        for name, times in results["large"].items()
    )
    table = markdown([*head, "elsewhere", "elsewhere without tiles"], rows)
    large = prose(f"An image of 6000x4000, with default tiles: {large}")
    return f"{table}\n\n{large}\n{source(results)}"


def access() -> str:
    results = load_results("access")
    photos = results["photos"]
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("megapixels", lambda p: f"{math.prod(p['size']) / 1e6:.1f}"),
        ("bytes at quality 50", lambda p: f"{p['nbytes']:,}"),
        *(
            (f"larger than one stream, quality {q}, %", lambda p, q=q: f"{p['division_percent'][q]:.2f}")
            for q in photos[0]["division_percent"]
        ),
        ("entropy decoding, 2 threads against 1, times as fast", lambda p: f"{p['entropy_speedup_of_2_threads']:.2f}"),
        ("region of 512x512, ms", lambda p: f"{p['region_ms']:.0f}"),
        ("against a file of that size, times as long", lambda p: f"{p['region_ratio']:.2f}"),
        ("preview at 1/8, ms", lambda p: f"{p['preview_ms']:.0f}"),
        ("of the time of decoding, %", lambda p: f"{p['preview_percent_of_decode']:.1f}"),
        ("PSNR of the preview", lambda p: f"{p['preview_psnr']:.2f}"),
        ("PSNR of the whole image, reduced to 1/8", lambda p: f"{p['reduced_psnr']:.2f}"),
        ("PSNR of the first 25 % of the bytes", lambda p: f"{p['prefix_psnr']:.2f}"),
        ("PSNR of a whole file of so many bytes", lambda p: cell(p["whole_file_of_so_many_bytes_psnr"], 2)),
    ]
    rows = [[name, *(value(photo) for photo in photos)] for name, value in lines]
    table = markdown(["", *(photo["photo"].partition("_")[0] for photo in photos)], rows)
    return f"{table}\n\n{source(results)}"


def access_huge() -> str:
    results = load_results("access_huge")
    width, height = results["size"]
    peaks = {name: f"{results[name]['peak_nbytes'] / 1e9:.2f} GB" for name in ("encode", "decode")}
    text = f"A mosaic of {width}x{height} takes {peaks['encode']} to encode at most, {peaks['decode']} to decode."
    return f"{prose(text)}\n{source(results)}"


TABLES = {
    "tiles": tiles,
    "access": access,
    "access_huge": access_huge,
}
