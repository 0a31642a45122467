"""Where networks run: one small protocol, and the choice among its implementations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sdtrt.errors import DeviceError

Floats = NDArray[np.float32]

BACKENDS = ("auto", "ort")


class Network(Protocol):
    """A loaded network; safe to run from several threads."""

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return all outputs by name for inputs by name."""


class Backend(Protocol):
    """A way to run networks on a device."""

    name: str

    def load(self, path: Path) -> Network:
        """Open the network in an ONNX file; `BundleError` if it cannot be run."""


def open_backend(backend: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """Return the backend for a `--backend`, `--device` and `--threads`.

    Raises `ValueError` for unknown names, `DeviceError` where the machine lacks what the choice needs.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is unknown; this version has: {', '.join(BACKENDS)}")
    if device not in {"auto", "cpu"}:
        raise DeviceError(f"device {device!r}: this version runs on the CPU only; use --device cpu")
    from sdtrt.engine.backends.ort import OrtCpu

    return OrtCpu(threads)
