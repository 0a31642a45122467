"""The GPU at hand: which architecture it is."""

from sdtrt.errors import DeviceError
from sdtrt.process.install import install_command


def description(index: int = 0) -> str:
    """Return a GPU's name, architecture and driver; `DeviceError` says why it cannot be seen."""
    kind = architecture(index)
    from cuda.core import Device, system

    driver = ".".join(map(str, system.get_user_mode_driver_version()))
    return f"{Device(index).name}, {kind}, driver for CUDA {driver}"


def architecture(index: int = 0) -> str:
    """Return a GPU's architecture, such as `sm89`; `DeviceError` says why it cannot be seen."""
    try:
        from cuda.core import Device
    except ImportError as error:
        raise DeviceError(
            f"GPUs are seen through cuda-core, which is missing ({error}): {install_command('gpu')}"
        ) from error
    try:
        major, minor = Device(index).compute_capability
    except Exception as error:  # of the driver, or of the search for it: no common base
        raise DeviceError(f"no GPU {index}: {error}") from error
    return f"sm{major}{minor}"
