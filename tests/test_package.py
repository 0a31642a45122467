"""The sdist makes the wheel; the wheel holds the package but for training, works on its own, and has nothing else."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from extras import needs

from sdtrt.kernels import core

ROOT = Path(__file__).parents[1]
FOLDERS = {"sdtrt": "sdtrt", "engine": "sdtrt/engine", "export": "sdtrt/export", "kernels": "sdtrt/kernels"}
TRAINING = "sdtrt/export/training/"
CORE, CORE_SOURCES = "sdtrt/kernels/_core", "sdtrt/kernels/host/"  # compiled, and what it is compiled from
MAX_WHEEL = 12_000_000  # bytes
MADE = (
    ".git",
    "*.so",
    ".venv",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "build",
    "demo",
    "dist",
    "runs",
    "*.egg-info",
)
ROUND_TRIP = """
import sdtrt
from PIL import Image
from sdtrt.kernels.core import compiled
image = sdtrt.decode(sdtrt.encode(Image.new("RGB", (40, 24), "teal")))
print(sdtrt.__file__, image.size, compiled() is not None)
"""
EXPORT = """
import sys
import sdtrt.export.import_onnx, sdtrt.export.build, sdtrt.export.engines
print(*(name for name in sys.modules if name.startswith("sdtrt.export")))
"""


def python(code: str, *arguments: Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources() -> set[str]:
    """Return where each source file lies once installed, or would."""
    return {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".DS_Store"
    }


def shipped() -> set[str]:
    """Return the files of a pure wheel."""
    return {name for name in sources() if not name.startswith((TRAINING, CORE, CORE_SOURCES))}


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {path.rpartition("/")[0].replace("/", ".") for path in shipped() if path.endswith("/__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


@pytest.fixture(scope="module")
def unpacked_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("dist")
    # Built from a copy: setuptools leaves build/ and *.egg-info beside the sources.
    copy, built, unpacked = (tmp_path_factory.mktemp("sdist") / name for name in ("copy", "built", "unpacked"))
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*MADE))
    python("import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])", built, cwd=copy)
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(unpacked, filter="data")
    return next(unpacked.iterdir())


@pytest.fixture(scope="module", params=["with the core", "pure"])
def wheel(request: pytest.FixtureRequest, unpacked_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "with the core" and core.compiled() is None:
        pytest.skip("no compiled core")
    copy, built = (tmp_path_factory.mktemp("wheel") / name for name in ("copy", "built"))
    shutil.copytree(unpacked_sdist, copy)
    environment = {**os.environ, core.PURE: "1" if request.param == "pure" else ""}
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    python(build, built, cwd=copy, env=environment)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.mark.slow
def test_sdist_holds_the_repository(unpacked_sdist: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    there = filter(lambda name: (ROOT / name).exists(), listed.stdout.split("\0")[:-1])
    assert [name for name in there if not (unpacked_sdist / name).is_file()] == []


@pytest.mark.slow
def test_sdist_works(unpacked_sdist: Path) -> None:
    printed = python(ROUND_TRIP, cwd=unpacked_sdist)
    assert printed.split(maxsplit=1) == [str(unpacked_sdist / "sdtrt" / "__init__.py"), "(40, 24) False\n"]


@pytest.mark.slow
def test_wheel_holds_the_sources(wheel: Path, unpacked_wheel: Path) -> None:
    files = {path.relative_to(unpacked_wheel).as_posix() for path in unpacked_wheel.rglob("*") if path.is_file()}
    is_pure = wheel.name.endswith("-py3-none-any.whl")
    compiled = {name for name in files if name.startswith(CORE)}
    assert len(compiled) == (0 if is_pure else 1)
    assert is_pure or "-cp311-abi3-" in wheel.name
    assert {name for name in files if ".dist-info/" not in name} == shipped() | compiled
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)
    assert wheel.stat().st_size < MAX_WHEEL


@pytest.mark.slow
def test_wheel_works(wheel: Path, unpacked_wheel: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked_wheel), core.PURE: ""}
    printed = python(ROUND_TRIP, cwd=tmp_path, env=environment)
    has_core = not wheel.name.endswith("-py3-none-any.whl")
    assert printed.split(maxsplit=1) == [str(unpacked_wheel / "sdtrt" / "__init__.py"), f"(40, 24) {has_core}\n"]


@pytest.mark.slow
def test_export_of_the_wheel_needs_no_training(unpacked_wheel: Path, tmp_path: Path) -> None:
    needs("export")
    loaded = python(EXPORT, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(unpacked_wheel)}).split()
    assert "sdtrt.export.latents.statistics" in loaded
    assert not [name for name in loaded if name.startswith("sdtrt.export.training")]
