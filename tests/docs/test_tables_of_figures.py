"""Tables of the documentation equal those made from `benchmarks/results`, and the scripts that pages name exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from environment import HANG

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "web" / "README.md", ROOT / "Makefile"]
SCRIPT = re.compile(r"benchmarks/(?:[a-z0-9_]+/)*[a-z0-9_]+\.py")


def test_tables_equal_the_results() -> None:
    script = ROOT / "benchmarks" / "tables.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True, timeout=HANG)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_existing_scripts(page: Path) -> None:
    names = SCRIPT.findall(page.read_text("utf-8"))
    assert [name for name in names if not (ROOT / name).is_file()] == []
