"""Files of latents: `.npy`, `.npz` and `.safetensors`. Their content identifies the format."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from sdtrt._arrays import AnyArray, F32Array
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.latents.npy import NPY, PICKLED, ZIP, read_npy, read_npz
from sdtrt.latents.safetensors import looks_like_safetensors, read_safetensors, safetensors_file

KINDS = ".npy, .npz or .safetensors"


def read_latents(stream: IO[bytes], key: str | None = None, limits: Limits = DEFAULT_LIMITS) -> AnyArray:
    """Return the array of latents in a file, of any shape and floating-point dtype.

    Arguments:
        stream: the opened file. It is read from its beginning.
        key: the name of the array in a `.npz` or `.safetensors` file. Default None: `latents`, `latent_tensor` or the
            only array.
        limits: `max_pixels` also limits the number of values.

    Raises `ValueError` if the file is of another format, damaged or pickled, `LimitError` if it exceeds `limits`.
    """
    nbytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = stream.read(16)
    stream.seek(0)
    if start.startswith(ZIP):
        return read_npz(stream, key, limits)
    if looks_like_safetensors(start, nbytes):
        return read_safetensors(stream, nbytes, key, limits)
    if not start.startswith(NPY):
        raise ValueError(fault_of(start))
    if key is not None:
        raise ValueError(f"key is {key!r}, expected None: the array of a .npy file has no name")
    return read_npy(stream, nbytes, limits)


def fault_of(start: bytes) -> str:
    """Return an error message for a file of an unknown format."""
    if not start:
        return f"the file is empty, expected {KINDS}"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLED
    if start.startswith(b"SDT"):
        return "this is an .sdt file, which holds encoded latents; decode it with --to-latents or decode_latents"
    return f"not a file of latents, {KINDS}: it starts with {start[:8]!r}; images are encoded without --from-latents"


def npy_file(latents: F32Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, latents)
    return stream.getvalue()


def npz_file(latents: F32Array) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, latents=latents)
    return stream.getvalue()


WRITERS: dict[str, Callable[[F32Array], bytes]] = {
    ".npy": npy_file,
    ".npz": npz_file,
    ".safetensors": safetensors_file,
}


def suffix_of_latents(name: str) -> str:
    """Return the suffix of an output file of latents: `.npy` for a name without a suffix.

    Raises `ValueError` for any other suffix than those of `WRITERS`.
    """
    suffix = Path(name).suffix.lower() or ".npy"
    if suffix not in WRITERS:
        raise ValueError(f"{name}: latents cannot be written as {suffix}; expected {KINDS}")
    return suffix
