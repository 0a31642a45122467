"""The wheel holds the whole package, works on its own, and has nothing else in it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"sdtrt": "sdtrt", "engine": "sdtrt/engine", "export": "sdtrt/export", "kernels": "sdtrt/kernels"}
ROUND_TRIP = """
import sdtrt
from PIL import Image
picture = sdtrt.decode(sdtrt.encode(Image.new("RGB", (40, 24), "teal")))
print(sdtrt.__file__, picture.size)
"""


def python(code: str, *arguments: Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources() -> set[str]:
    """Return where each source file lies once installed."""
    return {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".DS_Store"
    }


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {path.rpartition("/")[0].replace("/", ".") for path in sources() if path.endswith("/__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


@pytest.fixture(scope="module")
def unpacked_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools leaves build/ and *.egg-info beside the sources.
    copy, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("copy", "built", "unpacked"))
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    python("import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])", built, cwd=copy)
    with ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(unpacked)
    return unpacked


@pytest.mark.slow
def test_wheel_holds_the_sources(unpacked_wheel: Path) -> None:
    files = {path.relative_to(unpacked_wheel).as_posix() for path in unpacked_wheel.rglob("*") if path.is_file()}
    assert {name for name in files if ".dist-info/" not in name} == sources()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)


@pytest.mark.slow
def test_wheel_works(unpacked_wheel: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked_wheel)}
    printed = python(ROUND_TRIP, cwd=tmp_path, env=environment)
    assert printed.split(maxsplit=1) == [str(unpacked_wheel / "sdtrt" / "__init__.py"), "(40, 24)\n"]
