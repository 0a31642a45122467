"""Bytes to `File` and back: the `.sdt` container, version 1. Normative text: `docs/format.md`.

    3  magic "SDT"            varint width - 1      index, if there are several segments (`engine.format.index`)
    1  version and flags      varint height - 1     segments
    1  profile                2  step, alignment    chunks, each: type, varint length, data
    1  prior                  profile or reference  4  CRC-32 of everything before

A file is parsed once; the structure of a `File` needs no further check. There are three parsers: `read` takes all bytes
of a file, `read_from` reads the segments of a stored file on access, and `salvage` accepts damaged files.
"""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, NamedTuple

from sdtrt.engine.format.index import (
    Cursor,
    Index,
    LazySegments,
    read_fully,
    read_index,
    segment_crc,
    varint,
    write_index,
)
from sdtrt.engine.format.latent_space import (
    BUNDLED,
    DIGEST_NBYTES,
    INLINE,
    PROFILE_NBYTES,
    LatentSpaceInfo,
    parse_space_info,
)
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

# Chunk types. A decoder may skip an unknown type below REQUIRED. No type from REQUIRED on exists yet.
ICC, EXIF, XMP, TEXT = 0x01, 0x02, 0x03, 0x04
REQUIRED = 0x80


class _RequiredChunkError(FormatError):
    """The file is of a later version, but not damaged."""


@dataclass(frozen=True, slots=True)
class Header:
    """The fields in front of the payload.

    Arguments:
        width, height: of the image in pixels, 1 to `MAX_SIDE`.
        profile, prior: ids, see `engine.format.profile`.
        step_code: 0 … 4095, the quantization step on a log scale, see `quant_step`.
        grey: whether the decoded image has one channel.
        alignment: 0 … 3, the number of bytes that the first word of the first stream is short of 4.
    """

    width: int
    height: int
    profile: int
    prior: int
    step_code: int
    grey: bool = False
    alignment: int = 0

    @property
    def quant_step(self) -> float:
        """The quantization step of normalised latents in a channel of weight 1: from 2**-8 to nearly 2**8."""
        return 2.0 ** ((self.step_code - 2048) / 256)


@dataclass(frozen=True)
class File:
    """A parsed file.

    Arguments:
        header: the fields in front of the payload.
        segments: bytes of each segment, in the order of `layout`.
        layout: tiles, and the kinds of segments of each.
        profile: the bytes that describe the latent profile; empty for a shipped profile.
        chunks: data by chunk type.
    """

    header: Header
    segments: Sequence[bytes]
    layout: Layout = SINGLE
    profile: bytes = b""
    chunks: Mapping[int, bytes] = field(default_factory=dict)

    @cached_property
    def space(self) -> LatentSpaceInfo:
        """The latent space, a `LatentProfile` unless the file needs its model's; `FormatError` if it is malformed."""
        return parse_space_info(self.header.profile, self.header.prior, self.profile)

    def segment(self, kind: int | str, tile: int) -> bytes:
        """Return the bytes of a segment. If the file is from `read_from`, a damaged segment raises `FormatError`."""
        return self.segments[self.layout.segment_index(kind, tile)]

    def nbytes(self, kind: int | str, tile: int) -> int:
        """Return the length of a segment, without reading it."""
        index = self.layout.segment_index(kind, tile)
        return self.segments.nbytes(index) if isinstance(self.segments, LazySegments) else len(self.segments[index])


class SalvagedFile(NamedTuple):
    """The readable part of a damaged file.

    Arguments:
        file: without chunks if the checksum does not match. Segments that are not intact are cut short or empty.
        intact_segments: whether each segment is complete and undamaged.
        checksum_ok: whether the checksum of the file matches.
    """

    file: File
    intact_segments: tuple[bool, ...]
    checksum_ok: bool


def write(file: File) -> bytes:
    """Return the bytes of a file; `ValueError` if a field is out of its range."""
    header = file.header
    if not (0 < header.width <= MAX_SIDE and 0 < header.height <= MAX_SIDE):
        raise ValueError(f"size {header.width}x{header.height} is outside 1 to {MAX_SIDE}")
    if not (0 <= header.step_code < 1 << STEP_BITS and 0 <= header.alignment < 4):
        raise ValueError(f"step code {header.step_code} or alignment {header.alignment} is out of range")
    if any(not 0 < kind < 1 << 8 for kind in file.chunks):
        raise ValueError(f"chunk types {sorted(file.chunks)}, expected 1 to 255")
    if len(file.segments) != file.layout.num_segments:
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

    Memory is allocated only after the checks, apart from copies of parts of `data`.

    Raises:
        FormatError: `data` is not exactly one undamaged file that this version can read.
        LimitError: the file exceeds `limits`.
    """
    _check_magic_and_version(data)
    body = data[:-CHECKSUM_NBYTES]
    if zlib.crc32(body) != struct.unpack("<I", data[-CHECKSUM_NBYTES:])[0]:
        raise FormatError("damaged or truncated file: the checksum does not match")
    prologue = _parse_prologue(Cursor(io.BytesIO(body)), len(body), limits)
    if prologue.index.end > len(body):
        raise FormatError(
            f"truncated file: segments to byte {prologue.index.end}, {len(body)} bytes before the checksum"
        )
    for number, segment in enumerate(segments := tuple(prologue.index.slices(body))):
        prologue.index.verify_segment(number, segment)
    return File(
        prologue.header,
        segments,
        prologue.layout,
        prologue.profile,
        _chunks(body[prologue.index.end :], prologue.has_chunks, limits),
    )


def read_from(stream: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> File:
    """Return the file in a stream that can `seek`. Its segments are read on access.

    The stream must stay open as long as the file is in use. Each segment is verified by its own CRC when it is read.
    A file of a single segment has no such CRC; it is read at once and verified by the checksum of the file. Errors as
    of `read`.
    """
    nbytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = read_fully(stream, MIN_FILE)
    _check_magic_and_version(start)
    stream.seek(0)
    end = nbytes - CHECKSUM_NBYTES
    prologue = _parse_prologue(Cursor(stream), end, limits)
    if end - prologue.index.end > limits.max_chunk_nbytes:
        raise _chunk_limit_error(end - prologue.index.end, limits)
    if not start[3] & INDEX_FLAG:
        stream.seek(0)
        return read(read_fully(stream, nbytes), limits)
    if prologue.index.end > end:
        raise FormatError(f"truncated file: segments to byte {prologue.index.end} of {end}")
    chunks = b""
    if prologue.has_chunks:
        stream.seek(prologue.index.end)
        chunks = read_fully(stream, end - prologue.index.end)
    elif prologue.index.end != end:
        raise FormatError(f"malformed file: {end - prologue.index.end} bytes after the last segment, expected none")
    return File(
        prologue.header,
        LazySegments(stream, prologue.index),
        prologue.layout,
        prologue.profile,
        _chunks(chunks, prologue.has_chunks, limits),
    )


def salvage(data: bytes, limits: Limits = DEFAULT_LIMITS) -> SalvagedFile:
    """Return the readable part of a file that may be truncated or damaged.

    A file without an index has no checksum over its header alone. If the header is damaged, the result is arbitrary.

    Raises:
        FormatError: a field before the segments is damaged, or an undamaged file has a required chunk of a later
            version.
        LimitError: the file exceeds `limits`.
    """
    try:
        file = read(data, limits)
        return SalvagedFile(file, (True,) * len(file.segments), checksum_ok=True)
    except _RequiredChunkError:
        raise
    except FormatError:
        _check_magic_and_version(data)
    prologue = _parse_prologue(Cursor(io.BytesIO(data)), len(data), limits)
    segments, intact_segments = [], []
    for number, segment in enumerate(prologue.index.slices(data)):
        complete = len(segment) == prologue.index.nbytes[number] and (prologue.index.crcs != () or prologue.has_chunks)
        sound = not complete or not prologue.index.crcs or prologue.index.crcs[number] == segment_crc(segment)
        segments.append(segment if sound else b"")
        intact_segments.append(complete and sound)
    return SalvagedFile(
        File(prologue.header, tuple(segments), prologue.layout, prologue.profile, {}),
        tuple(intact_segments),
        checksum_ok=False,
    )


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
    """Everything before the segments."""

    header: Header
    layout: Layout
    profile: bytes
    index: Index
    has_chunks: bool


def _parse_prologue(cursor: Cursor, nbytes: int, limits: Limits) -> _Prologue:
    """Parse everything before the segments; `nbytes` is the length of the file without its checksum."""
    if not isinstance(limits, Limits):
        checked_limits(limits)  # raises
    cursor.take(3)
    flags, profile, prior = cursor.take(3)
    width, height = cursor.varint() + 1, cursor.varint() + 1
    if max(width, height) > MAX_SIDE:
        raise FormatError(f"size {width}x{height}, the largest side of the format is {MAX_SIDE}")
    if width * height > limits.max_pixels:
        raise LimitError(f"{width}x{height} is {width * height} pixels, the limit is {limits.max_pixels}")
    alignment, step_code = divmod(cursor.u16(), 1 << STEP_BITS)
    if flags & UNKNOWN_FLAG or alignment >= 4:
        raise FormatError("unknown flags; a later sdtrt may read this file")
    header = Header(width, height, profile, prior, step_code, bool(flags & GREY_FLAG), alignment)
    profile_data = b""
    if profile in {INLINE, BUNDLED}:
        profile_data = cursor.take(PROFILE_NBYTES)
        profile_data += cursor.take(16 * profile_data[4] if profile == INLINE else DIGEST_NBYTES)
    if flags & INDEX_FLAG:
        layout, index = read_index(cursor, nbytes, height, width)
    else:
        size = cursor.varint() if flags & CHUNKS_FLAG else nbytes - len(cursor.consumed)
        layout, index = SINGLE, Index(len(cursor.consumed), (size,))
    if index.end - index.start > limits.max_payload_nbytes:
        raise LimitError(f"payload of {index.end - index.start} bytes, the limit is {limits.max_payload_nbytes}")
    return _Prologue(header, layout, profile_data, index, bool(flags & CHUNKS_FLAG))


def _chunk_limit_error(nbytes: int, limits: Limits) -> LimitError:
    return LimitError(f"{nbytes} bytes of chunks, the limit is {limits.max_chunk_nbytes}")


def _chunks(data: bytes, announced: bool, limits: Limits) -> dict[int, bytes]:
    if len(data) > limits.max_chunk_nbytes:
        raise _chunk_limit_error(len(data), limits)
    if announced != bool(data):
        expected, found = ("chunks", "none") if announced else ("no chunks", f"{len(data)} bytes")
        raise FormatError(f"malformed file: the header announces {expected}, found {found} after the segments")
    chunks: dict[int, bytes] = {}
    cursor, last = Cursor(io.BytesIO(data)), 0
    while len(cursor.consumed) < len(data):
        kind, nbytes = cursor.byte(), cursor.varint()
        if kind <= last:
            raise FormatError(f"chunk {kind:#04x} after {last:#04x}: types must increase")
        if kind >= REQUIRED:
            raise _RequiredChunkError(f"unknown required chunk {kind:#04x}; a later sdtrt may read this file")
        chunks[kind] = cursor.take(nbytes)
        last = kind
    return chunks
