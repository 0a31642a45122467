"""Common parts of the benchmarks: timing, child processes, the test photo, images of a folder, plots, results."""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt import __version__
from sdtrt.process.text import json_text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("sdtrt", "numpy", "pillow", "constriction", "onnxruntime", "openvino")
PHOTO_SIZE = (768, 512)  # width, height
IMAGE_SUFFIXES = {".png", ".webp", ".jpg"}
# The measured process is a grandchild: Linux counts the memory of the process that starts a program as the program's.
PEAK_OF_CHILD = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
)

Pixels = NDArray[np.uint8]


# Results


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Write `results/<name>.json`: the figures, the machine, versions, command and date. Return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json_text(provenance(PACKAGES) | figures, indent=1) + "\n")
    return path


def provenance(packages: Iterable[str]) -> dict[str, Any]:
    """Return date, machine, versions of the installed `packages`, and command."""
    versions = {package: package_version(package) for package in packages}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {core_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: version for package, version in versions.items() if version},
        "command": " ".join(["python", *map(without_folders, sys.argv)]),
    }


def package_version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed; sdtrt may be a checkout."""
    try:
        return __version__ if package == "sdtrt" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def without_folders(argument: str) -> str:
    """Return a command-line argument without folders of this machine."""
    path = Path(argument)
    return path.name if path.is_absolute() or ".." in path.parts else argument


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or "unknown processor"


def core_count() -> int:
    return len(os.sched_getaffinity(0))


# Timing


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the milliseconds of one call."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def median_of(measure: Callable[[], float], runs: int = 5) -> float:
    """Return the median of `runs` measurements, after a warm-up."""
    return interleaved_medians([measure], runs)[0]


def median_ms(call: Callable[[], Any], runs: int = 5) -> float:
    """Return the median milliseconds of `runs` calls, after a warm-up."""
    return interleaved_ms([call], runs)[0]


def interleaved_medians(measures: Sequence[Callable[[], float]], runs: int, per_turn: int = 1) -> list[float]:
    """Return the median of each measurement, in at least `runs` runs, after a turn of each as a warm-up.

    The measurements take turns of `per_turn` runs each, so that slow phases of the machine affect all of them.
    """
    values: list[list[float]] = [[] for _ in measures]
    for _ in range(1 + -(-runs // per_turn)):
        for measure, measured in zip(measures, values, strict=True):
            measured += [measure() for _ in range(per_turn)]
    return [statistics.median(measured[per_turn:]) for measured in values]


def interleaved_ms(calls: Sequence[Callable[[], Any]], runs: int) -> list[float]:
    """Return the median milliseconds of each call; see `interleaved_medians`."""
    return interleaved_medians([lambda call=call: milliseconds(call) for call in calls], runs)


# Child processes


def run_python(*arguments: str | Path, **environment: str) -> str:
    """Run Python with `arguments` and additional environment variables; return its standard output."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    return done.stdout


def peak_nbytes(*arguments: str | Path) -> int:
    """Run Python with `arguments` and return the largest resident size of that process, in bytes."""
    return int(run_python("-c", PEAK_OF_CHILD, sys.executable, *arguments).split()[-1])


def run_sdtrt(*arguments: str | Path) -> dict[str, float]:
    """Run the command `sdtrt` with `arguments`; return its `seconds` and its peak memory, `peak_nbytes`."""
    started = time.perf_counter()
    nbytes = peak_nbytes("-m", "sdtrt", *arguments)
    return {"seconds": round(time.perf_counter() - started, 1), "peak_nbytes": nbytes}


# Images


def sample_photo() -> Pixels:
    """Return scikit-image's astronaut (NASA, public domain), scaled to 768x512."""
    from skimage.data import astronaut

    return np.asarray(Image.fromarray(astronaut()).resize(PHOTO_SIZE, Image.Resampling.LANCZOS))


def image_paths(folder: Path, every: int = 1) -> list[Path]:
    """Return every `every`th image of a folder, by name; `FileNotFoundError` without any."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES)[::every]
    if not paths:
        raise FileNotFoundError(f"no {', '.join(sorted(IMAGE_SUFFIXES))} images in {folder}")
    return paths


def open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


# Plots


def new_plot(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """Return a Matplotlib figure and its axes, of a size in inches; the same figures give the same SVG file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "sdtrt"
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text, which is smaller than outlines
    return plt.subplots(1, panels, figsize=(width, height), layout="constrained")


def save_plot(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
