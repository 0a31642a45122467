"""Bytes to `File` and back: the `.sdt` container, version 1. Normative text: `docs/format.md`.

    3  magic "SDT"            varint width - 1      payload (to the checksum, or `varint length` first if chunks follow)
    1  version (1)            varint height - 1     chunks, each: type, varint length, data
    1  profile                2  step and flags     4  CRC-32 of everything before
    1  prior

Standard library only. A file is parsed once; what comes out needs no further check of its structure.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from sdtrt.errors import FormatError, LimitError

MAGIC = b"SDT"
VERSION = 1
STEP_BITS = 12
CHUNKS_FLAG = 1 << 12
GREY_FLAG = 1 << 13
RESERVED_FLAGS = 0b11 << 14
LARGEST_SIDE = 1 << 24
SHORTEST_FILE = 14

# Chunk types; a decoder must understand those of 0x80 and above, and may skip the others.
ICC, EXIF, XMP, TEXT = 0x01, 0x02, 0x03, 0x04
ALPHA, PROFILE = 0x81, 0x82
REQUIRED = 0x80
KNOWN_REQUIRED = frozenset({ALPHA, PROFILE})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may ask for before it is refused with `LimitError`."""

    max_pixels: int = 1 << 26
    max_payload_nbytes: int = 1 << 28
    max_chunk_nbytes: int = 1 << 26


DEFAULT_LIMITS = Limits()
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says before its payload.

    `profile` and `prior` are ids of the format's tables; `step_code` 0 … 4095 stands for the quantizer's
    step 2**((code - 2048) / 256); `grey` marks pictures to be given back with one channel.
    """

    width: int
    height: int
    profile: int
    prior: int
    step_code: int
    grey: bool = False

    @property
    def step(self) -> float:
        return 2.0 ** ((self.step_code - 2048) / 256)


@dataclass(frozen=True, slots=True)
class File:
    """A whole file: header, payload and chunks by type."""

    header: Header
    payload: bytes
    chunks: Mapping[int, bytes] = field(default_factory=dict)


def write(file: File) -> bytes:
    """Return the bytes of `file`; `ValueError` if a field is out of its range."""
    header = file.header
    if not (0 < header.width <= LARGEST_SIDE and 0 < header.height <= LARGEST_SIDE):
        raise ValueError(f"size {header.width}x{header.height} is outside 1 to {LARGEST_SIDE}")
    if not 0 <= header.step_code < 1 << STEP_BITS:
        raise ValueError(f"step code {header.step_code} is outside 0 to {(1 << STEP_BITS) - 1}")
    if any(not 0 < kind < 1 << 8 for kind in file.chunks):
        raise ValueError(f"chunk types {sorted(file.chunks)}, expected 1 to 255")
    flags = (CHUNKS_FLAG if file.chunks else 0) | (GREY_FLAG if header.grey else 0)
    parts = [
        MAGIC,
        bytes([VERSION, header.profile, header.prior]),
        _varint(header.width - 1),
        _varint(header.height - 1),
        struct.pack("<H", header.step_code | flags),
    ]
    if file.chunks:
        parts.append(_varint(len(file.payload)))
    parts.append(file.payload)
    for kind, data in sorted(file.chunks.items()):
        parts += [bytes([kind]), _varint(len(data)), data]
    body = b"".join(parts)
    return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> File:
    """Return the file in `data`.

    Raises `FormatError` if it is not exactly one undamaged file that this version can read, `LimitError` if it
    exceeds `limits`; nothing is allocated before the checks but copies of parts of `data`.
    """
    if data[:3] != MAGIC:
        raise FormatError(f"not an .sdt file: it starts with {data[:3]!r}, expected {MAGIC!r}")
    if len(data) < SHORTEST_FILE:
        raise FormatError(f"truncated file: {len(data)} bytes, expected at least {SHORTEST_FILE}")
    if data[3] != VERSION:
        raise FormatError(f"file format version {data[3]}, this sdtrt reads version {VERSION}; a later one may read it")
    body = data[:-4]
    (stored,) = struct.unpack("<I", data[-4:])
    if zlib.crc32(body) != stored:
        raise FormatError("damaged or truncated file: the checksum does not match")
    return _parse(_Reader(body, 4), limits)


def _parse(reader: "_Reader", limits: Limits) -> File:
    profile, prior = reader.take(1)[0], reader.take(1)[0]
    width, height = reader.varint() + 1, reader.varint() + 1
    if max(width, height) > LARGEST_SIDE:
        raise FormatError(f"size {width}x{height}, sides go to {LARGEST_SIDE}")
    if width * height > limits.max_pixels:
        raise LimitError(f"{width}x{height} is {width * height} pixels, the limit is {limits.max_pixels}")
    (step_and_flags,) = struct.unpack("<H", reader.take(2))
    if step_and_flags & RESERVED_FLAGS:
        raise FormatError(f"unknown flags {step_and_flags >> STEP_BITS:#06b}; a later sdtrt may read this file")
    has_chunks = bool(step_and_flags & CHUNKS_FLAG)
    nbytes = reader.varint() if has_chunks else reader.left
    if nbytes > limits.max_payload_nbytes:
        raise LimitError(f"payload of {nbytes} bytes, the limit is {limits.max_payload_nbytes}")
    payload = reader.take(nbytes)
    header = Header(
        width=width,
        height=height,
        profile=profile,
        prior=prior,
        step_code=step_and_flags & ((1 << STEP_BITS) - 1),
        grey=bool(step_and_flags & GREY_FLAG),
    )
    return File(header, payload, _chunks(reader, limits) if has_chunks else {})


def _chunks(reader: "_Reader", limits: Limits) -> dict[int, bytes]:
    chunks: dict[int, bytes] = {}
    last = 0
    while reader.left:
        kind, nbytes = reader.take(1)[0], reader.varint()
        if kind <= last:
            raise FormatError(f"chunk {kind:#04x} after {last:#04x}: types must rise")
        if kind >= REQUIRED and kind not in KNOWN_REQUIRED:
            raise FormatError(f"unknown required chunk {kind:#04x}; a later sdtrt may read this file")
        if nbytes > limits.max_chunk_nbytes:
            raise LimitError(f"chunk {kind:#04x} of {nbytes} bytes, the limit is {limits.max_chunk_nbytes}")
        chunks[kind] = reader.take(nbytes)
        last = kind
    if not chunks:
        raise FormatError("chunks are announced but none follows")
    return chunks


def _varint(value: int) -> bytes:
    """Return `value` in groups of 7 bits, lowest first, the top bit set on all but the last (LEB128)."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class _Reader:
    """A cursor over bytes that never runs past their end."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, nbytes: int) -> bytes:
        if nbytes > self.left:
            raise FormatError(f"truncated file: {nbytes} bytes expected at offset {self._position}, {self.left} left")
        self._position += nbytes
        return self._data[self._position - nbytes : self._position]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift and not byte:
                    raise FormatError("a number is longer than it needs to be")
                return value
        raise FormatError("a number is longer than 5 bytes")
