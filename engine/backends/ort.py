"""ONNX Runtime on the CPU: the only import of `onnxruntime` in the run time."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from sdtrt.errors import BundleError, DeviceError

Floats = NDArray[np.float32]


def import_onnxruntime() -> ModuleType:
    """Return the module; `DeviceError` says which extra to install where it is missing or broken."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime is needed to run networks ({error}); "
            "install it with: pip install 'sdtrt[cpu]' (or 'sdtrt[gpu]' beside an NVIDIA GPU)"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


class OrtNetwork:
    """An inference session, opened once."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self._path = path
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        # Shapes change from picture to picture: memory planned for one shape is of no use to the next.
        options.enable_mem_pattern = False
        # Threads that wait by spinning take the cores from the entropy coder's matrix products.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise BundleError(f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        try:
            found = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise BundleError(f"{self._path} cannot run on {shapes}: {error}") from error
        return dict(zip(self._outputs, found, strict=True))


class OrtCpu:
    """The CPU, with `threads` threads per network (None: all cores)."""

    name = "ort-cpu"

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads {threads}, expected at least 1")
        import_onnxruntime()
        self._threads = threads

    def load(self, path: Path) -> OrtNetwork:
        return OrtNetwork(path, self._threads)
