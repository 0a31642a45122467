"""EXIF, XMP and text of an image: each is a deflated chunk of the file."""

import zlib
from dataclasses import dataclass

from sdtrt.engine.format.container import EXIF, TEXT, XMP, File
from sdtrt.engine.format.inflate import inflate
from sdtrt.errors import FormatError

MAX_NBYTES = 1 << 24  # inflated
MAX_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Metadata:
    """EXIF, XMP and text.

    Arguments:
        exif: a TIFF structure whose orientation, if it has one, is 1.
        xmp: a packet of XML.
        text: pairs of keyword and text.
    """

    exif: bytes = b""
    xmp: bytes = b""
    text: tuple[tuple[str, str], ...] = ()


NO_METADATA = Metadata()


def to_chunks(metadata: Metadata) -> dict[int, bytes]:
    """Return the chunks of metadata by type; `ValueError` if `read_metadata` would refuse them as too large."""
    text = "".join(f"{keyword}\0{value}\0" for keyword, value in metadata.text)
    contents = {EXIF: metadata.exif, XMP: metadata.xmp, TEXT: text.encode("utf-8", "replace")}
    if len(metadata.text) > MAX_TEXTS:
        raise ValueError(f"{len(metadata.text)} texts, a file can hold {MAX_TEXTS}; leave them out (--strip)")
    nbytes = max(map(len, contents.values()))
    if nbytes > MAX_NBYTES:
        raise ValueError(f"metadata of {nbytes} bytes, a file can hold {MAX_NBYTES}; leave it out (--strip)")
    return {kind: zlib.compress(data, 9) for kind, data in contents.items() if data}


def read_metadata(file: File) -> Metadata:
    """Return a file's metadata; `FormatError` if a chunk is damaged."""
    contents = {
        kind: inflate(file.chunks[kind], MAX_NBYTES, name) if kind in file.chunks else b""
        for kind, name in ((EXIF, "EXIF"), (XMP, "XMP"), (TEXT, "text"))
    }
    if contents[TEXT].count(b"\0") > 2 * MAX_TEXTS:
        raise FormatError(f"more than {MAX_TEXTS} texts")
    try:
        parts = contents[TEXT].decode("utf-8").split("\0")
    except UnicodeDecodeError as error:
        raise FormatError(f"damaged text: {error}") from error
    if len(parts) % 2 != 1 or parts[-1]:
        raise FormatError("damaged text: expected pairs of keyword and text, each ended by a zero byte")
    return Metadata(contents[EXIF], contents[XMP], tuple(zip(parts[:-1:2], parts[1::2], strict=True)))
