"""Latents in memory: arrays and tensors of any library to NumPy arrays, without importing that library."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sdtrt._arrays import AnyArray, F32Array
from sdtrt.engine.format.latent_space import LatentSpaceInfo

EXPECTED = "a NumPy array, a torch tensor, an object with DLPack or __array__, or the path of a file of latents"
OTHER_FLOATS = ("bfloat16", "float8")  # of ml_dtypes: NumPy does not count them as floats


def to_numpy(latents: object) -> AnyArray:
    """Convert an array or a tensor to a NumPy array of any dtype. Device memory is copied.

    Raises `TypeError` for any other object, `ValueError` if the conversion fails.
    """
    if isinstance(latents, np.ma.MaskedArray) and np.ma.is_masked(latents):
        raise ValueError("latents have masked values, expected numbers everywhere; fill them: latents.filled(0)")
    if isinstance(latents, np.ndarray):
        return latents
    if is_tensor(latents):
        return convert_array(latents, array_of_tensor)
    if hasattr(latents, "__cuda_array_interface__") and hasattr(latents, "get"):  # CuPy and PyCUDA copy by `get`
        return convert_array(latents, lambda device: device.get())
    if hasattr(latents, "__array__"):
        return convert_array(latents, np.asarray)
    if hasattr(latents, "__dlpack__"):
        return convert_array(latents, np.from_dlpack)
    raise TypeError(f"latents are a {type(latents).__name__}, expected {EXPECTED}{remedy_of(latents)}")


def is_tensor(latents: object) -> bool:
    """Return whether an object is a torch tensor or an instance of a subclass."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(latents).__mro__) and hasattr(
        latents, "detach"
    )


def array_of_tensor(tensor: Any) -> AnyArray:
    """Convert a torch tensor. Floats that NumPy lacks, such as bfloat16, become float32 without loss."""
    values = tensor.detach().cpu().resolve_neg()
    if values.is_floating_point():
        values = values.double() if "float64" in str(values.dtype) else values.float()
    return np.asarray(values.numpy())


def convert_array(latents: Any, convert: Callable[[Any], Any]) -> AnyArray:
    """Apply `convert` to an array, and raise `ValueError` for errors of other libraries."""
    try:
        return np.asarray(convert(latents))
    except (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"latents of type {type(latents).__name__} cannot be converted to a NumPy array: {error}; "
            "pass a dense array in host memory"
        ) from error


def remedy_of(latents: object) -> str:
    """Return a hint for the objects in which diffusers and ComfyUI keep latents; "" for others."""
    if hasattr(latents, "latent_dist"):
        return "; pass .latent_dist.mean of it, at unit scale"
    if isinstance(latents, dict):
        return f"; pass one of its entries: {', '.join(map(str, list(latents)[:8]))}"
    if isinstance(latents, list | tuple):
        return "; pass np.asarray(…) of it"
    return ""


def checked_latents(array: AnyArray, profile: LatentSpaceInfo) -> F32Array:
    """Convert an array of any float dtype to latents, float32 (C, h, w), C-contiguous. A batch axis of 1 is dropped.

    Raises `ValueError` if dtype, shape or values do not fit the latent space of the profile.
    """
    check_dtype(array)
    plane = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    check_shape(plane, profile)
    with np.errstate(over="ignore", invalid="ignore"):
        latents = np.ascontiguousarray(plane, dtype=np.float32)
    finite = np.isfinite(latents)
    if not finite.all():
        place = tuple(int(n) for n in np.argwhere(~finite)[0])
        raise ValueError(
            f"latents hold {np.count_nonzero(~finite)} values that are not finite float32 numbers, "
            f"the first, {plane[place]}, at (channel, row, column) {place}; expected finite values. "
            "A VAE in float16 may overflow: encode in float32 or bfloat16"
        )
    return latents


def check_dtype(array: AnyArray) -> None:
    """Raise `ValueError` if an array's dtype is not a floating-point type."""
    if array.dtype.kind == "f" or array.dtype.name.startswith(OTHER_FLOATS):
        return
    remedy = "pass latents at unit scale as float32"
    if array.dtype.kind in "iub":
        remedy = "if they were quantized, dequantize them first; " + remedy
    raise ValueError(f"latents of dtype {array.dtype}, expected a floating-point dtype; {remedy}")


def check_shape(array: AnyArray, profile: LatentSpaceInfo) -> None:
    """Raise `ValueError` if an array is not of shape (C, h, w), with C of the latent space and h, w at least 1."""
    channels, shape = profile.channels, array.shape
    if array.ndim == 3 and shape[0] == channels and array.size:
        return
    raise ValueError(
        f"latents of shape {shape}, expected ({channels}, height, width), or (1, {channels}, height, width), "
        f"in latent space {profile.latent_space}" + remedy_of_shape(shape, channels)
    )


def remedy_of_shape(shape: tuple[int, ...], channels: int) -> str:
    """Return a hint about the likely mistake behind a wrong shape; "" if none is likely."""
    if 0 in shape:
        return "; the array is empty"
    if len(shape) == 4 and shape[1] == channels:
        return f"; this is a batch of {shape[0]}: encode its entries one by one"
    if len(shape) == 5 and channels in shape[1:3]:
        return "; these look like latents of a video: pass one frame of it"
    if len(shape) in (3, 4) and shape[-1] == channels:
        return "; the channels are last: pass np.moveaxis(latents, -1, -3)"
    if len(shape) == 3 and shape[0] == 2 * channels:
        return f"; a VAE's mean and log-variance lie in one array: pass latents[:{channels}], at unit scale"
    if len(shape) == 3:
        return f"; latents of {shape[0]} channels are of another latent space"
    return ""
