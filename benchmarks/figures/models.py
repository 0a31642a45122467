"""Tables of other models."""

from typing import Any

from figures.text import load_results, markdown, source


def export_full_size() -> str:
    results = load_results("export_full_size")
    steps = [[s["step"], f"{s['seconds']:.0f}", f"{s['peak_nbytes'] / 1e9:.1f}"] for s in results["steps"]]
    engines = [
        [e["network"], e["target"], f"{e['nbytes'] / 1e6:.0f}", f"{e['seconds']:.1f}", e["library"]]
        for e in results["engines"]
    ]
    counts = {name: f"{n / 1e6:.1f} M" for name, n in results["parameters"].items()}
    return (
        f"Stable Diffusion 1.x at its true size (VAE {counts['vae']} parameters, UNet {counts['unet']}; "
        "random weights):\n\n"
        f"{markdown(['step', 'seconds', 'peak memory GB'], steps)}\n\n"
        f"{markdown(['engine, 512x512', 'target', 'MB', 'seconds', 'library'], engines)}\n\n{source(results)}"
    )


def export_families() -> str:
    results = load_results("export_families")
    rows = [[row["family"], *family_figures(row)] for row in results["rows"]]
    head = ["true size, random weights", "parameters, M", "ONNX, MB", "seconds", "peak memory, GB"]
    head += ["difference from torch: encoder, decoder"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


def family_figures(row: dict[str, Any]) -> list[str]:
    """Return the cells of one family: figures, or the reason of its failure."""
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


def priors() -> str:
    results = load_results("priors")
    rows = [
        [row["bundle"], f"{row['over_adaptive']:+.1%}", f"{row['over_shipped']:+.1%}" if "over_shipped" in row else "-"]
        for row in results["rows"]
    ]
    head = ["bytes at equal PSNR with a prior of its own", "against the adaptive prior", "against the shipped prior"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


def graph_edits() -> str:
    results = load_results("graph_edits")
    rows = []
    for row in results["rows"]:
        key = row["side"], row["backend"]
        base = next(one for one in results["rows"] if (one["side"], one["backend"], one["edits"]) == (*key, "without"))
        time = f"{row['ms']:,} ({row['ms'] / base['ms']:.2f})"

        rows.append([f"{row['side']}x{row['side']}", row["backend"], row["edits"], time])
    head = ["decode by SD 1.x", "backend", "edits", "ms"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


TABLES = {
    "graph_edits": graph_edits,
    "export_full_size": export_full_size,
    "export_families": export_families,
    "priors": priors,
}
