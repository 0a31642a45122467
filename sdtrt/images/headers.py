"""Fields of image file headers that Pillow does not give: colour space, bit depth, skipped metadata."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from PIL import Image

from sdtrt.images.opening import raw_file

HEAD_NBYTES = 1 << 22  # the most bytes that are read of a box or a chunk
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG2000_STREAM = b"\xff\x4f\xff\x51"
BOXED = {"AVIF", "HEIF", "JPEG2000"}
CONTAINERS = {b"jp2h", b"iprp", b"ipco"}  # boxes that hold nothing but boxes
FULL_CONTAINERS = {b"meta"}  # the same after four bytes of version and flags
TIFF_BITS, TIFF_IPTC, TIFF_PHOTOSHOP, TIFF_LAYERS = 258, 33723, 34377, 37724
GEO_TAGS = {33550, 33922, 34264, 34735}
JUMBF = b"JP"  # begins segments of a JPEG file that hold content credentials


@dataclass(slots=True)
class Head:
    """The fields of a file's header.

    Arguments:
        bits: bits per channel.
        cicp: colour primaries, transfer function and matrix as in ITU-T H.273; None if the file gives none.
        parts: the names of boxes or chunks.
    """

    bits: int = 8
    cicp: tuple[int, int, int] | None = None
    parts: set[bytes] = field(default_factory=set)


def head_of(image: Image.Image) -> Head:
    """Return the header fields of the file that an image was opened from, before its pixels are loaded."""
    head = Head(bits=_bits_of_tile(image))
    tags = getattr(image, "tag_v2", {})
    if TIFF_BITS in tags:
        head.bits = max([head.bits, *(bits for bits in _tuple(tags[TIFF_BITS]) if isinstance(bits, int))])
    if image.format == "PNG" or image.format in BOXED:
        with raw_file(image) as stream:
            if image.format == "PNG":
                _read_png(stream, head)
            else:
                _read_boxes(stream, head)
    return head


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _bits_of_tile(image: Image.Image) -> int:
    """Return the bits per channel in the file, as the arguments of Pillow's decoder give them."""
    for name, *_, arguments in getattr(image, "tile", ()):
        values = _tuple(arguments)
        if name in {"ppm", "ppm_plain"} and len(values) > 1 and isinstance(values[1], int):
            return max(8, values[1].bit_length())
        if name == "SGI16" or (name == "sgi_rle" and values[-1] == 2) or "BC6H" in str(values):
            return 16
        if deep := re.search(r";(10|12|14|16)", str(values)):
            return int(deep[1])
    return 8


def png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of each chunk of a PNG file, and the content of chunks of at most 64 bytes."""
    if stream.read(8) != PNG_SIGNATURE:
        return
    while len(head := stream.read(8)) == 8:
        nbytes, name = struct.unpack(">I4s", head)
        content = stream.read(nbytes) if nbytes <= 64 else b""
        stream.seek(nbytes - len(content) + 4, 1)
        yield name, content


def _read_png(stream: IO[bytes], head: Head) -> None:
    for name, content in png_chunks(stream):
        head.parts.add(name)
        if name == b"IHDR" and len(content) >= 9:
            head.bits = max(8, content[8])
        elif name == b"cICP" and len(content) == 4:
            head.cicp = content[0], content[1], content[2]


def boxes(stream: IO[bytes], end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each box before position `end`; the content is cut at `HEAD_NBYTES`."""
    while (start := stream.tell()) + 8 <= end:
        nbytes, kind = struct.unpack(">I4s", stream.read(8))
        if nbytes == 1 and stream.tell() + 8 <= end:
            (nbytes,) = struct.unpack(">Q", stream.read(8))
        after = end if nbytes == 0 else start + nbytes
        if not stream.tell() <= after <= end:
            return
        if kind in CONTAINERS or kind in FULL_CONTAINERS:
            yield kind, b""
            stream.seek(4 if kind in FULL_CONTAINERS else 0, 1)
            yield from boxes(stream, after)
        else:
            yield kind, stream.read(min(after - stream.tell(), HEAD_NBYTES))
        stream.seek(after)


def _read_boxes(stream: IO[bytes], head: Head) -> None:
    start = stream.read(4)
    end = stream.seek(0, 2)
    stream.seek(0)
    if start == JPEG2000_STREAM:
        _read_siz(stream.read(HEAD_NBYTES), head)
        return
    for kind, content in boxes(stream, end):
        head.parts.add(kind)
        _read_box(kind, content, head)


def _read_box(kind: bytes, content: bytes, head: Head) -> None:
    if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 10:
        head.cicp = struct.unpack_from(">3H", content, 4)
    elif kind == b"colr" and content[:1] in {b"\2", b"\3"}:
        head.parts.add(b"colr with a profile")
    elif kind == b"pixi" and len(content) > 5:
        head.bits = max(head.bits, *content[5:])
    elif kind == b"av1C" and len(content) > 2:
        head.bits = max(head.bits, 8 + 2 * (content[2] >> 6 & 1) + 2 * (content[2] >> 5 & 1))
    elif kind == b"ftyp" and b"tmap" in content:
        head.parts.add(b"tmap")
    elif kind == b"jp2c":
        _read_siz(content, head)


def _read_siz(stream: bytes, head: Head) -> None:
    """Read the bits per component of a JPEG 2000 stream."""
    if stream.startswith(JPEG2000_STREAM) and len(stream) > 42:
        (count,) = struct.unpack_from(">H", stream, 40)
        head.bits = max([head.bits, *(((depth & 0x7F) + 1) for depth in stream[42 : 42 + 3 * count : 3])])
