"""What every benchmark writes: figures, with the machine, versions, command and date that they belong to."""

import datetime
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from sdtrt import __version__
from sdtrt.process.text import json_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("sdtrt", "numpy", "pillow", "constriction", "onnxruntime", "openvino")


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Write `results/<name>.json` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json_text(about(PACKAGES) | figures, indent=1) + "\n")
    return path


def about(packages: Iterable[str]) -> dict[str, Any]:
    """Return what figures belong to; of the packages those that are there."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {cores()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: found for package in packages if (found := version(package))},
        "command": " ".join(["python", *map(without_folders, sys.argv)]),
    }


def version(package: str) -> str | None:
    """Return a package's version, None if it is not there; sdtrt may be a checkout that is not installed."""
    try:
        return __version__ if package == "sdtrt" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def without_folders(argument: str) -> str:
    """Return an argument without the folders of this machine in it."""
    path = Path(argument)
    return path.name if path.is_absolute() or ".." in path.parts else argument


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or "unknown processor"


def cores() -> int:
    import os

    return len(os.sched_getaffinity(0))
