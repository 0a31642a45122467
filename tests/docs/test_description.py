"""One sentence says what the project is, and is the same wherever it stands."""

import re
import tomllib
from pathlib import Path

import sdtrt
from sdtrt.cli import build_parser

ROOT = Path(__file__).parents[2]


def test_description_is_the_same_everywhere() -> None:
    description = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["description"]
    citation = re.findall(r"^abstract: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    title = re.findall(r"^\*\*(.+)\.\*\*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    docstring = (sdtrt.__doc__ or "").splitlines()[0]
    assert citation == [description]
    assert title[0] == description
    assert docstring == f"{description}."
    assert build_parser().description == f"{description}."
    assert "Stable Diffusion" not in description  # the built-in model is none
