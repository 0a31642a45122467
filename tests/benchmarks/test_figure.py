"""The figure that `make demo` draws."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from environment import HANG
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "figure.py"


def test_figure_of_a_photo_writes_the_demo_image(tmp_path: Path, photo: Callable[[int, int], np.ndarray]) -> None:
    Image.fromarray(photo(96, 64)).save(tmp_path / "photo.png")
    command = [sys.executable, str(SCRIPT), "photo", "photo.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["sdtrt", "JPEG", "WebP"]
    with Image.open(tmp_path / "demo" / "photo.png") as figure:
        assert figure.width > 96
