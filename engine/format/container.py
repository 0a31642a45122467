"""Bytes to `File` and back: the `.sdt` container, version 1. Normative text: `docs/format.md`.

    3  magic "SDT"            varint width - 1      index, if there are several segments (`engine.format.index`)
    1  version and flags      varint height - 1     segments
    1  profile                2  step, alignment    chunks, each: type, varint length, data
    1  prior                  the profile, if own   4  CRC-32 of everything before

A file is parsed once; what comes out needs no further check of its structure. `read` takes a whole file, `read_from` of
a stored one what is needed, `salvage` what there is of a damaged one.
"""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from sdtrt.engine.format.cursor import Cursor, read_fully, varint
from sdtrt.engine.format.index import Index, LazySegments, read_index, segment_crc, write_index
from sdtrt.engine.format.layout import SINGLE, Layout
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits, checked_limits
from sdtrt.errors import FormatError, LimitError

MAGIC = b"SDT"
VERSION = 1
CHUNKS_FLAG, GREY_FLAG, INDEX_FLAG, UNKNOWN_FLAG = 0x10, 0x20, 0x40, 0x80
STEP_BITS = 12
MAX_SIDE = 1 << 24
MIN_FILE = 14
CHECKSUM_NBYTES = 4

INLINE = 0  # profile id of files that carry their own, of so many bytes and 16 for each channel
BUNDLED = 254  # profile and prior id of files that refer to their model's: so many bytes, and those of a digest
PROFILE_NBYTES, DIGEST_NBYTES = 10, 8

# Chunk types; a decoder must understand those of 0x80 and above, of which there are none yet, and may skip the others.
ICC, EXIF, XMP, TEXT = 0x01, 0x02, 0x03, 0x04
REQUIRED = 0x80


class _RequiredChunkError(FormatError):
    """A file that is not damaged, but of a later version."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says before its payload.

    `profile` and `prior` are ids of the format's tables; `step_code` 0 … 4095 stands for the quantizer's
    step 2**((code - 2048) / 256); `grey` marks images to be given back with one channel. `alignment` is by how many
    bytes the first stream's first word is short of 4.
    """

    width: int
    height: int
    profile: int
    prior: int
    step_code: int
    grey: bool = False
    alignment: int = 0

    @property
    def step(self) -> float:
        return 2.0 ** ((self.step_code - 2048) / 256)


@dataclass(frozen=True, slots=True)
class File:
    """A whole file: header, segments in the order of `layout`, its own profile if it has one, chunks by type."""

    header: Header
    segments: Sequence[bytes]
    layout: Layout = SINGLE
    profile: bytes = b""
    chunks: Mapping[int, bytes] = field(default_factory=dict)

    def segment(self, kind: int | str, tile: int) -> bytes:
        """Return a segment; `FormatError` if it is damaged, which a file that was read whole is not."""
        return self.segments[self.layout.segment(kind, tile)]

    def nbytes(self, kind: int | str, tile: int) -> int:
        """Return how many bytes a segment has, without reading it."""
        number = self.layout.segment(kind, tile)
        return self.segments.nbytes(number) if isinstance(self.segments, LazySegments) else len(self.segments[number])


class SalvagedFile(NamedTuple):
    """What there is of a file: segments are cut short or empty where they are not `intact_segments`.

    If the file is not `checksum_ok`, chunks are left out.
    """

    file: File
    intact_segments: tuple[bool, ...]
    checksum_ok: bool


def write(file: File) -> bytes:
    """Return the bytes of `file`; `ValueError` if a field is out of its range."""
    header = file.header
    if not (0 < header.width <= MAX_SIDE and 0 < header.height <= MAX_SIDE):
        raise ValueError(f"size {header.width}x{header.height} is outside 1 to {MAX_SIDE}")
    if not (0 <= header.step_code < 1 << STEP_BITS and 0 <= header.alignment < 4):
        raise ValueError(f"step code {header.step_code} or alignment {header.alignment} is out of range")
    if any(not 0 < kind < 1 << 8 for kind in file.chunks):
        raise ValueError(f"chunk types {sorted(file.chunks)}, expected 1 to 255")
    if len(file.segments) != file.layout.segments:
        raise ValueError(f"{len(file.segments)} segments for {file.layout}")
    indexed = file.layout != SINGLE
    flags = CHUNKS_FLAG * bool(file.chunks) | GREY_FLAG * header.grey | INDEX_FLAG * indexed
    parts = [
        MAGIC,
        bytes([VERSION | flags, header.profile, header.prior]),
        varint(header.width - 1),
        varint(header.height - 1),
        struct.pack("<H", header.step_code | header.alignment << STEP_BITS),
        file.profile,
    ]
    if indexed:
        parts.append(write_index(file.layout, file.segments, b"".join(parts)))
    elif file.chunks:
        parts.append(varint(len(file.segments[0])))
    parts += file.segments
    for kind, data in sorted(file.chunks.items()):
        parts += [bytes([kind]), varint(len(data)), data]
    body = b"".join(parts)
    return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> File:
    """Return the file in `data`.

    Raises `FormatError` if it is not exactly one undamaged file that this version can read, `LimitError` if it
    exceeds `limits`; nothing is allocated before the checks but copies of parts of `data`.
    """
    _check_magic_and_version(data)
    body = data[:-CHECKSUM_NBYTES]
    if zlib.crc32(body) != struct.unpack("<I", data[-CHECKSUM_NBYTES:])[0]:
        raise FormatError("damaged or truncated file: the checksum does not match")
    head = _parse_prologue(Cursor(io.BytesIO(body)), len(body), limits)
    if head.index.end > len(body):
        raise FormatError(f"truncated file: segments to byte {head.index.end}, {len(body)} bytes before the checksum")
    for number, segment in enumerate(segments := tuple(head.index.slices(body))):
        head.index.verify_segment(number, segment)
    return head.file(segments, _chunks(body[head.index.end :], head.has_chunks, limits))


def read_from(stream: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> File:
    """Return the file in a stream that can `seek`, whose segments are read when they are asked for.

    The stream is used as long as the file is. Each segment has a check of its own; a file of a single one is read and
    checked whole. Errors as in `read`.
    """
    nbytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = read_fully(stream, MIN_FILE)
    _check_magic_and_version(start)
    stream.seek(0)
    end = nbytes - CHECKSUM_NBYTES
    head = _parse_prologue(Cursor(stream), end, limits)
    _check_chunk_limit(end - head.index.end, limits)
    if not start[3] & INDEX_FLAG:
        stream.seek(0)
        return read(read_fully(stream, nbytes), limits)
    if head.index.end > end:
        raise FormatError(f"truncated file: segments to byte {head.index.end} of {end}")
    chunks = b""
    if head.has_chunks:
        stream.seek(head.index.end)
        chunks = read_fully(stream, end - head.index.end)
    elif head.index.end != end:
        raise FormatError("malformed file: bytes after the last segment")
    return head.file(LazySegments(stream, head.index), _chunks(chunks, head.has_chunks, limits))


def salvage(data: bytes, limits: Limits = DEFAULT_LIMITS) -> SalvagedFile:
    """Return what there is of a file that is cut short or damaged; `FormatError` if its head is, `LimitError` as usual.

    `FormatError`, too, if it is not damaged, but has a chunk of a later version that must be understood. The head of a
    file without an index has no check of its own: what comes of it may be wrong in any way.
    """
    try:
        file = read(data, limits)
        return SalvagedFile(file, (True,) * len(file.segments), checksum_ok=True)
    except _RequiredChunkError:
        raise
    except FormatError:
        _check_magic_and_version(data)
    head = _parse_prologue(Cursor(io.BytesIO(data)), len(data), limits)
    segments, intact_segments = [], []
    for number, segment in enumerate(head.index.slices(data)):
        complete = len(segment) == head.index.nbytes[number] and (head.index.crcs != () or head.has_chunks)
        sound = not complete or not head.index.crcs or head.index.crcs[number] == segment_crc(segment)
        segments.append(segment if sound else b"")
        intact_segments.append(complete and sound)
    return SalvagedFile(head.file(tuple(segments), {}), tuple(intact_segments), checksum_ok=False)


def _check_magic_and_version(data: bytes) -> None:
    if data[:3] != MAGIC:
        raise FormatError(f"not an .sdt file: it starts with {data[:3]!r}, expected {MAGIC!r}")
    if len(data) < MIN_FILE:
        raise FormatError(f"truncated file: {len(data)} bytes, expected at least {MIN_FILE}")
    if data[3] & 0x0F != VERSION:
        raise FormatError(
            f"file format version {data[3] & 0x0F}, this sdtrt reads version {VERSION}; a later one may read it"
        )


@dataclass(frozen=True, slots=True)
class _Prologue:
    """All before the segments."""

    header: Header
    layout: Layout
    profile: bytes
    index: Index
    has_chunks: bool

    def file(self, segments: Sequence[bytes], chunks: dict[int, bytes]) -> File:
        return File(self.header, segments, self.layout, self.profile, chunks)


def _parse_prologue(cursor: Cursor, nbytes: int, limits: Limits) -> _Prologue:
    """Return what `nbytes` bytes, those of a checksum at the end not counted, say before the segments."""
    checked_limits(limits)
    cursor.take(3)
    flags, profile, prior = cursor.take(3)
    width, height = cursor.varint() + 1, cursor.varint() + 1
    if max(width, height) > MAX_SIDE:
        raise FormatError(f"size {width}x{height}, sides go to {MAX_SIDE}")
    if width * height > limits.max_pixels:
        raise LimitError(f"{width}x{height} is {width * height} pixels, the limit is {limits.max_pixels}")
    step = cursor.u16()
    if flags & UNKNOWN_FLAG or step >> (STEP_BITS + 2):
        raise FormatError("unknown flags; a later sdtrt may read this file")
    header = Header(
        width, height, profile, prior, step & ((1 << STEP_BITS) - 1), bool(flags & GREY_FLAG), step >> STEP_BITS
    )
    own = b""
    if profile in {INLINE, BUNDLED}:
        own = cursor.take(PROFILE_NBYTES)
        own += cursor.take(16 * own[4] if profile == INLINE else DIGEST_NBYTES)
    if flags & INDEX_FLAG:
        layout, index = read_index(cursor, nbytes, height, width)
    else:
        size = cursor.varint() if flags & CHUNKS_FLAG else nbytes - len(cursor.taken)
        layout, index = SINGLE, Index(len(cursor.taken), (size,))
    if index.end - index.start > limits.max_payload_nbytes:
        raise LimitError(f"payload of {index.end - index.start} bytes, the limit is {limits.max_payload_nbytes}")
    return _Prologue(header, layout, own, index, bool(flags & CHUNKS_FLAG))


def _check_chunk_limit(nbytes: int, limits: Limits) -> None:
    if nbytes > limits.max_chunk_nbytes:
        raise LimitError(f"{nbytes} bytes of chunks, the limit is {limits.max_chunk_nbytes}")


def _chunks(data: bytes, announced: bool, limits: Limits) -> dict[int, bytes]:
    _check_chunk_limit(len(data), limits)
    if announced != bool(data):
        raise FormatError("malformed file: chunks are announced and none follows, or the reverse")
    chunks: dict[int, bytes] = {}
    cursor, last = Cursor(io.BytesIO(data)), 0
    while len(cursor.taken) < len(data):
        kind, nbytes = cursor.byte(), cursor.varint()
        if kind <= last:
            raise FormatError(f"chunk {kind:#04x} after {last:#04x}: types must rise")
        if kind >= REQUIRED:
            raise _RequiredChunkError(f"unknown required chunk {kind:#04x}; a later sdtrt may read this file")
        chunks[kind] = cursor.take(nbytes)
        last = kind
    return chunks
