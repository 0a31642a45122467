"""Decompression of zlib streams from untrusted files."""

import zlib

from sdtrt.errors import FormatError


def inflate(data: bytes, max_nbytes: int, name: str) -> bytes:
    """Return the content of a zlib stream.

    Arguments:
        data: the stream.
        max_nbytes: limit of the content's length.
        name: of the content, for messages.

    Raises `FormatError` if the stream is damaged, or its content is longer than `max_nbytes`.
    """
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, max_nbytes + 1)
    except zlib.error as error:
        raise FormatError(f"damaged {name}: {error}") from error
    if len(content) > max_nbytes:
        raise FormatError(f"{name} inflates to more than {max_nbytes} bytes")
    if not stream.eof or stream.unused_data:
        reason = f"{len(stream.unused_data)} bytes follow it" if stream.eof else "it is truncated"
        raise FormatError(f"damaged {name}: its zlib stream does not end with the data: {reason}")
    return content
