"""Parts of all tables: results, Markdown, and the line with command, machine and date."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Results keep the command by which they were measured. The scripts have these names now.
RENAMED_SCRIPTS = {
    r"benchmarks/access\.py": "benchmarks/large_images.py",
    r"benchmarks/backends\.py": "benchmarks/speed.py --backends",
    r"benchmarks/blockiness\.py (\S+)": r"benchmarks/rate_distortion.py \1 --set blockiness",
    r"benchmarks/effort\.py (\S+)": r"benchmarks/rate_distortion.py \1 --set effort",
    r"benchmarks/export_families\.py": "benchmarks/export_models.py families",
    r"benchmarks/export_full_size\.py": "benchmarks/export_models.py sd1",
    r"benchmarks/fidelity\.py sd1 (\S+) --sd1": r"benchmarks/rate_distortion.py \1 --set sd1 --model",
    r"benchmarks/fidelity\.py (\w+) (\S+)": r"benchmarks/rate_distortion.py \2 --set \1",
    r"benchmarks/latency\.py": "benchmarks/speed.py --percentiles",
    r"benchmarks/layers_strip\.py": "benchmarks/figure.py layers --model",
    r"benchmarks/overlays\.py (\S+) (\S+)": r"benchmarks/rate_distortion.py \1 --set overlays --pages \2",
    r"benchmarks/paired\.py": "benchmarks/speed.py --against",
    r"benchmarks/priors\.py (\S+)": r"benchmarks/rate.py \1 --priors",
    r"benchmarks/strip\.py": "benchmarks/figure.py codecs",
    r"benchmarks/tiles\.py (\S+)": r"benchmarks/large_images.py \1 --seams",
}


def load_results(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return results


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str) -> str:
    """Wrap a paragraph at 100 columns, as all prose."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def source(results: dict[str, Any]) -> str:
    """Return the line with command, machine and date of results."""
    return prose(f"`{current_command(results['command'])}`, {results['machine']}, {results['date']}.")


def current_command(command: str) -> str:
    """Return a recorded command with the present name of its script."""
    for pattern, script in RENAMED_SCRIPTS.items():
        command, count = re.subn(pattern, script, command)
        if count:
            break
    return command


def cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
