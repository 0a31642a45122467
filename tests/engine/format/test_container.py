"""The container: round trips, damage, limits and salvage."""

import io
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.format.container import (
    EXIF,
    ICC,
    TEXT,
    XMP,
    File,
    Header,
    read,
    read_from,
    salvage,
    write,
)
from sdtrt.engine.format.latent_space import BUNDLED, DIGEST_NBYTES, INLINE, PROFILE_NBYTES
from sdtrt.engine.format.layout import SINGLE, Layout, max_tiles
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import FormatError, LimitError

Seal = Callable[[bytes], bytes]
DAMAGE = (FormatError, LimitError)
ROOMY = Limits(max_pixels=1 << 48)

HEADERS = st.builds(
    Header,
    width=st.integers(1, 1 << 24),
    height=st.integers(1, 1 << 24),
    profile=st.integers(0, 255),
    prior=st.integers(0, 255),
    step_code=st.integers(0, 4095),
    grey=st.booleans(),
    alignment=st.integers(0, 3),
)


@st.composite
def files(draw: st.DrawFn) -> File:
    header = draw(HEADERS)
    columns, rows = (min(draw(st.integers(1, 4)), max_tiles(side)) for side in (header.width, header.height))
    layout = Layout(
        columns,
        rows,
        draw(st.integers(1, 7)),
        alpha=draw(st.booleans()),
        overlay=draw(st.booleans()),
        residual_step=draw(st.sampled_from([0, 1, 300, 65535])),
    )
    segments = tuple(draw(st.binary(max_size=30)) for _ in range(layout.num_segments))
    channels = draw(st.integers(0, 3))
    own = draw(st.binary(min_size=4, max_size=4)) + bytes([channels]) + bytes(5 + 16 * channels)
    chunks = draw(st.dictionaries(st.integers(1, 0x7F), st.binary(max_size=300), max_size=4))
    carried = {INLINE: own, BUNDLED: own[:PROFILE_NBYTES] + bytes(DIGEST_NBYTES)}
    return File(header, segments, layout, carried.get(header.profile, b""), chunks)


PLAIN = File(Header(300, 200, 1, 1, 2000), (b"payload",))
OWN = b"hash\1" + bytes(21)
RICH = File(
    Header(5, 7, 0, 0, 4095, grey=True), (b"pay",), profile=OWN, chunks={ICC: b"icc", 0x7F: b"", XMP: b"x" * 40}
)
TILES = File(
    Header(900, 700, 1, 1, 2000, alignment=2),
    tuple(bytes([n]) * n for n in range(18)),
    Layout(3, 2, 2, alpha=True),
    chunks={EXIF: b"exif"},
)
LAYERS = File(Header(5, 7, 1, 1, 2000), (b"lat", b"", b"res"), Layout(overlay=True, residual_step=0x3412))
KINDS = pytest.mark.parametrize("file", [PLAIN, RICH, TILES, LAYERS], ids=["plain", "rich", "tiles", "layers"])


@given(files())
def test_read_returns_the_written_file(file: File) -> None:
    data = write(file)
    assert read(data, ROOMY) == file
    stored = read_from(io.BytesIO(data), ROOMY)
    assert File(stored.header, tuple(stored.segments), stored.layout, stored.profile, stored.chunks) == file
    assert salvage(data, ROOMY) == (file, (True,) * len(file.segments), True)


def test_write_gives_known_bytes() -> None:
    body = b"SDT\x21\x01\x02" + b"\xab\x02" + b"\x7f" + b"\xd0\x17" + b"pay"
    assert write(File(Header(300, 128, 1, 2, 0x7D0, True, 1), (b"pay",)))[:-4] == body
    body = b"SDT\x11\x01\x02" + b"\x00\x00" + b"\x01\x00" + b"\x01p" + b"\x04\x02hi" + b"\x7f\x00"
    assert write(File(Header(1, 1, 1, 2, 1), (b"p",), chunks={0x7F: b"", TEXT: b"hi"}))[:-4] == body
    written = write(File(Header(100, 1, 1, 2, 1), (b"123456789", b"b", b"", b"d"), Layout(2, 1, 1, alpha=True)))
    index = b"\x09\xc3\x31" + b"\x01" + check(b"b") + b"\x00\x00\x00" + b"\x01" + check(b"d")
    # two tiles across, one level and alpha; 0x31c3 is the check of "123456789" that catalogues of CRCs give
    start = b"SDT\x41\x01\x02" + b"\x63\x00" + b"\x01\x00" + b"\x01\x00\x09" + index
    assert written[:-4] == start + struct.pack("<I", zlib.crc32(start)) + b"123456789bd"
    layered = Layout(alpha=True, overlay=True, residual_step=0x123)
    written = write(File(Header(1, 1, 1, 2, 1), (b"b", b"", b"d", b"b"), layered))
    index = b"\x01" + check(b"b") + b"\x00\x00\x00" + b"\x01" + check(b"d") + b"\x01" + check(b"b")
    # one tile of one level, overlay, residual and its step, alpha
    start = b"SDT\x41\x01\x02" + b"\x00\x00" + b"\x01\x00" + b"\x00\x00\x39\x23\x01" + index
    assert written[:-4] == start + struct.pack("<I", zlib.crc32(start)) + b"bdb"


def check(segment: bytes) -> bytes:
    """Return the CRC-16/XMODEM of a segment, computed bit by bit."""
    register = 0
    for byte in segment:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ (0x1021 if register & 0x8000 else 0)
    return struct.pack("<H", register & 0xFFFF)


@KINDS
def test_read_of_truncated_file_raises(file: File) -> None:
    data = write(file)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:length])


@KINDS
def test_read_of_changed_byte_raises(file: File) -> None:
    data = write(file)
    for at in range(len(data)):
        for change in range(1, 256):
            changed = bytearray(data)
            changed[at] ^= change
            with pytest.raises(DAMAGE):
                read(bytes(changed))


@KINDS
def test_read_with_trailing_bytes_raises(file: File) -> None:
    for tail in (b"\0", b"x", bytes(4), write(file)):
        with pytest.raises(FormatError):
            read(write(file) + tail)


def test_overhead_of_a_512x512_file() -> None:
    payload = bytes(range(1, 200))
    assert len(write(File(Header(512, 512, 1, 1, 2048), (payload,)))) - len(payload) <= 16


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("width", "size {}x1 is outside 1 to 16777216"),
        ("height", "size 1x{} is outside 1 to 16777216"),
        ("profile", "bytes must be in range(0, 256)"),
        ("prior", "bytes must be in range(0, 256)"),
        ("step_code", "step code {} or alignment 0 is out of range"),
        ("alignment", "step code 1 or alignment {} is out of range"),
    ],
)
@pytest.mark.parametrize("value", [-1, 1 << 25])
def test_write_refuses_fields_out_of_range(field: str, words: str, value: int) -> None:
    fields = {"width": 1, "height": 1, "profile": 1, "prior": 1, "step_code": 1, field: value}
    with pytest.raises(ValueError, match=re.escape(words.format(value))):
        write(File(Header(**fields), (b"",)))


@pytest.mark.parametrize("kind", [-1, 0, 256])
def test_write_refuses_impossible_chunk_types(kind: int) -> None:
    with pytest.raises(ValueError, match="chunk"):
        write(File(PLAIN.header, (b"",), chunks={kind: b""}))


@pytest.mark.parametrize(("code", "step"), [(2048, 1.0), (2304, 2.0), (0, 2.0**-8), (1792, 0.5)])
def test_header_quant_step(code: int, step: float) -> None:
    assert Header(1, 1, 1, 1, code).quant_step == step


def test_read_returns_chunks_sorted_by_type() -> None:
    file = read(write(File(PLAIN.header, (b"",), chunks={TEXT: b"a", XMP: b"x", EXIF: b"e"})))
    assert list(file.chunks.items()) == [(EXIF, b"e"), (XMP, b"x"), (TEXT, b"a")]


def test_unknown_optional_chunk_is_kept() -> None:
    assert read(write(File(PLAIN.header, (b"p",), chunks={0x33: b"later"}))).chunks == {0x33: b"later"}


@pytest.mark.parametrize("kind", [0x80, 0x83, 0xFF])
def test_unknown_required_chunk_is_refused(kind: int) -> None:
    """Every parser refuses it: such a file is of a later version, not damaged."""
    for file in (PLAIN, TILES):
        data = write(replace(file, chunks={EXIF: b"exif", kind: b"later"}))
        for parse in (read, lambda data: read_from(io.BytesIO(data)), salvage):
            with pytest.raises(FormatError, match="required"):
                parse(data)


def test_read_of_another_version_raises_and_names_it(seal: Seal) -> None:
    data = write(PLAIN)
    with pytest.raises(FormatError, match="version 2"):
        read(seal(data[:3] + b"\x02" + data[4:-4]))


@pytest.mark.parametrize("data", [b"", b"S", b"SDT", b"\x89PNG\r\n\x1a\n" + bytes(40), b"SDT\x01" + bytes(9)])
def test_read_of_other_data_raises(data: bytes) -> None:
    with pytest.raises(FormatError):
        read(data)


START, CHUNKED = b"SDT\x01\x01\x01", b"SDT\x11\x01\x01" + b"\x00\x00" + b"\x00\x00"
ONE_BY_ONE = START + b"\x00\x00"
INDEXED = b"SDT\x41\x01\x01" + b"\x63\x63" + b"\x00\x00"


@pytest.mark.parametrize(
    "body",
    [
        START + b"\x80\x00" + b"\x00" + b"\x00\x00" + b"pp",  # 0 in two bytes
        START + b"\xff\x80\x00" + b"\x00" + b"\x00\x00" + b"p",  # 127 in three
        START + b"\xff\xff\xff\xff\xff\x01" + b"\x00" + b"\x00\x00",  # six bytes
        START + b"\x80\x80\x80\x08" + b"\x00" + b"\x00\x00",  # 2**24 + 1 wide
        START + b"\xff\xff\xff\xff\xff\xff",  # no end
        ONE_BY_ONE + b"\x00\x40" + b"p",  # reserved flags
        ONE_BY_ONE + b"\x00\x80" + b"p",
        b"SDT\x81\x01\x01" + b"\x00\x00" + b"\x00\x00" + b"pp",
        CHUNKED + b"\x05" + b"pay",  # payload longer than the file
        CHUNKED + b"\x01" + b"p",  # chunks announced, none there
        CHUNKED + b"\x00" + b"\x01\x09abc",  # chunk longer than the file
        CHUNKED + b"\x00" + b"\x01",  # chunk without length
        CHUNKED + b"\x00" + b"\x00\x00",  # chunk type 0
        CHUNKED + b"\x00" + b"\x02\x00\x01\x00",  # types fall
        CHUNKED + b"\x00" + b"\x02\x00\x02\x00",  # a type twice
        CHUNKED + b"\x00" + b"\x01\x80\x00",  # length 0 in two bytes
    ],
)
def test_read_of_malformed_file_with_valid_checksum_raises(body: bytes, seal: Seal) -> None:
    with pytest.raises(FormatError):
        read(seal(body.ljust(10, b"\x01")), ROOMY)


def sealed_index(index: bytes) -> bytes:
    """Return the start of a file with an index and its valid checksum."""
    return INDEXED + index + struct.pack("<I", zlib.crc32(INDEXED + index))


@pytest.mark.parametrize(
    "body",
    [
        sealed_index(b"\x00\x00\x01" + b"\x00\x00\x00"),  # of a single segment
        sealed_index(b"\x01\x00\x00" + b"\x00\x00\x00" * 2),  # no levels
        sealed_index(b"\x01\x00\x41" + b"\x00\x00\x00" * 4),  # kinds of a later version
        sealed_index(b"\x01\x00\x81" + b"\x00\x00\x00" * 4),
        sealed_index(b"\x01\x00\x21" + b"\x00\x00" + b"\x00\x00\x00" * 4),  # a residual of step 0
        sealed_index(b"\x00\x00\x21" + b"\x01"),  # half a step
        sealed_index(b"\x01\x00\x01" + b"\x01\x00\x00" + b"\x7f\x00\x00") + b"ab",  # beyond the end
        sealed_index(b"\x01\x00\x01" + b"\xff\xff\xff\xff\x7f\x00\x00" * 2),  # far beyond
        sealed_index(b"\x01\x00\x01" + b"\x00\x00\x00" * 2) + b"more",  # bytes that belong to nothing
        sealed_index(b"\x01\x00\x01" + b"\x01\x00\x00" * 2) + b"ab",  # checks of other segments
        sealed_index(b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\x7f\x01"),  # 2**70 tiles
        sealed_index(b"\x01\x00\x01" + b"\x80\x00\x00\x00" * 2),  # a length in two bytes
        sealed_index(b"\x01\x00\x01" + b"\x00\x00"),  # cut short
        INDEXED + b"\x01\x00\x01" + b"\x00\x00\x00" * 2 + b"crc!",  # of another checksum
    ],
)
def test_read_of_hostile_index_raises(body: bytes, seal: Seal) -> None:
    tracemalloc.start()
    try:
        for parse in (read, lambda data: tuple(read_from(io.BytesIO(data)).segments)):
            with pytest.raises(DAMAGE):
                parse(seal(body))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_read_from_reads_segments_on_access() -> None:
    class Watched(io.BytesIO):
        taken = 0

        def read(self, nbytes: int | None = -1) -> bytes:
            data = super().read(nbytes)
            self.taken += len(data)
            return data

    file = File(Header(900, 700, 1, 1, 0), (bytes(10_000),) * 6, Layout(3, 2))
    stream = Watched(write(file))
    stored = read_from(stream)
    assert stream.taken < 200
    assert stored.segment(0, 4) == bytes(10_000)
    assert stream.taken < 10_200


class Pieces(io.BytesIO):
    """A stream whose reads return at most 3 bytes, as those of unbuffered streams may."""

    def read(self, nbytes: int | None = -1) -> bytes:
        return super().read(min(nbytes or 0, 3))


@KINDS
def test_read_from_stream_with_short_reads(file: File) -> None:
    stored = read_from(Pieces(write(file)))
    assert replace(stored, segments=tuple(stored.segments)) == file


def test_damaged_segment_leaves_the_others_readable() -> None:
    data = bytearray(write(TILES))
    at = len(data) - 4 - 6 - 17 - 16 - 3  # in segment 15
    data[at] ^= 0x40
    stored = read_from(io.BytesIO(bytes(data)))
    assert [*stored.segments[:15], *stored.segments[16:]] == [*TILES.segments[:15], *TILES.segments[16:]]
    with pytest.raises(FormatError, match="segment 15"):
        stored.segment(2, 3)
    file, intact, _ = salvage(bytes(data))
    assert [n for n, is_intact in enumerate(intact) if not is_intact] == [15]
    assert file.segments == (*TILES.segments[:15], b"", *TILES.segments[16:])


def test_salvage_of_each_prefix() -> None:
    data = write(TILES)
    segments_at = len(data) - 4 - 6 - sum(range(18))
    for length in range(segments_at, len(data)):
        file, whole, intact = salvage(data[:length])
        assert not intact
        assert b"".join(file.segments) == data[segments_at : min(length, len(data) - 10)]
        assert [len(s) == n for n, s in enumerate(file.segments)] == list(whole)
    for length in range(segments_at):
        with pytest.raises(FormatError):
            salvage(data[:length])


def test_read_beyond_limits_raises_limit_error() -> None:
    data = write(File(Header(100, 50, 1, 1, 0), (b"12345",), chunks={ICC: b"1234567"}))
    assert read(data, Limits(5000, 5, 9)).segments == (b"12345",)
    for limits in (Limits(4999, 5, 9), Limits(5000, 4, 9), Limits(5000, 5, 8)):
        with pytest.raises(LimitError, match="limit"):
            read(data, limits)
        with pytest.raises(LimitError, match="limit"):
            read_from(io.BytesIO(data), limits)


@pytest.mark.parametrize("layout", [SINGLE, Layout(alpha=True)])
def test_read_from_beyond_limits_does_not_read_payload(layout: Layout) -> None:
    class Endless(io.BytesIO):
        """A file that claims a length of a terabyte."""

        def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
            return 1 << 40 if whence == io.SEEK_END else super().seek(offset, whence)

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size < 1 << 20
            return super().read(size)

    for chunks in ({}, {ICC: b"icc"}):
        data = write(File(Header(100, 50, 1, 1, 0), (b"12345",) * layout.num_segments, layout, chunks=chunks))
        with pytest.raises(LimitError, match="limit"):
            read_from(Endless(data))


def test_read_of_false_size_allocates_nothing() -> None:
    data = write(File(Header(1 << 24, 1 << 24, 1, 1, 0), (b"",)))
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_read_of_false_length_allocates_nothing(seal: Seal) -> None:
    body = CHUNKED + b"\xff\xff\xff\xff\x7f" + b"p"
    tracemalloc.start()
    try:
        with pytest.raises(DAMAGE):
            read(seal(body))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80))
def test_read_of_random_data_after_magic_raises_sdtrt_errors_only(tail: bytes) -> None:
    body = b"SDT\x01" + tail
    try:
        file = read(body + struct.pack("<I", zlib.crc32(body)))
    except DAMAGE:
        return
    assert write(file)[:-4] == body  # a file has only one encoding
