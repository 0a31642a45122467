"""The alpha plane, lossless: differences to the row above, deflated."""

import zlib

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.format.container import ALPHA, File
from sdtrt.engine.format.inflate import inflate
from sdtrt.errors import FormatError

Plane = NDArray[np.uint8]


def encode(plane: Plane) -> bytes:
    """Return the data of an ALPHA chunk for a plane, uint8 (H, W)."""
    return zlib.compress(np.diff(plane, axis=0, prepend=np.zeros_like(plane[:1])).tobytes(), 9)


def alpha_of_file(file: File) -> Plane | None:
    """Return a file's alpha plane, uint8 (H, W), None if it has none; `FormatError` if it is damaged."""
    if ALPHA not in file.chunks:
        return None
    return decode(file.chunks[ALPHA], file.header.width, file.header.height)


def decode(data: bytes, width: int, height: int) -> Plane:
    """Return the plane, uint8 (height, width); `FormatError` if `data` holds more, less or something else."""
    rows = inflate(data, width * height, "alpha plane")
    if len(rows) != width * height:
        raise FormatError(f"damaged alpha plane: {len(rows)} values, expected {width}x{height}")
    return np.cumsum(np.frombuffer(rows, np.uint8).reshape(height, width), axis=0, dtype=np.uint8)
