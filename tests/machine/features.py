"""Features of a machine that the suite can turn off, in pytest and in every Python that a test starts.

`SDTRT_TEST_WITHOUT` lists them: `SDTRT_TEST_WITHOUT=bfloat16,openvino pytest`, or `all`. `conftest.py` imports this
module before the package, and `sitecustomize.py` imports it at the start of other processes.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

VARIABLE = "SDTRT_TEST_WITHOUT"
HERE = Path(__file__).parent
LIBRARIES = {  # which the run time looks for, and can do without
    "core": ("sdtrt.kernels._core",),
    "openvino": ("openvino",),
    "gpu": ("cuda", "pycuda"),
    "tensorrt": ("tensorrt", "tensorrt_lean", "tensorrt_rtx"),
    "large": ("png", "pyvips"),
}
PROGRAMS = ("nvcc",)
FEATURES = ("bfloat16", "processors", *LIBRARIES, *PROGRAMS)
OPENVINO_BACKEND = "sdtrt.engine.networks.backends.openvino"


def features_of(text: str) -> frozenset[str]:
    """Return the features in a list with commas, all of them for `all`; `ValueError` for an unknown name."""
    names = frozenset(filter(None, text.replace(" ", "").split(",")))
    if unknown := names - {"all", *FEATURES}:
        raise ValueError(f"{VARIABLE} names {', '.join(sorted(unknown))}; expected all or {', '.join(FEATURES)}")
    return frozenset(FEATURES) if "all" in names else names


def hide(names: frozenset[str]) -> None:
    """Turn features off in this process and in each Python that it starts."""
    if not names:
        return
    path = [str(HERE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    for feature in names & LIBRARIES.keys():
        sys.modules.update(dict.fromkeys(LIBRARIES[feature]))  # None: no such module
    if "bfloat16" in names:
        sys.meta_path.insert(0, WithoutBfloat16())
    if "processors" in names:
        _leave_one_processor()


def _leave_one_processor() -> None:
    # The workers of pytest are counted by the same functions.
    os.environ.setdefault("PYTEST_XDIST_AUTO_NUM_WORKERS", str(os.cpu_count() or 1))
    os.cpu_count = lambda: 1
    if hasattr(os, "sched_getaffinity"):
        os.sched_getaffinity = lambda pid: {0}


class WithoutBfloat16(MetaPathFinder):
    """Finds the package's probes of the processor, and has them say that it has no bfloat16."""

    searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != OPENVINO_BACKEND or self.searching:
            return None
        self.searching = True  # by the other finders
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching = False
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            without_bfloat16(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def without_bfloat16(module: ModuleType) -> None:
    """Have the probes in OpenVINO's backend find a processor without bfloat16."""
    capabilities = module.capabilities
    module.capabilities = lambda: [name for name in capabilities() if name != "BF16"]  # type: ignore[attr-defined]
    module.CPU_FEATURES = Path(os.devnull)  # type: ignore[attr-defined]


HIDDEN = features_of(os.environ.get(VARIABLE, ""))
hide(HIDDEN)
