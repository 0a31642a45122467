"""The format safetensors: the length of a header in 8 bytes, the header in JSON, and the tensors' bytes."""

import json
from typing import IO, Any, NamedTuple

import numpy as np

from sdtrt._arrays import AnyArray, F32Array
from sdtrt.engine.format.limits import Limits
from sdtrt.latents.npy import check_size, choose_array, read_exactly
from sdtrt.process.text import printable

MAX_HEADER = 1 << 22  # bytes, for some 40,000 tensors
MAX_AXES = 8
DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
METADATA = "__metadata__"


class Entry(NamedTuple):
    """The entry of a tensor in a header. `begin` and `end` are byte positions after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def looks_like_safetensors(start: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` bytes that begins with `start` is probably of this format."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= nbytes - 8


def read_safetensors(stream: IO[bytes], nbytes: int, key: str | None, limits: Limits) -> AnyArray:
    """Return one tensor of a file of `nbytes` bytes; see `choose_array`. BF16 becomes float32.

    Raises `ValueError` if it is damaged or the tensor's numbers are not floating-point, `LimitError` if it is too
    large.
    """
    length = int.from_bytes(read_exactly(stream, 8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"safetensors file with a header of {length} bytes, expected at most {MAX_HEADER}")
    entries = header_entries(read_exactly(stream, length), nbytes - 8 - length)
    filled = [name for name, entry in entries.items() if entry.begin < entry.end]  # ComfyUI adds empty tensors as marks
    entry = entries[choose_array([*entries] if key in entries else filled, key)]
    if entry.dtype not in DTYPES:
        raise ValueError(f"tensor of dtype {printable(entry.dtype[:40])}, expected {', '.join(DTYPES)}; save it as F32")
    check_size(entry.shape, limits)
    dtype = np.dtype(DTYPES[entry.dtype])
    needed = int(np.prod(np.array(entry.shape, dtype=object))) * dtype.itemsize
    if entry.end - entry.begin != needed:
        raise damaged_file_error(
            f"shape {entry.shape} of {entry.dtype} takes {needed} bytes, not {entry.end - entry.begin}"
        )
    stream.seek(8 + length + entry.begin)
    values = np.frombuffer(read_exactly(stream, needed), dtype).reshape(entry.shape)
    return (values.astype(np.uint32) << 16).view(np.float32) if entry.dtype == "BF16" else values


def header_entries(data: bytes, nbytes: int) -> dict[str, Entry]:
    """Return the entry of each tensor; `ValueError` if a tensor does not lie within `nbytes` bytes."""
    try:
        fields = json.loads(data.decode("utf-8"), object_pairs_hook=require_unique_names)
    except RecursionError as error:
        raise damaged_file_error("its header is nested too deeply") from error
    except ValueError as error:
        raise damaged_file_error(f"its header is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise damaged_file_error("its header is no JSON object")
    entries = {name: entry_of(name, field) for name, field in fields.items() if name != METADATA}
    for name, entry in entries.items():
        if not entry.begin <= entry.end <= nbytes:
            raise damaged_file_error(f"tensor {name!r} lies at {entry.begin} to {entry.end} of {nbytes} bytes")
    return entries


def entry_of(name: str, field: Any) -> Entry:
    """Return the entry of a tensor; `ValueError` if it is malformed."""
    match field:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if (
            all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and len(shape) <= MAX_AXES
        ):
            return Entry(dtype, tuple(shape), begin, end)
    raise damaged_file_error(f"its header describes no tensor by {name!r}")


def require_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; `ValueError` if a name occurs twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name comes twice")
    return fields


def damaged_file_error(fault: str) -> ValueError:
    return ValueError(f"damaged safetensors file: {fault}")


def safetensors_file(latents: F32Array) -> bytes:
    """Return a file of one tensor named `latents`."""
    data = latents.astype("<f4", copy=False).tobytes()
    entry = {"dtype": "F32", "shape": list(latents.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"latents": entry}, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 8)  # so that the tensor is aligned
    return len(header).to_bytes(8, "little") + header + data
