"""zlib streams of files that may be hostile."""

import zlib

from sdtrt.errors import FormatError


def inflate(data: bytes, largest: int, what: str) -> bytes:
    """Return what a zlib stream holds; `FormatError`, of `what`, if it is more than `largest` bytes or none at all."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, largest + 1)
    except zlib.error as error:
        raise FormatError(f"damaged {what}: {error}") from error
    if len(found) > largest:
        raise FormatError(f"{what} holds more than {largest} bytes")
    if not stream.eof or stream.unused_data:
        raise FormatError(f"damaged {what}: its stream does not end where it should")
    return found
