"""EXIF, XMP and text in files: round trips, damage and limits."""

import zlib

import pytest

from sdtrt.engine.format.container import EXIF, TEXT, XMP, File, Header
from sdtrt.engine.format.metadata import MAX_NBYTES, NO_METADATA, Metadata, read_metadata, to_chunks
from sdtrt.errors import FormatError

FULL = Metadata(b"II*\0" + bytes(20), b"<x:xmpmeta/>", (("Title", "Über"), ("empty", ""), ("Title", "twice")))


def file_with(chunks: dict[int, bytes]) -> File:
    return File(Header(1, 1, 1, 3, 2048), (b"",), chunks=chunks)


@pytest.mark.parametrize("metadata", [NO_METADATA, FULL, Metadata(xmp=b"x"), Metadata(text=(("", ""),))])
def test_to_chunks_round_trip(metadata: Metadata) -> None:
    assert read_metadata(file_with(to_chunks(metadata))) == metadata


def test_to_chunks_of_no_metadata_is_empty() -> None:
    assert to_chunks(NO_METADATA) == {}


@pytest.mark.parametrize("kind", [EXIF, XMP, TEXT])
@pytest.mark.parametrize(
    "data",
    [b"", b"plain", zlib.compress(b"a\0b\0")[:-1], zlib.compress(b"a\0b\0") + b"!", zlib.compress(b"a" * (1 << 25))],
)
def test_read_metadata_of_invalid_stream_raises(kind: int, data: bytes) -> None:
    with pytest.raises(FormatError, match=r"EXIF|XMP|text"):
        read_metadata(file_with({kind: data}))


@pytest.mark.parametrize("text", [b"a", b"a\0", b"a\0b", b"a\0b\0c\0", b"\xff\0b\0"])
def test_read_metadata_of_invalid_text_raises(text: bytes) -> None:
    with pytest.raises(FormatError, match="damaged text"):
        read_metadata(file_with({TEXT: zlib.compress(text)}))


def test_to_chunks_beyond_limits_raises() -> None:
    with pytest.raises(ValueError, match=r"leave it out \(--strip\)"):
        to_chunks(Metadata(xmp=bytes(MAX_NBYTES + 1)))
