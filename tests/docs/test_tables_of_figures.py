"""The README's tables are what `benchmarks/results` says."""

import subprocess
import sys
from pathlib import Path

from environment import HANG


def test_tables_are_generated() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "tables.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True, timeout=HANG)
