"""The container: what is written is read, and nothing else is."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.format import container
from sdtrt.engine.format.container import ALPHA, EXIF, ICC, PROFILE, TEXT, XMP, File, Header, Limits, read, write
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
)
CHUNKS = st.dictionaries(st.integers(1, 0x7F) | st.sampled_from([ALPHA, PROFILE]), st.binary(max_size=300), max_size=4)
FILES = st.builds(File, HEADERS, st.binary(max_size=300), CHUNKS)

PLAIN = File(Header(300, 200, 1, 1, 2000), b"payload")
RICH = File(Header(5, 7, 0, 0, 4095, grey=True), b"pay", {ICC: b"icc", ALPHA: b"alpha" * 40, 0x7F: b""})


@given(FILES)
def test_read_gives_what_was_written(file: File) -> None:
    assert read(write(file), ROOMY) == file


def test_layout() -> None:
    """The bytes themselves, so that a change of the format shows."""
    body = b"SDT\x01\x01\x02" + b"\xab\x02" + b"\x7f" + b"\xd0\x27" + b"pay"
    assert write(File(Header(300, 128, 1, 2, 0x7D0, grey=True), b"pay"))[:-4] == body
    body = b"SDT\x01\x01\x02" + b"\x00\x00" + b"\x01\x10" + b"\x01p" + b"\x04\x02hi" + b"\x81\x00"
    assert write(File(Header(1, 1, 1, 2, 1), b"p", {ALPHA: b"", TEXT: b"hi"}))[:-4] == body


@pytest.mark.parametrize("file", [PLAIN, RICH], ids=["plain", "rich"])
def test_every_truncation_is_seen(file: File) -> None:
    data = write(file)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:length])


@pytest.mark.parametrize("file", [PLAIN, RICH], ids=["plain", "rich"])
def test_every_changed_byte_is_seen(file: File) -> None:
    data = write(file)
    for at in range(len(data)):
        for change in range(1, 256):
            changed = bytearray(data)
            changed[at] ^= change
            with pytest.raises(DAMAGE):
                read(bytes(changed))


@pytest.mark.parametrize("file", [PLAIN, RICH], ids=["plain", "rich"])
def test_bytes_after_the_end_are_seen(file: File) -> None:
    for tail in (b"\0", b"x", bytes(4), write(file)):
        with pytest.raises(FormatError):
            read(write(file) + tail)


def test_overhead_of_a_512x512_file() -> None:
    payload = bytes(range(1, 200))
    assert len(write(File(Header(512, 512, 1, 1, 2048), payload))) - len(payload) <= 16


@pytest.mark.parametrize("field", ["width", "height", "profile", "prior", "step_code"])
@pytest.mark.parametrize("value", [-1, 1 << 25])
def test_write_refuses_fields_out_of_range(field: str, value: int) -> None:
    fields = {"width": 1, "height": 1, "profile": 1, "prior": 1, "step_code": 1, field: value}
    with pytest.raises(ValueError, match=r"."):
        write(File(Header(**fields), b""))


@pytest.mark.parametrize("kind", [-1, 0, 256])
def test_write_refuses_impossible_chunk_types(kind: int) -> None:
    with pytest.raises(ValueError, match="chunk"):
        write(File(PLAIN.header, b"", {kind: b""}))


@pytest.mark.parametrize(("code", "step"), [(2048, 1.0), (2304, 2.0), (0, 2.0**-8), (1792, 0.5)])
def test_step(code: int, step: float) -> None:
    assert Header(1, 1, 1, 1, code).step == step


def test_chunks_come_back_in_order_of_type() -> None:
    file = read(write(File(PLAIN.header, b"", {ALPHA: b"a", XMP: b"x", EXIF: b"e"})))
    assert list(file.chunks.items()) == [(EXIF, b"e"), (XMP, b"x"), (ALPHA, b"a")]


def test_unknown_optional_chunk_is_kept() -> None:
    assert read(write(File(PLAIN.header, b"p", {0x33: b"later"}))).chunks == {0x33: b"later"}


@pytest.mark.parametrize("kind", [0x80, 0x83, 0xFF])
def test_unknown_required_chunk_is_refused(kind: int) -> None:
    with pytest.raises(FormatError, match="required"):
        read(write(File(PLAIN.header, b"p", {kind: b"later"})))


def test_another_version_is_named(seal: Seal) -> None:
    data = write(PLAIN)
    with pytest.raises(FormatError, match="version 2"):
        read(seal(data[:3] + b"\x02" + data[4:-4]))


@pytest.mark.parametrize("data", [b"", b"S", b"SDT", b"\x89PNG\r\n\x1a\n" + bytes(40), b"SDT\x01" + bytes(9)])
def test_what_is_no_file(data: bytes) -> None:
    with pytest.raises(FormatError):
        read(data)


START = b"SDT\x01\x01\x01"
ONE_BY_ONE = START + b"\x00\x00"


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
        ONE_BY_ONE + b"\x00\x10" + b"\x05" + b"pay",  # payload longer than the file
        ONE_BY_ONE + b"\x00\x10" + b"\x01" + b"p",  # chunks announced, none there
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x01\x09abc",  # chunk longer than the file
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x01",  # chunk without length
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x00\x00",  # chunk type 0
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x02\x00\x01\x00",  # types fall
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x02\x00\x02\x00",  # a type twice
        ONE_BY_ONE + b"\x00\x10" + b"\x00" + b"\x01\x80\x00",  # length 0 in two bytes
    ],
)
def test_malformed_with_the_right_checksum(body: bytes, seal: Seal) -> None:
    with pytest.raises(FormatError):
        read(seal(body.ljust(10, b"\x01")), ROOMY)


def test_limits_have_their_own_error() -> None:
    data = write(File(Header(100, 50, 1, 1, 0), b"12345", {ICC: b"1234567"}))
    assert read(data, Limits(5000, 5, 7)).payload == b"12345"
    for limits in (Limits(4999, 5, 7), Limits(5000, 4, 7), Limits(5000, 5, 6)):
        with pytest.raises(LimitError, match="limit"):
            read(data, limits)


def test_size_claims_cost_nothing() -> None:
    data = write(File(Header(1 << 24, 1 << 24, 1, 1, 0), b""))
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_length_claims_cost_nothing(seal: Seal) -> None:
    body = ONE_BY_ONE + struct.pack("<H", container.CHUNKS_FLAG) + b"\xff\xff\xff\xff\x7f" + b"p"
    tracemalloc.start()
    try:
        with pytest.raises(DAMAGE):
            read(seal(body))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80))
def test_anything_after_the_magic(tail: bytes) -> None:
    body = b"SDT\x01" + tail
    try:
        file = read(body + struct.pack("<I", zlib.crc32(body)))
    except DAMAGE:
        return
    assert write(file)[:-4] == body  # each file has one spelling
