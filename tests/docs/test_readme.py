"""Every example of the README runs, as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).parents[2] / "README.md").read_text()
SHELL, PYTHON = (re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("sh", "python"))
# Those that make models need a network or files of their own; tests/export runs their like.
MAKERS = ("sdtrt export ", "sdtrt import ")
LINES = [line for block in SHELL for line in block.splitlines() if line.startswith("sdtrt ")]
COMMANDS = [line for line in LINES if not line.startswith(MAKERS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: Callable[[int, int], np.ndarray]) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "holiday").mkdir()
    for name in ("photo.jpg", "small.png", "holiday/beach.jpg", "holiday/dunes.jpg"):
        Image.fromarray(photo(120, 90)).save(folder / name)
    return folder


def test_shell(folder: Path) -> None:
    assert len(COMMANDS) >= 8
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in COMMANDS:
        subprocess.run(command, shell=True, check=True, cwd=folder, env=environment, timeout=60)
    with Image.open(folder / "back.png") as back, Image.open(folder / "photo.jpg") as photo:
        assert back.size == photo.size
    assert sorted(path.name for path in (folder / "packed").iterdir()) == ["beach.sdt", "dunes.sdt"]


@pytest.mark.parametrize("block", PYTHON)
def test_python(folder: Path, block: str) -> None:
    subprocess.run([sys.executable, "-c", block], check=True, cwd=folder, timeout=60)
