"""Tables of the residual and overlay layers, and of the ROI."""

from functools import partial
from typing import Any

from figures.text import load_results, markdown, source


def fidelity(name: str) -> str:
    results = load_results(f"fidelity_{name}")
    rows = results["at_rates"]
    codecs = list(rows[0]["psnr"])

    def cell(row: dict[str, Any], codec: str) -> str:
        value = row["psnr"][codec]
        return "-" if value is None else f"{value:.2f} / {row['ssimulacra2'][codec]:.0f}"

    lines = [
        [f"{row['bpp']:.2f}", *(cell(row, codec) for codec in codecs)] for row in rows if any(row["psnr"].values())
    ]
    return f"{markdown(['bits per pixel', *codecs], lines)}\n\n{source(results)}"


def fidelity_region() -> str:
    results = load_results("fidelity_region")
    lines = [[part, f"{results[part]:.2f}", f"{results[f'{part}_without']:.2f}"] for part in ("region", "rest")]
    return f"{markdown(['PSNR dB of the', 'with `--roi`', 'without'], lines)}\n\n{source(results)}"


def fidelity_time() -> str:
    results = load_results("fidelity_time")
    lines = [
        [str(row["quality"]), f"{row['without']:.0f}", f"{row['layers']:.0f}", f"{row['share']:.0%}"]
        for row in results["rows"]
    ]
    head = ["quality", "decoding without layers, ms", "layers, ms", "share"]
    return f"{markdown(head, lines)}\n\n{source(results)}"


def overlays() -> str:
    results = load_results("overlays")
    rows = [
        [r["kind"], r["covered"], f"{r['files']}", f"{r['mean']:+.1%}", f"{r['dearer']}", f"{r['worst']:+.1%}"]
        for r in results["rows"]
    ]
    head = ["images", "covered by the overlay", "files", "cost", "files that cost more", "at worst"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


TABLES = {
    "fidelity_photos": partial(fidelity, "photos"),
    "fidelity_pages": partial(fidelity, "pages"),
    "fidelity_sd1": partial(fidelity, "sd1"),
    "fidelity_region": fidelity_region,
    "fidelity_time": fidelity_time,
    "overlays": overlays,
}
