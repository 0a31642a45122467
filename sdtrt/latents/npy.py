"""NumPy's files: the array in a `.npy` file, or one array of a `.npz` file. Nothing is evaluated or unpickled."""

import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from sdtrt._arrays import AnyArray
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import LimitError

NPY, ZIP = b"\x93NUMPY", b"PK"
MAX_HEADER = 1 << 16  # bytes; the header of an array of numbers has about 128
MAX_AXES = 8
MAX_AXIS = 1 << 40
NAMES = ("latents", "latent_tensor")  # default names; ComfyUI uses the second
# One entry of the dictionary in a header. Quantifiers are possessive: no header makes matching slow.
ENTRY = re.compile(r"\s*+['\"](\w++)['\"]\s*+:\s*+('[^']*+'|\"[^\"]*+\"|True|False|\([^()]*+\)|\[[^\[\]]*+\])\s*+")
FLOAT = re.compile(r"[<>=|]?f(?:2|4|8|12|16)")
PICKLED = (
    "this is a pickled file, such as PyTorch's .pt and .pth and Python's .pkl, which can run code when it is opened; "
    'save the latents as .npy or .safetensors: safetensors.torch.save_file({"latents": latents}, "x.safetensors")'
)
CORRUPT = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
)


def read_npy(stream: IO[bytes], nbytes: int, limits: Limits) -> AnyArray:
    """Return the array in a `.npy` file of `nbytes` bytes.

    Raises `ValueError` if it is damaged or its numbers are not floating-point, `LimitError` if it is too large.
    """
    start = read_exactly(stream, 8)
    if not start.startswith(NPY):
        raise ValueError("damaged .npy file: it does not start as one")
    width = {1: 2, 2: 4, 3: 4}.get(start[6])
    if width is None:
        raise ValueError(f".npy file of version {start[6]}.{start[7]}, expected 1.0 to 3.0; save it again")
    length = int.from_bytes(read_exactly(stream, width), "little")
    if length > MAX_HEADER:
        raise ValueError(f"damaged .npy file: a header of {length} bytes, expected at most {MAX_HEADER}")
    fields = header_fields(read_exactly(stream, length).decode("latin-1"))
    dtype, shape = dtype_of(fields["descr"]), shape_of(fields["shape"])
    check_size(shape, limits)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    there, needed = nbytes - 8 - width - length, count * dtype.itemsize
    if there != needed:
        raise ValueError(f"damaged .npy file: shape {shape} of {dtype} takes {needed} bytes, it has {there}")
    order: Any = "F" if fields["fortran_order"] == "True" else "C"
    return np.frombuffer(read_exactly(stream, needed), dtype).reshape(shape, order=order)


def read_exactly(stream: IO[bytes], nbytes: int) -> bytes:
    """Return the next `nbytes` bytes of a stream; `ValueError` if it ends before."""
    data = stream.read(nbytes)
    if len(data) != nbytes:
        raise ValueError(f"damaged file: it ends {nbytes - len(data)} bytes early")
    return data


def header_fields(text: str) -> dict[str, str]:
    """Parse a header, the text of a Python dictionary with three entries, without evaluating it."""
    body, fields, at = text.strip(), {}, 1
    while entry := ENTRY.match(body, at):
        fields[entry[1]] = entry[2]
        at = entry.end()
        if body[at : at + 1] != ",":
            break
        at += 1
    whole = body[:1] == "{" and body[at:].strip() == "}"
    if not whole or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("damaged .npy file: its header does not give descr, fortran_order and shape")
    if fields["fortran_order"] not in ("True", "False"):
        raise ValueError("damaged .npy file: fortran_order is neither True nor False")
    return fields


def dtype_of(text: str) -> np.dtype[Any]:
    """Return the dtype that a header describes; `ValueError` if it is not a floating-point type."""
    name = text[1:-1]
    if text[0] in "'\"" and FLOAT.fullmatch(name):
        try:
            return np.dtype(name)
        except TypeError as error:
            raise ValueError(f"array of dtype {name}, which this machine lacks; save it as float32") from error
    found = {"O": "Python objects", "S": "bytes", "U": "text", "i": "integers", "u": "integers", "b": "truth values"}
    kind = found.get(name.lstrip("<>=|")[:1], f"dtype {name[:40]}")
    if name.lstrip("<>=|") == "V2":
        kind = "2 bytes each without a dtype, as NumPy saves bfloat16"
    raise ValueError(f"array of {kind}, expected floating-point numbers; save it as float32")


def shape_of(text: str) -> tuple[int, ...]:
    """Return the shape that a header describes; `ValueError` if it is malformed or too large."""
    if not re.fullmatch(r"\((?:\s*\d{1,19}L?\s*,)*(?:\s*\d{1,19}L?)?\s*\)", text):
        raise ValueError(f"damaged .npy file: its header gives no shape, but {text[:40]}")
    shape = tuple(int(n) for n in re.findall(r"\d+", text))
    if len(shape) > MAX_AXES or max(shape, default=0) > MAX_AXIS:
        raise ValueError(f"damaged .npy file: shape {text[:80]} has too many axes or too long ones")
    return shape


def check_size(shape: Sequence[int], limits: Limits) -> None:
    """Raise `LimitError` if an array has more values than `limits.max_pixels`."""
    count = int(np.prod(np.array(shape, dtype=object)))
    if count > limits.max_pixels:
        raise LimitError(
            f"latents of shape {tuple(shape)} have {count} values; the limit is {limits.max_pixels} (--max-pixels)"
        )


def read_npz(stream: IO[bytes], key: str | None, limits: Limits) -> AnyArray:
    """Return one array of a `.npz` file; see `choose_array`. Raises as `read_npy` does."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if any(name.rpartition("/")[2] == "data.pkl" for name in members):
                raise ValueError(PICKLED)
            names = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
            info = members[f"{choose_array(names, key)}.npy"]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f".npz file with compression {info.compress_type}, expected none or deflate")
            if info.flag_bits & 1:
                raise ValueError(".npz file with an encrypted array, expected a plain one; save it without a password")
            with archive.open(info) as member:
                return read_npy(member, info.file_size, limits)
    except CORRUPT as error:
        raise ValueError(f"damaged .npz file: {error or type(error).__name__}") from error


def choose_array(names: Sequence[str], key: str | None) -> str:
    """Return `key` if it is given, otherwise the name `latents` or `latent_tensor`, or the only name.

    Raises `ValueError`, which lists the names, if the array does not exist or the choice is ambiguous.
    """
    if key in names:
        return str(key)
    there = ", ".join(repr(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if key is not None:
        raise ValueError(f"the file has no array named {key!r}; there are: {there or 'none'}")
    if not names:
        raise ValueError("the file has no arrays; expected one with latents, named 'latents'")
    for name in NAMES if len(names) > 1 else names:
        if name in names:
            return name
    raise ValueError(f"the file has {len(names)} arrays: {there}; choose one by its name: --key NAME, key=NAME")
