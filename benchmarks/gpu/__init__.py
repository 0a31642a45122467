"""The sections of `gpu_check.py`. Importing this package puts the checkout's sdtrt on Python's path."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))

try:
    import sdtrt  # noqa: F401  # before the modules here import it
except ModuleNotFoundError as missing:
    sys.exit(f"gpu_check: {missing.name} is not installed; sdtrt needs it")
