"""The alpha plane, lossless: differences to the row above, deflated."""

import zlib

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.container import ALPHA, File
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
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(data, width * height)
        # zlib stops at the size asked for: before the checksum that ends the stream, or before what is too much.
        more = len(rows) == width * height and not inflate.eof and inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise FormatError(f"damaged alpha plane: {error}") from error
    if more:
        raise FormatError(f"alpha plane holds more than {width}x{height} values")
    if len(rows) != width * height or not inflate.eof or inflate.unused_data:
        raise FormatError(f"damaged alpha plane: {len(rows)} values, expected {width}x{height}")
    return np.cumsum(np.frombuffer(rows, np.uint8).reshape(height, width), axis=0, dtype=np.uint8)
