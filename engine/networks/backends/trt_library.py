"""The TensorRT libraries: TensorRT, its lean run time, and TensorRT for RTX. Only this module imports them.

The code tests features, not versions: the versions of TensorRT for RTX start at 1, TensorRT itself is at 10 and 11.
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
    """An imported TensorRT library.

    Attributes:
        name: one of `NAMES`.
        version: the full version.
        module: the module.
    """

    name: str
    version: str
    module: ModuleType

    @property
    def builds(self) -> bool:
        """Whether the library can build engines; the lean run time cannot."""
        return hasattr(self.module, "Builder")

    @property
    def needs_no_gpu(self) -> bool:
        """Whether the library builds engines for a named architecture on a machine without a GPU."""
        return hasattr(self.module, "ComputeCapability")

    def engine_fault(self, path: Path) -> str | None:
        """Return why an engine cannot run here, from the header of its file; None if the library knows no reason."""
        if not hasattr(self.module.Runtime, "get_engine_validity"):
            return None
        log = Log(self.module)
        runtime = self.module.Runtime(log.logger)
        with path.open("rb") as file:
            header = file.read(runtime.engine_header_size)
        _, flags = runtime.get_engine_validity(header)
        kinds = self.module.EngineInvalidityDiagnostics.__members__
        # Without a driver the library reports a CUDA error or nothing, which is no fault of the engine.
        faults = [name for name, bit in kinds.items() if flags & int(bit) and name != "CUDA_ERROR"]
        return ", ".join(faults).lower().replace("_", " ") or None


def install_hint() -> str:
    """Return the commands that install TensorRT."""
    return f"install one: {install_command('tensorrt')}; or for GeForce and RTX: {install_command('tensorrt-rtx')}"


def installed() -> list[str]:
    """Return the names of the installed TensorRT modules."""
    return [name for name in NAMES if importlib.util.find_spec(name)]


def import_tensorrt(name: str) -> Library:
    """Import a TensorRT module.

    Arguments:
        name: one of `NAMES`.

    Raises:
        DeviceError: the module is missing or broken.
        ValueError: `name` is not in `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a TensorRT library, expected one of {', '.join(NAMES)}")
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise DeviceError(f"{name} cannot be imported ({error}); {install_hint()}") from error
    return Library(name, str(module.__version__), module)


class Log:
    """A logger that collects TensorRT's warnings and errors, which error messages then quote."""

    def __init__(self, module: ModuleType) -> None:
        lines: list[str] = []

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: Any, message: str) -> None:
                if severity <= module.ILogger.WARNING:
                    lines.append(message)

        self.lines = lines
        self.logger = Logger()

    def __str__(self) -> str:
        return "; ".join(self.lines[-3:]) or "TensorRT gives no reason"
