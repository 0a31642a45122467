"""Tables of time and memory."""

from typing import Any

from figures.text import load_results, markdown, prose, source


def speed() -> str:
    results = load_results("speed")
    rows = [
        [name, f"{1000 * times['encode']:.0f}", f"{1000 * times['decode']:.0f}"]
        for name, times in results["codecs"].items()
    ]
    table = markdown(["768x512, quality 50", "encode ms", "decode ms"], rows)
    memory = results["peak_memory_nbytes"] / 1e6
    small = (
        f"Peak memory of a process that encodes and decodes one such image: {memory:.0f} MB. "
        f"`import sdtrt`: {1000 * results['import_seconds']:.0f} ms; the command `sdtrt info`: "
        f"{1000 * results['info_command_seconds']:.0f} ms."
    )
    return f"{table}\n\n{prose(small)}\n{source(results)}"


def entropy() -> str:
    results = load_results("speed")
    rows = [[name, f"{ms['encode']:.1f}", f"{ms['decode']:.1f}"] for name, ms in results["entropy_ms"].items()]
    return markdown(["entropy stage", "encode ms", "decode ms"], rows)


def core() -> str:
    results = load_results("core")
    rows = [
        [name, f"{ms['numpy']:.1f}", f"{ms['core']:.1f}", f"{ms['core'] / ms['numpy']:.2f}"]
        for name, ms in results["milliseconds"].items()
    ]
    head = ["", "NumPy, ms", f"compiled core ({results['instructions']}), ms", "ratio"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


def waterfall() -> str:
    results = load_results("waterfall")
    phases = results["phases_ms"]
    rows = [[name, f"{start:.0f}", f"{ms:.0f}"] for name, (start, ms) in phases.items() if name != "total"]
    rows.append(["the whole command", "0", f"{phases['total'][1]:.0f}"])
    return f"{markdown(['phase', 'starts at, ms', 'takes, ms'], rows)}\n\n{source(results)}"


def backends() -> str:
    results = load_results("backends")
    lines = [
        [
            f"{row['backend']}, {row['precision']}",
            *(f"{row[f'{verb}_ms']:.0f}" for verb in ("command", "encode", "decode", "service")),
            f"{row['peak_nbytes'] / 1e6:.0f}",
        ]
        for row in results["choices"]
    ]
    calls = ("one `sdtrt decode`", "encode", "decode", "decode by 4 threads")
    return f"{markdown(['', *(f'{call}, ms' for call in calls), 'memory, MB'], lines)}\n\n{source(results)}"


def one_off() -> str:
    results = load_results("backends")["pillow_ms"]
    times = ", ".join(f"{name} {ms:.0f}" for name, ms in results.items())
    return prose(f"A Python that opens a file with Pillow and saves its pixels takes, in the same run: {times} ms.")


def paired() -> str:
    results = load_results("paired")
    before, *after = results["median_ms"]
    lines = []
    for call, ms in results["median_ms"][before].items():
        ours = [results["median_ms"][name][call] for name in after]
        lines.append([call, f"{ms:.0f}", *(f"{one:.0f} ({one / ms:.2f})" for one in ours)])
    names = {"ort": "ONNX Runtime", "openvino": "OpenVINO in bfloat16"}
    head = ["milliseconds, and times those before", "before", *(names[name] for name in after)]
    return f"{markdown(head, lines)}\n\n{source(results)}"


def latency() -> str:
    results = load_results("latency")
    percentiles = ("p50", "p95", "p99", "p99.9")
    lines = [
        [row["codec"], row["verb"], f"{row['calls']:,}", *(f"{row[f'{p}_ms']:.1f}" for p in percentiles)]
        for row in results["calls"]
        if row["threads"] == 1
    ]
    return f"{markdown(['one thread, ms', '', 'calls', *percentiles], lines)}\n\n{source(results)}"


def latency_threads() -> str:
    results = load_results("latency")
    lines = [
        [
            row["codec"],
            row["verb"],
            f"{row['threads']}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            f"{row['calls_per_second']:.1f}",
        ]
        for row in results["calls"]
        if row["codec"].startswith("sdtrt")
    ]
    grown = ", ".join(f"{name} {one['growth_nbytes'] / 1e6:.1f} MB" for name, one in results["memory"].items())
    memory = f"Memory of a process after 10,000 decodes of 64x64, less that after 100: {grown}."
    head = ["", "", "threads that call", "p50 ms", "p99 ms", "calls a second"]
    return f"{markdown(head, lines)}\n\n{prose(memory)}"


def browser() -> str:
    results = load_results("browser")
    width, height = results["size"]
    parts = ("entropy", "network", "rest", "whole")
    names = {"chromium": results["browser"].replace("Chrome/", "Chromium "), "python": "Python"}
    rows = [
        [
            name,
            row["look"],
            f"{row['threads']}",
            *(f"{row[where][part]:.0f}" for part in parts),
            times_as_long(row, where),
        ]
        for row in results["rows"]
        for where, name in names.items()
    ]
    head = [
        f"ms to decode {width}x{height}, quality {results['quality']}",
        "look",
        "threads",
        "entropy stage",
        "network",
        "rest",
    ]
    return f"{markdown([*head, 'all', 'times as long'], rows)}\n\n{source(results)}"


def times_as_long(row: dict[str, Any], where: str) -> str:
    return f"{row['ratio']:.1f}" if where == "chromium" else "1"


GPU_ROWS = {  # label: section, and its names for decoding and encoding
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
    results = load_results("gpu_check")
    lines = []
    for name, (section, *verbs) in GPU_ROWS.items():
        figures = results["sections"][section]["figures"]
        medians = [figures[f"{verb} {size}"].get("p50") for verb in verbs for size in GPU_SIZES]
        lines.append([name, *("-" if ms is None else f"{ms:.1f}" for ms in medians)])
    head = [
        f"{verb} {size.replace(', batch 1', '').replace(', batch', ' x')}"
        for verb in ("decode", "encode")
        for size in GPU_SIZES
    ]
    return f"{markdown(['milliseconds', *head], lines)}\n\n{gpu_source(results)}"


def gpu_kernels() -> str:
    results = load_results("gpu_check")
    figures = results["sections"]["bandwidth"]["figures"]
    lines = [
        [name, f"{row['gb_per_second']:.0f}", f"{row.get('of_copy', 1):.0%}"]
        for name, row in figures.items()
        if name != "kernels"
    ]
    return f"{markdown(['kernel', 'GB/s', 'of a copy'], lines)}\n\n{gpu_source(results)}"


def gpu_source(results: dict[str, Any]) -> str:
    how = "`make gpu-check`, in parts on two days, 5 to 8 seconds for the repeated calls of each section"
    return prose(f"{how}, {results['gpu']}, beside {results['machine']}, {results['date']}.")


TABLES = {
    "speed": speed,
    "core": core,
    "entropy": entropy,
    "backends": backends,
    "one_off": one_off,
    "paired": paired,
    "waterfall": waterfall,
    "latency": latency,
    "latency_threads": latency_threads,
    "browser": browser,
    "gpu": gpu,
    "gpu_kernels": gpu_kernels,
}
