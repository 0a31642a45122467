"""What all tables are made of."""

import json
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return found


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str) -> str:
    """Return a paragraph wrapped as all prose is: at 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def source(found: dict[str, Any]) -> str:
    return prose(f"`{found['command']}`, {found['machine']}, {found['date']}.")


def cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
