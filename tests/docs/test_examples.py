"""Every example of the README, of the tutorial and of parts.md runs, as it stands there, one after the other."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from environment import HANG
from extras import needs
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)
MEASURE = "sdtrt doctor --measure"  # takes 15 s: tests/engine/networks/test_backend_timings.py
# Those that make models need a network or files of their own; tests/export runs their like. A service goes on until it
# is stopped: tests/serve/test_examples.py, tests/front/test_view.py. A cluster: tests/dataset/test_ray.py.
ELSEWHERE = ("sdtrt export ", "sdtrt import ", "sdtrt serve ", "sdtrt view ", "sdtrt dataset ", MEASURE)
# What a clone, a service or a package index is needed for.
NOT_RUN = ("make ", "curl -f ", "pip install ", "export ", "cd ", "git clone ")


def examples(page: str) -> list[tuple[str, str]]:
    """Return ("sh", a command) or ("python", a block), in the page's order."""
    found = []
    for kind, text in BLOCK.findall((ROOT / page).read_text("utf-8")):
        if kind == "python":
            found.append((kind, text))
        else:
            lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
            found += [(kind, line) for line in lines if not line.startswith((*ELSEWHERE, *NOT_RUN, "#"))]
    return found


@pytest.fixture
def folder(tmp_path: Path, photo: Callable[[int, int], np.ndarray]) -> Path:
    """A folder with the photos that the pages start from, and nothing else."""
    (tmp_path / "holiday").mkdir()
    for name in ("photo.jpg", "holiday/beach.jpg", "holiday/dunes.jpg"):
        Image.fromarray(photo(120, 90)).save(tmp_path / name)
    return tmp_path


NEEDED = {"sdtrt completion ": "completion"}  # extras of commands


def test_examples_readme_names_all_that_is_not_run() -> None:
    """Each command of the README is run here, or is of a kind that is named with the reason."""
    text = (ROOT / "README.md").read_text("utf-8")
    lines = [line for kind, block in BLOCK.findall(text) if kind == "sh" for line in block.splitlines() if line]
    run = {command for kind, command in examples("README.md") if kind == "sh"}
    assert {line for line in lines if not line.startswith((*ELSEWHERE, *NOT_RUN))} == run
    assert len(run) > 20


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/parts.md"])
def test_examples(folder: Path, page: str) -> None:
    found = examples(page)
    assert len(found) >= 10
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    needs(*(extra for command, extra in NEEDED.items() if any(text.startswith(command) for _, text in found)))
    for kind, text in found:
        (folder / "example.py").write_text(text, "utf-8")  # no locale need be able to say it
        command = ["sh", "-c", text] if kind == "sh" else [sys.executable, "example.py"]
        subprocess.run(command, check=True, cwd=folder, env=environment, timeout=HANG)
    if page == "docs/parts.md":
        for name, size in (("region.png", (64, 48)), ("eighth.png", (15, 12)), ("cut.png", (120, 90))):
            with Image.open(folder / name) as image:
                assert image.size == size
        return
    with Image.open(folder / "back.png") as back, Image.open(folder / "photo.jpg") as photo:
        assert back.size == photo.size
    assert {"beach.sdt", "dunes.sdt"} <= {path.name for path in (folder / "packed").iterdir()}
