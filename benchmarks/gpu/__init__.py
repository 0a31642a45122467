"""The sections of `gpu_check.py`. Importing it makes the checkout's own package importable, installed or not."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))

try:
    import sdtrt  # noqa: F401  # before any module here needs it
except ModuleNotFoundError as missing:
    sys.exit(f"gpu_check: {missing.name} is not installed, without which sdtrt cannot be imported")
