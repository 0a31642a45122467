"""Tables of the looks of `tiny`."""

from typing import Any

from figures.text import load_results, markdown, source


def looks() -> str:
    results = load_results("looks")
    rows = [
        [
            f"{row['bpp']:.2f}",
            row["look"],
            f"{row['psnr']:.2f}",
            change(row, "psnr", 2),
            f"{row['ssimulacra2']:.1f}",
            change(row, "ssimulacra2", 1),
        ]
        for row in results["rates"]
    ]
    head = ["bits per pixel", "look", "PSNR dB", "change (worst image)", "SSIMULACRA2", "change (worst image)"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


def change(row: dict[str, Any], metric: str, digits: int) -> str:
    """Return the mean change of a metric against `faithful`, and that of the worst image."""
    if row["look"] == "faithful":
        return ""
    return f"{row[f'{metric}_change']:+.{digits}f} ({row[f'{metric}_worst_change']:+.{digits}f})"


def looks_ms() -> str:
    results = load_results("looks")
    times = {(row["backend"], row["precision"], row["look"]): row["ms"] for row in results["decode_ms"]}
    rows = []
    for (backend, precision, look), ms in times.items():
        ratio = ms / times[backend, "fp32", "faithful"]
        rows.append([f"{backend}, {precision}", look, f"{ms:.0f}", f"{ratio:.2f}"])
    return f"{markdown(['768x512, quality 50', 'look', 'decode ms', 'ratio'], rows)}\n\n{source(results)}"


def int8() -> str:
    rows = [
        [f"{row['bpp']:.2f}", f"{row['psnr_change']:+.3f}", f"{row['psnr_worst_change']:+.3f}"]
        for row in load_results("looks")["int8"]
    ]
    table = markdown(["bits per pixel", "change of PSNR, dB", "worst image"], rows)
    return f"{table}\n\n{source(load_results('looks'))}"


TABLES = {"looks": looks, "looks_ms": looks_ms, "int8": int8}
