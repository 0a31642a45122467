"""The GPU of this machine: its architecture, and whether it can run networks."""

import ctypes
import sys

from sdtrt.errors import DeviceError
from sdtrt.kernels.device import fatbin
from sdtrt.process.install import install_command

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def description(index: int = 0) -> str:
    """Return the name, the architecture and the driver of GPU `index`, in one line.

    Raises:
        DeviceError: the GPU is not accessible; the message has the reason.
    """
    kind = architecture(index)
    from cuda.core import Device, system

    driver = ".".join(map(str, system.get_user_mode_driver_version()))
    return f"{Device(index).name}, {kind}, driver for CUDA {driver}"


def architecture(index: int = 0) -> str:
    """Return the architecture of GPU `index`, such as `sm89`.

    Raises:
        DeviceError: the GPU is not accessible; the message has the reason.
    """
    _require_driver(index)  # first, since the import of cuda-core takes a long time
    try:
        from cuda.core import Device
    except ImportError as error:
        raise DeviceError(
            f"GPUs need cuda-core, which is missing ({error}); install it with: {install_command('gpu')}"
        ) from error
    try:
        major, minor = Device(index).compute_capability
    except Exception as error:  # errors of the driver and of its loader have no common base
        raise DeviceError(f"no GPU {index}: {error}") from error
    return f"sm{major}{minor}"


def _require_driver(index: int) -> None:
    """Raise `DeviceError` if the library of NVIDIA's driver is not there."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError as error:
        raise DeviceError(f"no GPU {index}: NVIDIA's driver is not installed ({error})") from error


def gpu_unavailable_reason(index: int, precision: str) -> str:
    """Return why GPU `index` cannot run networks in a precision; empty if it can."""
    try:
        architecture(index)
        fatbin()
    except DeviceError as error:
        return str(error)
    return "" if precision == "auto" else f"on a GPU the bundle's files decide the precision, which is not {precision}"
