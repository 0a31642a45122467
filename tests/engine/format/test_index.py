"""The index of segments: round trips, damage, limits, and segments that are read on access."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from sdtrt.engine.format.index import Cursor, Index, LazySegments, read_index, segment_crc, write_index
from sdtrt.engine.format.layout import Layout
from sdtrt.errors import FormatError

LAYOUT = Layout(2, 1, 2, alpha=True, residual_step=300)
SEGMENTS = [bytes([n]) * (40 * n) for n in range(8)]
HEAD = b"all before"


def read_behind(head: bytes, index: bytes, nbytes: int = 1 << 20) -> tuple[Layout, Index]:
    cursor = Cursor(io.BytesIO(head + index))
    cursor.take(len(head))
    return read_index(cursor, nbytes, 100, 100)


def test_segment_crc_of_known_values() -> None:
    assert segment_crc(b"123456789") == 0x31C3  # CRC-16/XMODEM's


def test_write_index_round_trip() -> None:
    data = write_index(LAYOUT, SEGMENTS, HEAD)
    layout, index = read_behind(HEAD, data)
    assert layout == LAYOUT
    assert index.start == len(HEAD) + len(data)
    assert index.nbytes == tuple(map(len, SEGMENTS))
    assert index.end == index.start + sum(map(len, SEGMENTS))
    everything = HEAD + data + b"".join(SEGMENTS)
    assert list(index.slices(everything)) == SEGMENTS
    assert list(index.slices(everything[: index.offsets[3] + 7])) == [*SEGMENTS[:3], SEGMENTS[3][:7], *[b""] * 4]


@pytest.mark.parametrize("residual", [0, 1, 65535])
@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_write_index_kinds_byte(alpha: bool, overlay: bool, residual: int) -> None:
    """Each kind has a bit; a residual is followed by its step."""
    layout = Layout(2, 1, 1, alpha, overlay, residual)
    data = write_index(layout, [b"ab"] * layout.num_segments, HEAD)
    assert data[2] == 1 | 8 * alpha | 16 * overlay | 32 * (residual > 0)
    assert read_behind(HEAD, data)[0] == layout
    with pytest.raises(FormatError, match="unknown kinds"):
        read_behind(HEAD, data[:2] + bytes([data[2] | 64]) + data[3:])


def test_read_index_with_residual_step_0_raises() -> None:
    data = write_index(Layout(residual_step=7), [b"ab", b"c"], HEAD)
    assert data[2:5] == b"\x21\x07\x00"
    with pytest.raises(FormatError, match="the step of the residual layer is 0"):
        read_behind(HEAD, data[:3] + bytes(2) + data[5:])


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_read_index_with_changed_byte_raises(bit: int) -> None:
    data = HEAD + write_index(LAYOUT, SEGMENTS, HEAD)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << bit
        with pytest.raises(FormatError):
            read_behind(bytes(changed[: len(HEAD)]), bytes(changed[len(HEAD) :]))
    for length in range(len(HEAD), len(data)):
        with pytest.raises(FormatError):
            read_behind(HEAD, data[len(HEAD) : length])


def test_read_index_with_more_segments_than_bytes_raises() -> None:
    data = write_index(LAYOUT, SEGMENTS, HEAD)
    assert read_behind(HEAD, data, 24)
    with pytest.raises(FormatError, match="8 segments, too many for a file of 23 bytes"):
        read_behind(HEAD, data, 23)


def test_read_index_with_more_tiles_than_pixels_raises() -> None:
    """Each entry costs time and memory, so that entries which the image cannot have are refused."""
    data = write_index(Layout(4, 1), [b""] * 4, HEAD)
    with pytest.raises(FormatError, match="4x1 tiles, too many for an image of 100x100 pixels"):
        read_behind(HEAD, data)


def test_lazy_segments_read_and_verify_on_access() -> None:
    _, index = read_behind(HEAD, data := write_index(LAYOUT, SEGMENTS, HEAD))
    everything = bytearray(HEAD + data + b"".join(SEGMENTS))
    stored = LazySegments(io.BytesIO(everything), index)
    assert len(stored) == 8
    assert stored[2:4] == SEGMENTS[2:4]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(stored.__getitem__, [*range(8)] * 50)) == SEGMENTS * 50
    everything[index.offsets[5]] ^= 1
    damaged = LazySegments(io.BytesIO(everything), index)
    assert damaged[4] == SEGMENTS[4]
    with pytest.raises(FormatError, match="segment 5"):
        damaged[5]
    with pytest.raises(FormatError, match="segment 7"):
        LazySegments(io.BytesIO(everything[:-1]), index)[7]
