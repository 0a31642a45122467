"""Where segments lie, and a check of each: so that parts can be read, and no more is lost than is damaged."""

import binascii
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import BinaryIO, overload

from sdtrt.engine.format.cursor import Cursor, read_fully, varint
from sdtrt.engine.format.layout import SINGLE, Layout
from sdtrt.errors import FormatError

LEVELS_MASK, ALPHA_BIT, OVERLAY_BIT, RESIDUAL_BIT, UNKNOWN_BITS = 0x07, 0x08, 0x10, 0x20, 0xC0
MIN_ENTRY = 3  # bytes of a segment's entry


@dataclass(frozen=True)
class Index:
    """Where segments lie in a file, one behind the other from `start`; `crcs` is empty where they have none."""

    start: int
    nbytes: tuple[int, ...]
    crcs: tuple[int, ...] = ()

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The offset of each segment, and of what follows the last."""
        return tuple(itertools.accumulate(self.nbytes, initial=self.start))

    @property
    def end(self) -> int:
        return self.offsets[-1]

    def slices(self, data: bytes) -> Iterator[bytes]:
        """Yield the segments, shorter or empty where `data` ends before they do."""
        return (data[first:last] for first, last in itertools.pairwise(self.offsets))

    def verify_segment(self, number: int, segment: bytes) -> None:
        """Raise `FormatError` if a segment is not the one that was written."""
        if len(segment) != self.nbytes[number] or (self.crcs and self.crcs[number] != segment_crc(segment)):
            raise FormatError(f"damaged file: segment {number} at byte {self.offsets[number]} is not what was written")


def segment_crc(segment: bytes) -> int:
    """Return a segment's check: CRC-16/XMODEM, which sees all changes within 16 bits."""
    return binascii.crc_hqx(segment, 0)


def write_index(layout: Layout, segments: Sequence[bytes], before: bytes) -> bytes:
    """Return the index of segments; it ends in a CRC-32 of it and all `before` it."""
    kinds = ALPHA_BIT * layout.alpha | OVERLAY_BIT * layout.overlay | RESIDUAL_BIT * (layout.residual > 0)
    parts = [varint(layout.columns - 1), varint(layout.rows - 1), bytes([layout.levels | kinds])]
    if layout.residual:
        parts.append(struct.pack("<H", layout.residual))
    parts += [varint(len(segment)) + struct.pack("<H", segment_crc(segment)) for segment in segments]
    entries = b"".join(parts)
    return entries + struct.pack("<I", zlib.crc32(before + entries))


def read_index(cursor: Cursor, nbytes: int, height: int, width: int) -> tuple[Layout, Index]:
    """Return what the index of an image of so many pixels says.

    Raises `FormatError` if it is damaged, or lists more than `nbytes` bytes, or a latent for each pixel, could hold.
    """
    columns, rows, kinds = cursor.varint() + 1, cursor.varint() + 1, cursor.byte()
    if kinds & UNKNOWN_BITS or not kinds & LEVELS_MASK:
        raise FormatError(f"unknown kinds of segments {kinds:#04x}; a later sdtrt may read this file")
    residual = cursor.u16() if kinds & RESIDUAL_BIT else 0
    layout = Layout(columns, rows, kinds & LEVELS_MASK, bool(kinds & ALPHA_BIT), bool(kinds & OVERLAY_BIT), residual)
    if kinds & RESIDUAL_BIT and not residual:
        raise FormatError("malformed file: a residual layer of step 0")
    if layout == SINGLE:
        raise FormatError("malformed file: an index of a single segment")
    if not layout.fits(height, width):
        raise FormatError(f"malformed file: {layout.columns}x{layout.rows} tiles of {width}x{height} pixels")
    if layout.segments * MIN_ENTRY > nbytes:
        raise FormatError(f"index of {layout.segments} segments in a file of {nbytes} bytes")
    entries = [(cursor.varint(), cursor.u16()) for _ in range(layout.segments)]
    found = zlib.crc32(cursor.taken)
    if found != struct.unpack("<I", cursor.take(4))[0]:
        raise FormatError("damaged file: the checksum of its index does not match")
    sizes, checks = zip(*entries, strict=True)
    return layout, Index(len(cursor.taken), sizes, checks)


class LazySegments(Sequence[bytes]):
    """Segments in a stream, each read and checked when it is asked for; may be used from several threads."""

    def __init__(self, stream: BinaryIO, index: Index) -> None:
        self._stream, self._index, self._lock = stream, index, Lock()

    def __len__(self) -> int:
        return len(self._index.nbytes)

    def nbytes(self, number: int) -> int:
        """Return how many bytes a segment has."""
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
