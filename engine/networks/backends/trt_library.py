"""The door to TensorRT, in whichever form is installed: the run time's only import of it.

Features are tested, never versions: TensorRT for RTX counts from 1, TensorRT proper is at 10 and 11.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sdtrt.errors import DeviceError
from sdtrt.process.install import install_command

NAMES = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")


@dataclass(frozen=True, slots=True)
class Library:
    """An imported TensorRT: its module's name, its full version, the module."""

    name: str
    version: str
    module: ModuleType

    @property
    def builds(self) -> bool:
        """Whether it can build engines; the lean run time cannot."""
        return hasattr(self.module, "Builder")

    @property
    def needs_no_gpu(self) -> bool:
        """Whether it builds for architectures that are named, without a GPU at hand."""
        return hasattr(self.module, "ComputeCapability")

    def fault(self, path: Path) -> str | None:
        """Return why an engine cannot run here, None if it can or nothing speaks against it; reads the header only."""
        if not hasattr(self.module.Runtime, "get_engine_validity"):
            return None
        log = Log(self.module)
        runtime = self.module.Runtime(log.logger)
        with path.open("rb") as file:
            header = file.read(runtime.engine_header_size)
        _, flags = runtime.get_engine_validity(header)
        kinds = self.module.EngineInvalidityDiagnostics.__members__
        # Where there is no driver the library finds a CUDA error, or nothing at all: no verdict on the engine.
        found = [name for name, bit in kinds.items() if flags & int(bit) and name != "CUDA_ERROR"]
        return ", ".join(found).lower().replace("_", " ") or None


def remedy() -> str:
    """Return what to do where no TensorRT is installed."""
    return f"install one: {install_command('tensorrt')}; or for GeForce and RTX: {install_command('tensorrt-rtx')}"


def installed() -> list[str]:
    """Return the names of the TensorRT modules that are there to import."""
    return [name for name in NAMES if importlib.util.find_spec(name)]


def import_tensorrt(name: str) -> Library:
    """Return one of `NAMES`, imported; `DeviceError` if it is missing or broken."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a TensorRT library; there are: {', '.join(NAMES)}")
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise DeviceError(f"{name} cannot be imported ({error}); {remedy()}") from error
    return Library(name, str(module.__version__), module)


class Log:
    """Keeps TensorRT's warnings and errors for messages, instead of printing them."""

    def __init__(self, module: ModuleType) -> None:
        lines: list[str] = []

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: Any, message: str) -> None:
                if severity <= module.ILogger.WARNING:
                    lines.append(message)

        self.lines = lines
        self.logger = Logger()

    def __str__(self) -> str:
        return "; ".join(self.lines[-3:]) or "it does not say why"
