"""The GPU at hand: which architecture it is."""

from sdtrt.errors import DeviceError


def architecture() -> str:
    """Return the first GPU's architecture, such as `sm89`; `DeviceError` says why none can be seen."""
    try:
        from cuda.core import Device
    except ImportError as error:
        raise DeviceError(
            f"GPUs are seen through cuda-core, which is missing ({error}): pip install 'sdtrt[gpu]'"
        ) from error
    try:
        major, minor = Device(0).compute_capability
    except Exception as error:  # of the driver, or of the search for it: no common base
        raise DeviceError(f"no GPU: {error}") from error
    return f"sm{major}{minor}"
