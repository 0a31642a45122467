"""The index of a file: offset, length and CRC of each segment.

With it a part of an image can be read alone, and damage to one segment leaves the others readable.
"""

import binascii
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import BinaryIO, overload

from sdtrt.engine.format.layout import SINGLE, Layout
from sdtrt.errors import FormatError

MAX_VARINT = 5  # bytes


def read_fully(stream: BinaryIO, nbytes: int) -> bytes:
    """Return the next `nbytes` bytes of a stream, fewer only at its end. A raw stream may need several reads."""
    parts = []
    while nbytes and (part := stream.read(nbytes)):
        parts.append(part)
        nbytes -= len(part)
    return b"".join(parts)


class Cursor:
    """Reads a binary stream from its position on. `consumed` are the bytes so far, for a checksum."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.consumed = bytearray()

    def take(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes; `FormatError` if the stream ends before."""
        data = self._stream.read(nbytes)
        while len(data) < nbytes and (more := self._stream.read(nbytes - len(data))):  # a raw stream may read less
            data += more
        if len(data) != nbytes:
            raise FormatError(
                f"truncated file: expected {nbytes} bytes at offset {len(self.consumed)}, found {len(data)}"
            )
        self.consumed += data
        return data

    def byte(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def varint(self) -> int:
        """Return a number coded in LEB128: 7 bits in each byte, lowest first; the top bit marks that more follow."""
        value = 0
        for position in range(MAX_VARINT):
            [byte] = self.take(1)
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if position and not byte:
                    raise FormatError("malformed number: its last byte is 0, the encoding is not the shortest")
                return value
        raise FormatError(f"malformed number: longer than {MAX_VARINT} bytes")


def varint(value: int) -> bytes:
    """Return a number coded in LEB128, as `Cursor.varint` reads it."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


LEVELS_MASK, ALPHA_BIT, OVERLAY_BIT, RESIDUAL_BIT, UNKNOWN_BITS = 0x07, 0x08, 0x10, 0x20, 0xC0
MIN_ENTRY = 3  # bytes of a segment's entry


@dataclass(frozen=True)
class Index:
    """Lengths and CRCs of the segments, which lie one after another.

    Arguments:
        start: offset of the first segment in the file.
        nbytes: length of each segment.
        crcs: CRC-16 of each segment; empty in a file of a single segment, which has none.
    """

    start: int
    nbytes: tuple[int, ...]
    crcs: tuple[int, ...] = ()

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The offset of each segment, and the end of the last one."""
        return tuple(itertools.accumulate(self.nbytes, initial=self.start))

    @property
    def end(self) -> int:
        return self.offsets[-1]

    def slices(self, data: bytes) -> Iterator[bytes]:
        """Yield the segments in `data`, the bytes of a file. Truncated segments are shorter or empty."""
        return (data[first:last] for first, last in itertools.pairwise(self.offsets))

    def verify_segment(self, number: int, segment: bytes) -> None:
        """Raise `FormatError` if the length or the CRC of a segment differs from the index."""
        if len(segment) != self.nbytes[number] or (self.crcs and self.crcs[number] != segment_crc(segment)):
            raise FormatError(
                f"damaged file: segment {number} at byte {self.offsets[number]} differs from its length or CRC"
            )


def segment_crc(segment: bytes) -> int:
    """Return the CRC-16/XMODEM of a segment. It detects every burst of errors of up to 16 bits."""
    return binascii.crc_hqx(segment, 0)


def write_index(layout: Layout, segments: Sequence[bytes], before: bytes) -> bytes:
    """Return the bytes of the index; they end with a CRC-32 of `before`, the bytes in front, and of the index."""
    kinds = ALPHA_BIT * layout.alpha | OVERLAY_BIT * layout.overlay | RESIDUAL_BIT * (layout.residual_step > 0)
    parts = [varint(layout.columns - 1), varint(layout.rows - 1), bytes([layout.levels | kinds])]
    if layout.residual_step:
        parts.append(struct.pack("<H", layout.residual_step))
    parts += [varint(len(segment)) + struct.pack("<H", segment_crc(segment)) for segment in segments]
    entries = b"".join(parts)
    return entries + struct.pack("<I", zlib.crc32(before + entries))


def read_index(cursor: Cursor, nbytes: int, height: int, width: int) -> tuple[Layout, Index]:
    """Return the layout and the index at the cursor's position.

    Arguments:
        cursor: it has read everything before the index, from the start of the file.
        nbytes: length of the file without its checksum.
        height, width: of the image in pixels.

    Raises `FormatError` if the index is damaged, has more entries than `nbytes` bytes can hold, or more tiles than an
    image with one latent for each pixel can have.
    """
    columns, rows, kinds = cursor.varint() + 1, cursor.varint() + 1, cursor.byte()
    if kinds & UNKNOWN_BITS or not kinds & LEVELS_MASK:
        raise FormatError(f"unknown kinds of segments {kinds:#04x}; a later sdtrt may read this file")
    residual_step = cursor.u16() if kinds & RESIDUAL_BIT else 0
    layout = Layout(
        columns, rows, kinds & LEVELS_MASK, bool(kinds & ALPHA_BIT), bool(kinds & OVERLAY_BIT), residual_step
    )
    if kinds & RESIDUAL_BIT and not residual_step:
        raise FormatError("malformed file: the step of the residual layer is 0, expected 1 to 65535")
    if layout == SINGLE:
        raise FormatError("malformed file: an index of a single segment")
    if not layout.fits(height, width):
        raise FormatError(
            f"malformed file: {layout.columns}x{layout.rows} tiles, too many for an image of {width}x{height} pixels"
        )
    if layout.num_segments * MIN_ENTRY > nbytes:
        raise FormatError(f"index of {layout.num_segments} segments, too many for a file of {nbytes} bytes")
    entries = [(cursor.varint(), cursor.u16()) for _ in range(layout.num_segments)]
    crc = zlib.crc32(cursor.consumed)
    if crc != struct.unpack("<I", cursor.take(4))[0]:
        raise FormatError("damaged file: the checksum of its index does not match")
    lengths, crcs = zip(*entries, strict=True)
    return layout, Index(len(cursor.consumed), lengths, crcs)


class LazySegments(Sequence[bytes]):
    """The segments of a file in a stream. Each access reads one and verifies its CRC. Thread-safe."""

    def __init__(self, stream: BinaryIO, index: Index) -> None:
        self._stream, self._index, self._lock = stream, index, Lock()

    def __len__(self) -> int:
        return len(self._index.nbytes)

    def nbytes(self, number: int) -> int:
        """Return the length of a segment, without reading it."""
        return self._index.nbytes[number]

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        with self._lock:
            self._stream.seek(self._index.offsets[number])
            segment = read_fully(self._stream, self._index.nbytes[number])
        self._index.verify_segment(number, segment)
        return segment
