"""The compiled core: the entropy stage in C++, in `kernels/host`. It is optional: without it the same is done in NumPy.

`compiled()` returns the module, or None. Its functions that code or convert release Python's lock while they work.
"""

import functools
import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, I16Array, I32Array, U8Array
from sdtrt.kernels import reference
from sdtrt.process.environment import variable
from sdtrt.process.threads import available_cpus

PURE = "SDTRT_PURE"  # the environment variable that turns the core off if it is 1
INTERFACE = 1  # the number in `kernels/host/module.cpp`
NOT_COMPILED = (
    "three to six times as slow as the compiled core, which is not in this installation: there was no C++ compiler "
    "when it was made, or it is a pure wheel"
)
MAX_THREADS_IN_TILE = 4  # a part of the work is done by one thread


@functools.cache
def compiled() -> Any | None:
    """Return the compiled module; None if it is turned off, or was not built."""
    return None if variable(PURE) == "1" else _load()[0]


def threads_over_tiles() -> int | None:
    """Return how many threads may code tiles: 1 if NumPy does it, which holds Python's lock; None for one a core."""
    return 1 if compiled() is None else None


def threads_in_tile() -> int:
    """Return how many threads share the positions of a tile: in the main thread more than one.

    Other threads are taken to be workers that code several tiles or files at once.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return min(available_cpus(), MAX_THREADS_IN_TILE)


def description() -> str:
    """Return a sentence that says whether the core is used, and with which instructions or why not."""
    core = compiled()
    if core is not None:
        return f"compiled, with {core.instruction_set()}"
    return f"NumPy, {_load()[1]}" if _load()[0] is None else f"NumPy, since {PURE}=1 turns the compiled core off"


@functools.cache
def _load() -> tuple[Any | None, str]:
    """Import the compiled module; return it, or None and the reason."""
    try:
        module = importlib.import_module("sdtrt.kernels._core")
    except ModuleNotFoundError:
        return None, NOT_COMPILED
    except ImportError as error:
        return None, f"since the compiled core cannot be loaded: {error}"
    # An editable installation finds its own module for any copy of sdtrt that has none.
    if Path(str(module.__file__)).parent != Path(__file__).parent:
        return None, NOT_COMPILED
    if getattr(module, "interface", int)() != INTERFACE:
        return None, f"since {module.__file__} was compiled from other sources; install sdtrt again"
    return module, ""


def planes_to_pixels(planes: F32Array, width: int, height: int, low: float, high: float) -> U8Array:
    """Convert planes to pixels as `reference.planes_to_pixels` does, by the core if it is there."""
    core = compiled()
    if core is None or planes.dtype != np.float32:
        return reference.planes_to_pixels(planes, width, height, low, high)
    pixels = np.empty((height, width, 3), np.uint8)
    shift, scale = reference.pixel_shift_and_scale(low, high)
    core.planes_to_pixels(np.ascontiguousarray(planes), *planes.shape[1:], shift, scale, pixels)
    return pixels


def inverse_dct(coefficients: I32Array) -> I16Array:
    """Compute a residual as `reference.inverse_dct` does, by the core if it is there."""
    core = compiled()
    if core is None:
        return reference.inverse_dct(coefficients)
    _, rows, columns = coefficients.shape[:3]
    residual = np.empty((rows * reference.BLOCK, columns * reference.BLOCK, 3), np.int16)
    core.inverse_dct(np.ascontiguousarray(coefficients), rows, columns, residual)
    return residual


def add_to_pixels(pixels: U8Array, residual: I16Array) -> None:
    """Add a residual to pixels, in place, and limit the sums to 0 to 255.

    Arguments:
        pixels: uint8 (H, W, 3 or 4); alpha does not change.
        residual: int16 (H, W, 3), in 8-bit values.
    """
    core = compiled()
    rows_are_contiguous = all(
        array.strides[1:] == (array.shape[2] * array.itemsize, array.itemsize) for array in (pixels, residual)
    )
    if core is None or not rows_are_contiguous:
        pixels[:, :, :3] = np.minimum(np.maximum(pixels[:, :, :3] + residual, 0), 255)
    else:
        core.add_residual(pixels, residual)
