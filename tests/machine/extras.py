"""What tests need beyond the extra `cpu`. Without it they are skipped by name, or fail where all must be there."""

import importlib.util
import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest
from features import HIDDEN, LIBRARIES

TESTS = Path(__file__).parents[1]
VARIABLE = "SDTRT_TEST_EXTRAS"  # `required`: a missing extra fails
MODULES = {  # of each extra, those that show whether it is installed
    "completion": ("shtab",),
    "cpu": ("onnxruntime",),
    "dataset": ("fsspec", "pyarrow"),
    "demo": ("skimage",),
    "dev": ("boto3", "flask", "flask_cors", "httpx", "moto", "s3fs"),
    "dist": ("build", "setuptools"),
    "docs": ("material", "mkdocs", "mkdocstrings"),
    "export": ("diffusers", "huggingface_hub", "onnxscript", "safetensors", "torch", "transformers"),
    "large": ("png", "pyvips"),
    "onnx": ("onnx",),
    "openvino": ("openvino",),
    "ray": ("ray",),
    "serve": ("fsspec", "prometheus_client", "starlette", "uvicorn"),
    "tensorrt-rtx": ("tensorrt_rtx",),
}
NEEDS = {  # extras of a folder's tests, or of a file's
    "benchmarks": ("demo", "export"),
    "dataset": ("dataset",),
    "dataset/test_ray.py": ("ray",),
    "dataset/test_s3.py": ("dev",),
    "docs/test_site.py": ("docs",),
    "engine/networks/test_openvino.py": ("onnx", "openvino"),
    "export": ("export",),
    "export/test_calibrate.py": ("large",),
    "export/test_engines.py": ("tensorrt-rtx",),
    "front/test_completion.py": ("completion",),
    "front/test_entry_points.py": ("dataset", "serve"),
    "front/test_large.py": ("large",),
    "front/test_option_names.py": ("dataset", "serve"),
    "serve": ("dev", "serve"),
}


OLDEST = {"setuptools": 77}  # major versions that serve, of what many environments have in older ones


def missing_module(extra: str) -> str | None:
    """Return a module of an extra that is not installed, too old, or turned off; None if all are there."""
    return next((name for name in MODULES[extra] if not _is_there(name)), None)


def _is_there(module: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    return module not in OLDEST or int(metadata.version(module).partition(".")[0]) >= OLDEST[module]


def needs(*extras: str) -> None:
    """Skip the test that calls this, or that needs the calling fixture, where an extra is missing."""
    for extra in extras:
        if module := missing_module(extra):
            reason = f"needs the extra {extra}, which is missing (no module {module})"
            if os.environ.get(VARIABLE) == "required" and not _is_hidden(module):
                pytest.fail(f"{reason}; {VARIABLE}=required forbids to skip it")
            pytest.skip(f"{reason}: pip install -e '.[{extra}]'", allow_module_level=True)


def _is_hidden(module: str) -> bool:
    return any(module in LIBRARIES[feature] for feature in HIDDEN & LIBRARIES.keys())


def extras_of(path: Path) -> list[str]:
    """Return the extras that a file of tests needs, by `NEEDS`."""
    name = path.relative_to(TESTS).as_posix()
    return [extra for prefix, extras in NEEDS.items() if f"{name}/".startswith(f"{prefix}/") for extra in extras]


class Unavailable(pytest.File):
    """A file or folder of tests that needs a missing extra: neither it nor its `conftest.py` is imported."""

    def collect(self) -> NoReturn:
        needs(*extras_of(self.path))
        raise AssertionError("no extra is missing")


def unavailable(path: Path, parent: pytest.Collector) -> Unavailable | None:
    """Return what stands for a file or folder of tests if an extra that it needs is missing."""
    if any(map(missing_module, extras_of(path))):
        return Unavailable.from_parent(parent, path=path)
    return None


def program(name: str) -> str:
    """Return the path of a program; skip the test that calls this where there is none."""
    path = None if name in HIDDEN else shutil.which(name)
    return path or pytest.skip(f"no {name}")
