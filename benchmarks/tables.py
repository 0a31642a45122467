"""Write the README's tables from `results/`: figures are generated, never typed.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table: name -->` and `<!-- end -->`. With `--check` nothing is written, and the exit code
is 1 if a table is not what its results say.
"""

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{page}.md"
        for page in (
            "comparison",
            "quality",
            "tiny",
            "embedding",
            "export",
            "images",
            "parts",
            "serve",
            "dataset",
            "scale",
            "browser",
        )
    ),
)
PROFILES = {"sd1": "sd1-1", "tiny": "tiny-1"}
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables from the results.")
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text()
        fresh = MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)
        if fresh != text:
            stale.append(page.name)
            if not check:
                page.write_text(fresh)
    if check and stale:
        print(f"tables of {', '.join(stale)} are stale; run: python benchmarks/tables.py", file=sys.stderr)
    return 1 if check and stale else 0


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "results" / f"{name}.json").read_text())
    return found


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str) -> str:
    """Return a paragraph wrapped as all prose is: at 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def rate_distortion() -> str:
    return f"{at_rates('psnr')}\n\n{source(results('rate_distortion'))}"


def ms_ssim() -> str:
    return at_rates("ms_ssim")


def ssimulacra2() -> str:
    return at_rates("ssimulacra2")


def at_rates(metric: str) -> str:
    rows = results("rate_distortion")["at_rates"]
    codecs = list(rows[0][metric])
    digits = 4 if metric == "ms_ssim" else 2
    cells = [[f"{row['bpp']:.2f}", *(cell(row[metric][c], digits) for c in codecs)] for row in rows]
    return markdown(["bits per pixel", *codecs], cells)


def cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def rate() -> str:
    found = results("rate")
    rows = [
        [row["method"], f"{row['bytes']:,}", f"{row['mse']:.2g}", f"{row['ms']:.0f}" if "ms" in row else ""]
        for row in found["rows"]
    ]
    head = ["4x64x64 latents of 512x512 pixels", "bytes", "mean squared error", "ms to encode and decode"]
    ratio = (
        f"The payload is {found['over_cross_entropy']:.3f} times what the prior's own tables say that the symbols cost."
    )
    return f"{markdown(head, rows)}\n\n{ratio}\n{source(found)}"


def latent_error() -> str:
    rows = [
        [f"{row['quality']}", f"{row['bytes']:,}", f"{row['mse']:.2g}", f"{row['relative']:.1%}"]
        for row in results("rate")["qualities"]
    ]
    return markdown(["quality", "bytes", "mean squared error", "error over latents, rms"], rows)


def denoise_sd1() -> str:
    return denoising("denoise_sd1")


def denoise_tiny() -> str:
    return denoising("denoise_tiny")


def denoising(name: str) -> str:
    found = results(name)
    head = ["files", "bytes", "steps", "error of latents", "PSNR dB", "MS-SSIM", "SSIMULACRA2"]
    rows = []
    for r in found["rows"]:
        about = r["files"], f"{r['bytes']:,.0f}", f"{r['steps'] or 'none'}"
        likeness = f"{r['psnr']:.2f}", f"{r['ms_ssim']:.4f}", f"{r['ssimulacra2']:.1f}"
        rows.append([*about, f"{r['error']:.4f}", *likeness])
    return f"{markdown(head, rows)}\n\n{source(found)}"


def overlays() -> str:
    found = results("overlays")
    rows = [
        [r["kind"], r["covered"], f"{r['files']}", f"{r['mean']:+.1%}", f"{r['dearer']}", f"{r['worst']:+.1%}"]
        for r in found["rows"]
    ]
    head = ["pictures", "covered by the overlay", "files", "cost", "files that cost more", "at worst"]
    return f"{markdown(head, rows)}\n\n{source(found)}"


def steps() -> str:
    folder = ROOT / "engine" / "data" / "profiles"
    profiles = [json.loads((folder / f"{name}.json").read_text()) for name in PROFILES.values()]
    rows = []
    for quality in (1, 10, 25, 50, 75, 90, 100):
        codes = [p["step_codes"][0] + (p["step_codes"][1] - p["step_codes"][0]) * (quality - 1) / 99 for p in profiles]
        rows.append([f"{quality}", *(f"{2 ** ((round(code) - 2048) / 256):.3f}" for code in codes)])
    return markdown(["quality", *(f"step of {space}" for space in PROFILES)], rows)


def speed() -> str:
    found = results("speed")
    rows = [
        [name, f"{1000 * times['encode']:.0f}", f"{1000 * times['decode']:.0f}"]
        for name, times in found["codecs"].items()
    ]
    table = markdown(["768x512, quality 50", "encode ms", "decode ms"], rows)
    memory = found["peak_memory_nbytes"] / 1e6
    small = (
        f"Peak memory of a process that encodes and decodes one such picture: {memory:.0f} MB. "
        f"`import sdtrt`: {1000 * found['import_seconds']:.0f} ms; the command `sdtrt info`: "
        f"{1000 * found['info_command_seconds']:.0f} ms."
    )
    return f"{table}\n\n{prose(small)}\n{source(found)}"


def browser() -> str:
    found = results("browser")
    width, height = found["size"]
    parts = ("entropy", "network", "rest", "whole")
    names = {"chromium": found["browser"].replace("Chrome/", "Chromium "), "python": "Python"}
    rows = [
        [name, f"{row['threads']}", *(f"{row[where][part]:.0f}" for part in parts), times_as_long(row, where)]
        for row in found["rows"]
        for where, name in names.items()
    ]
    head = [f"ms to decode {width}x{height}, quality {found['quality']}", "threads", "entropy stage", "network", "rest"]
    return f"{markdown([*head, 'all', 'times as long'], rows)}\n\n{source(found)}"


def times_as_long(row: dict[str, Any], where: str) -> str:
    return f"{row['ratio']:.1f}" if where == "chromium" else "1"


def entropy() -> str:
    found = results("speed")
    rows = [[name, f"{ms['encode']:.1f}", f"{ms['decode']:.1f}"] for name, ms in found["entropy_ms"].items()]
    return markdown(["entropy stage", "encode ms", "decode ms"], rows)


def blockiness() -> str:
    found = results("blockiness")
    rows = [
        [f"{row['quality']}", *(f"{row[c]:.3f}" for c in ("original", "sdtrt", "JPEG"))]
        for row in found["border_step_over_inside_step"]
    ]
    return markdown(["quality", "original", "sdtrt", "JPEG of as many bytes"], rows)


def tiles() -> str:
    found = results("tiles")
    width, height = found["size"]
    head = [f"{width}x{height}, tiles of {found['seams'][0]['tile']}", "borders, PSNR dB", "there without tiles"]
    columns = ("tiles borders", "whole borders", "tiles elsewhere", "whole elsewhere")
    rows = [[row["model"], *(f"{row[key]:.3f}" for key in columns)] for row in found["seams"]]
    large = " ".join(
        f"{name}: {times['seconds']:.0f} s, {times['peak_nbytes'] / 1e9:.2f} GB at most."
        for name, times in found["large"].items()
    )
    table = markdown([*head, "elsewhere", "elsewhere without tiles"], rows)
    large = prose(f"A picture of 6000x4000, with default tiles: {large}")
    return f"{table}\n\n{large}\n{source(found)}"


def access() -> str:
    found = results("access")
    photos = found["photos"]
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
        ("PSNR of the whole picture, reduced to 1/8", lambda p: f"{p['reduced_psnr']:.2f}"),
        ("PSNR of the first 25 % of the bytes", lambda p: f"{p['prefix_psnr']:.2f}"),
        ("PSNR of a whole file of so many bytes", lambda p: cell(p["whole_file_of_so_many_bytes_psnr"], 2)),
    ]
    rows = [[name, *(value(photo) for photo in photos)] for name, value in lines]
    table = markdown(["", *(photo["photo"].partition("_")[0] for photo in photos)], rows)
    return f"{table}\n\n{source(found)}"


def access_huge() -> str:
    found = results("access_huge")
    width, height = found["size"]
    peaks = {name: f"{found[name]['peak_nbytes'] / 1e9:.2f} GB" for name in ("encode", "decode")}
    text = f"A mosaic of {width}x{height} takes {peaks['encode']} to encode at most, {peaks['decode']} to decode."
    return f"{prose(text)}\n{source(found)}"


def strip() -> str:
    rows = [
        [row["photo"], *(f"{row[c]['bytes']:,} / {row[c]['psnr']:.2f}" for c in ("sdtrt", "WebP", "JPEG"))]
        for row in results("strip")["rows"]
    ]
    return markdown(["bytes / PSNR dB", "sdtrt", "WebP", "JPEG"], rows)


def export_full_size() -> str:
    found = results("export_full_size")
    steps = [[s["step"], f"{s['seconds']:.0f}", f"{s['peak_nbytes'] / 1e9:.1f}"] for s in found["steps"]]
    engines = [
        [e["network"], e["target"], f"{e['nbytes'] / 1e6:.0f}", f"{e['seconds']:.1f}", e["library"]]
        for e in found["engines"]
    ]
    counts = {name: f"{n / 1e6:.1f} M" for name, n in found["parameters"].items()}
    return (
        f"Stable Diffusion 1.x at its true size (VAE {counts['vae']} parameters, UNet {counts['unet']}; "
        "random weights):\n\n"
        f"{markdown(['step', 'seconds', 'peak memory GB'], steps)}\n\n"
        f"{markdown(['engine, 512x512', 'target', 'MB', 'seconds', 'library'], engines)}\n\n{source(found)}"
    )


def export_families() -> str:
    found = results("export_families")
    rows = [[row["family"], *family_figures(row)] for row in found["rows"]]
    head = ["true size, random weights", "parameters, M", "ONNX, MB", "seconds", "peak memory, GB"]
    head += ["difference from torch: encoder, decoder"]
    return f"{markdown(head, rows)}\n\n{source(found)}"


def family_figures(row: dict[str, Any]) -> list[str]:
    """Return the cells of one family: figures, or why there are none."""
    if "failed" in row:
        return ["", "", "", "", row["failed"]]
    whole = [row["whole"][part] for part in ("encoder", "decoder")]
    return [
        f"{row['parameters'] / 1e6:.1f}",
        f"{sum(row['files'].values()) / 1e6:.0f}",
        f"{row['seconds']:.0f}",
        f"{row['peak_nbytes'] / 1e9:.1f}",
        ", ".join(f"{part['mean']:.0e}" for part in whole),
    ]


def source(found: dict[str, Any]) -> str:
    return prose(f"`{found['command']}`, {found['machine']}, {found['date']}.")


def fidelity(name: str) -> str:
    found = results(f"fidelity_{name}")
    rows = found["at_rates"]
    codecs = list(rows[0]["psnr"])

    def cell(row: dict[str, Any], codec: str) -> str:
        value = row["psnr"][codec]
        return "-" if value is None else f"{value:.2f} / {row['ssimulacra2'][codec]:.0f}"

    lines = [
        [f"{row['bpp']:.2f}", *(cell(row, codec) for codec in codecs)] for row in rows if any(row["psnr"].values())
    ]
    return f"{markdown(['bits per pixel', *codecs], lines)}\n\n{source(found)}"


def fidelity_region() -> str:
    found = results("fidelity_region")
    lines = [[part, f"{found[part]:.2f}", f"{found[f'{part}_without']:.2f}"] for part in ("region", "rest")]
    return f"{markdown(['PSNR dB of the', 'with `--roi`', 'without'], lines)}\n\n{source(found)}"


def fidelity_time() -> str:
    found = results("fidelity_time")
    lines = [
        [str(row["quality"]), f"{row['without']:.0f}", f"{row['layers']:.0f}", f"{row['share']:.0%}"]
        for row in found["rows"]
    ]
    head = ["quality", "decoding without layers, ms", "layers, ms", "share"]
    return f"{markdown(head, lines)}\n\n{source(found)}"


def backends() -> str:
    found = results("backends")
    lines = [
        [
            f"{row['backend']}, {row['precision']}",
            *(f"{row[f'{verb}_ms']:.0f}" for verb in ("command", "encode", "decode", "service")),
            f"{row['peak_nbytes'] / 1e6:.0f}",
        ]
        for row in found["choices"]
    ]
    calls = ("one `sdtrt decode`", "encode", "decode", "decode by 4 threads")
    return f"{markdown(['', *(f'{call}, ms' for call in calls), 'memory, MB'], lines)}\n\n{source(found)}"


GPU_ROWS = {  # of whom, section, and what it calls decoding and encoding
    "SD 1.x: PyTorch, networks alone": ("torch", "decode", "encode"),
    "the same, `torch.compile`": ("torch-compiled", "decode", "encode"),
    "PyTorch, with sdtrt's kernels": ("sd1-torch", "synthesise", "analyse"),
    "ONNX Runtime, with sdtrt's kernels": ("sd1-ort", "synthesise", "analyse"),
    "ONNX Runtime, whole calls": ("sd1-ort", "decode", "encode"),
    "`tiny`: ONNX Runtime, with kernels": ("tiny-ort", "synthesise", "analyse"),
    "whole calls": ("tiny-ort", "decode", "encode"),
}
GPU_SIZES = ("512x512, batch 1", "512x512, batch 8", "1024x1024, batch 1")


def gpu() -> str:
    found = results("gpu_check")
    lines = []
    for name, (section, *verbs) in GPU_ROWS.items():
        figures = found["sections"][section]["figures"]
        medians = [figures[f"{verb} {size}"].get("p50") for verb in verbs for size in GPU_SIZES]
        lines.append([name, *("-" if ms is None else f"{ms:.1f}" for ms in medians)])
    head = [
        f"{verb} {size.replace(', batch 1', '').replace(', batch', ' x')}"
        for verb in ("decode", "encode")
        for size in GPU_SIZES
    ]
    return f"{markdown(['milliseconds', *head], lines)}\n\n{gpu_source(found)}"


def gpu_kernels() -> str:
    found = results("gpu_check")
    figures = found["sections"]["bandwidth"]["figures"]
    lines = [
        [name, f"{row['gb_per_second']:.0f}", f"{row.get('of_copy', 1):.0%}"]
        for name, row in figures.items()
        if name != "kernels"
    ]
    return f"{markdown(['kernel', 'GB/s', 'of a copy'], lines)}\n\n{gpu_source(found)}"


def gpu_source(found: dict[str, Any]) -> str:
    how = "`make gpu-check`, in three parts, each section with 6 or 8 seconds for what it repeats"
    return prose(f"{how}, {found['gpu']}, beside {found['machine']}, {found['date']}.")


def serve() -> str:
    found = results("serve")
    lines = [
        [
            f"{row['clients']}",
            f"{row['decodes_per_second']:.0f}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            f"{row['memory_growth_nbytes'] / 1e6:.0f}",
        ]
        for row in found["load"]
    ]
    head = ["clients", "decodes a second, 64x64", "p50, ms", "p99, ms", "memory more at the end, MB"]
    cost = found["overhead"]
    text = (
        f"Each row is {found['load'][0]['seconds']:.0f} seconds of requests. "
        f"768x512 to JPEG with 8 clients: {cost['served_ms']:.0f} ms a picture, {cost['plain_ms']:.0f} ms by plain "
        f"calls on as many threads, {cost['share']:.2f} times as long."
    )
    return f"{markdown(head, lines)}\n\n{prose(text)}\n{source(found)}"


def dataset() -> str:
    found = results("dataset")
    count = found["pictures"]
    lines = [
        [way, f"{seconds:.1f}", f"{1000 * seconds / count:.1f}", f"{found['start_seconds'][way]:.1f}"]
        for way, seconds in found["seconds"].items()
    ]
    side = found["size"]
    head = [f"{count} photos of {side}x{side}, quality {found['quality']}", "seconds", "ms a photo", "start, seconds"]
    paces = ", ".join(f"{pace:.0f} by {way}" for way, pace in found["read_per_second"].items())
    text = f"Latents read a second, by one process: {paces}. Largest worker: {found['largest_worker_mb']} MB."
    return f"{markdown(head, lines)}\n\n{prose(text)}\n{source(found)}"


def scale() -> str:
    found, billion = results("dataset"), 1e9
    each = {name: nbytes / found["pictures"] for name, nbytes in found["nbytes"].items()}
    kept = {
        name: found["interrupted"][f"{name}_nbytes"] / found["interrupted"]["pictures"]
        for name in ("manifest", "listed")
    }
    ms = 1000 * found["seconds"]["one worker"] / found["pictures"]
    days = billion * ms / 1000 / 86400
    latents = found["read_per_second"]["stored latents"]
    sdt = found["read_per_second"][".sdt files"]
    rows = [
        ["time of one core, encoding", f"{ms:.1f} ms", f"{days / 365.25:.2f} years"],
        ["the same on 1,000 cores", "", f"{24 * days / 1000:.1f} hours"],
        ["JPEG, read", *amounts(each["jpg"])],
        ["`.sdt`, written", *amounts(each["sdt"])],
        ["latents as float32, if they were stored", *amounts(each["latents"])],
        ["the manifest", *amounts(kept["manifest"])],
        ["the list of samples, in memory", *amounts(kept["listed"])],
        ["reading for training, `.sdt`, time of one core", f"{1000 / sdt:.1f} ms", f"{billion / sdt / 86400:.0f} days"],
        ["the same, stored latents", f"{1000 / latents:.1f} ms", f"{billion / latents / 86400:.0f} days"],
    ]
    side = found["size"]
    head = [f"{side}x{side} pixels, quality {found['quality']}", "one picture", "a billion"]
    read, hours = 8 * billion * each["jpg"], 24 * days / 1000
    text = f"To read that in {hours:.1f} hours takes {read / hours / 3600 / 1e9:.1f} Gbit/s, for 1,000 cores."
    return f"{markdown(head, rows)}\n\n{prose(text)}\n{source(found)}"


def amounts(nbytes: float) -> tuple[str, str]:
    """Return what is kept of one picture and of a billion."""
    return f"{nbytes:,.0f} bytes", f"{nbytes / 1000:.{1 if nbytes > 1000 else 2}f} TB"


TABLES = {
    "scale": scale,
    "serve": serve,
    "dataset": dataset,
    "backends": backends,
    "gpu": gpu,
    "gpu_kernels": gpu_kernels,
    "fidelity_photos": partial(fidelity, "photos"),
    "fidelity_pages": partial(fidelity, "pages"),
    "fidelity_sd1": partial(fidelity, "sd1"),
    "fidelity_region": fidelity_region,
    "fidelity_time": fidelity_time,
    "overlays": overlays,
    "rate_distortion": rate_distortion,
    "ms_ssim": ms_ssim,
    "ssimulacra2": ssimulacra2,
    "rate": rate,
    "latent_error": latent_error,
    "denoise_sd1": denoise_sd1,
    "steps": steps,
    "speed": speed,
    "browser": browser,
    "entropy": entropy,
    "blockiness": blockiness,
    "tiles": tiles,
    "access": access,
    "access_huge": access_huge,
    "strip": strip,
    "denoise_tiny": denoise_tiny,
    "export_full_size": export_full_size,
    "export_families": export_families,
}


if __name__ == "__main__":
    sys.exit(main())
