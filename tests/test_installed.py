"""The wheel in an environment of its own; and there as here, one name for the package, wherever Python starts."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from extras import VARIABLE, needs
from PIL import Image

from sdtrt._version import __version__

ROOT = Path(__file__).parents[1]
BIN = "Scripts" if sys.platform == "win32" else "bin"
WHERE = "import sdtrt, sdtrt.engine.codec as codec; print(sdtrt.__file__, codec.__file__, sep='\\n')"


def output(*command: str | Path, cwd: Path) -> str:
    # Of the extras only `cpu` is installed there: tests of others are skipped.
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment's commands: the wheel with `cpu`, and what test_package.py uses."""
    needs("dist")
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv" / BIN / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["cpu"], *extras["dist"], "hypothesis", "pytest"]
    fetched = subprocess.run([*pip, "install", "-c", ROOT / "constraints.txt", *needed], check=False)
    if fetched.returncode:
        pytest.skip("pip fetches nothing here")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "-o", folder, ROOT], check=True)
    # Without an index: that dependencies are missing from the wheel's metadata or too many in it would be noticed.
    subprocess.run([*pip, "install", "--no-index", f"{next(folder.glob('*.whl'))}[cpu]"], check=True)
    return folder / "venv" / BIN


@pytest.mark.slow
def test_wheel(environment: Path, photo: Callable[[int, int], np.ndarray], tmp_path: Path) -> None:
    Image.fromarray(photo(90, 70)).save(tmp_path / "photo.png")
    output(environment / "sdtrt", "encode", "photo.png", cwd=tmp_path)
    output(environment / "sdtrt", "decode", "photo.sdt", "-o", "back.png", cwd=tmp_path)
    with Image.open(tmp_path / "back.png") as back:
        assert back.size == (90, 70)
    assert "backend ort, device cpu      yes" in output(environment / "sdtrt", "doctor", cwd=tmp_path)
    assert str(environment.parent) in output(environment / "sdtrt", "models", cwd=tmp_path)


@pytest.mark.slow
def test_one_name_where_the_wheel_is_installed(environment: Path, tmp_path: Path) -> None:
    python = environment / "python"
    assert one_name(python, ROOT) == [str(ROOT / "sdtrt" / "__init__.py"), str(ROOT / "engine" / "codec.py")]
    assert all(str(environment.parent) in path for path in one_name(python, tmp_path))
    output(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_package.py", cwd=ROOT)


def test_one_name_here(tmp_path: Path) -> None:
    assert one_name(Path(sys.executable), ROOT) == [
        str(ROOT / "sdtrt" / "__init__.py"),
        str(ROOT / "engine" / "codec.py"),
    ]
    one_name(Path(sys.executable), tmp_path)


def one_name(python: Path, cwd: Path) -> list[str]:
    """Return the files of two floors' modules, for a Python that starts in `cwd`."""
    assert output(python, "-m", "sdtrt", "--version", cwd=cwd) == f"sdtrt {__version__}\n"
    return output(python, "-c", WHERE, cwd=cwd).splitlines()
