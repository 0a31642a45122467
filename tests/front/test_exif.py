"""EXIF data: bytes stay as they are but for what no longer matches the pixels."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.images import exif
from sdtrt.images.convert import to_engine_image
from sdtrt.images.files import image_file

TYPES = {"SHORT": 3, "LONG": 4, "SBYTE": 6, "SSHORT": 8, "SLONG": 9}
THUMBNAIL = b"\xff\xd8thumbnail\xff\xd9"


def integer(order: str, kind: int, value: int) -> bytes:
    """Return a value as it stands in an entry: at the start of its four bytes."""
    return struct.pack(order + exif.INTEGERS[kind], value).ljust(4, b"\0")


def structure(order: str, orientation: int, kind: int = 3) -> bytes:
    """Return EXIF data with a maker, an orientation, sizes, a maker note, and a thumbnail that has an orientation."""

    def directory(*entries: tuple[int, int, int, bytes], after: int = 0) -> bytes:
        body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
        return struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", after)

    def long(value: int) -> bytes:
        return integer(order, 4, value)

    inner_at = 8 + 2 + 5 * 12 + 4 + 10  # some room before it, as cameras leave
    note = b"NOTE" + struct.pack(f"{order}I", inner_at)
    note_at = inner_at + 2 + 3 * 12 + 4
    second_at = note_at + len(note)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    first = directory(
        (0x0100, 4, 1, long(400)),
        (0x0101, 4, 1, long(300)),
        (0x010F, 2, 4, b"ACE\0"),
        (0x0112, kind, 1, integer(order, kind, orientation)),
        (0x8769, 4, 1, long(inner_at)),
        after=second_at,
    )
    inner = directory(
        (0x927C, 7, len(note), long(note_at)), (0xA002, 4, 1, long(400)), (0xA003, 3, 1, integer(order, 3, 300))
    )
    thumbnail_at = second_at + 2 + 3 * 12 + 4
    second = directory(
        (0x0112, 3, 1, integer(order, 3, 6)),
        (0x0201, 4, 1, long(thumbnail_at)),
        (0x0202, 4, 1, long(len(THUMBNAIL))),
    )
    return head + first + bytes(10) + inner + note + second + THUMBNAIL


def through(tiff: bytes, size: tuple[int, int] = (8, 6)) -> bytes:
    """Return what becomes of EXIF data in a JPEG file by way of a picture."""
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "JPEG", exif=b"Exif\0\0" + tiff)
    return to_engine_image(Image.open(stream)).metadata.exif


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [0, 1, 9, 77])
def test_exif_of_an_upright_image_stays_as_it_is(order: str, orientation: int) -> None:
    tiff = structure(order, orientation)
    assert through(tiff) == tiff


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_orientation_is_changed_where_it_stands(order: str, orientation: int, kind: int) -> None:
    tiff, changed = structure(order, orientation, kind), through(structure(order, orientation, kind))
    assert len(changed) == len(tiff)
    expected = structure(order, 1, kind)
    if orientation < 5:
        assert changed == expected
        return
    sides = {n for n in range(len(tiff)) if changed[n] != expected[n]}
    assert changed.endswith(expected[expected.index(b"NOTE") :])  # the note, the thumbnail and its own orientation
    assert exif.main_directory(changed).entries.keys() == exif.main_directory(tiff).entries.keys()
    image = Image.new("RGB", (6, 8))
    image.info["exif"] = b"Exif\0\0" + changed
    tags = image.getexif()
    assert (tags[0x0100], tags[0x0101], tags[0x0112]) == (300, 400, 1)
    assert [tags.get_ifd(0x8769)[tag] for tag in (0xA002, 0xA003)] == [300, 400]
    assert len(sides) < 40


@pytest.mark.parametrize("order", ["<", ">"])
def test_without_orientation_all_else_stays_in_its_place(order: str) -> None:
    tiff = structure(order, 1)
    bare = exif.without_orientation(tiff)
    assert len(bare) == len(tiff)
    assert exif.main_directory(bare).entries.keys() == exif.main_directory(tiff).entries.keys() - {exif.ORIENTATION}
    assert exif.main_directory(bare).next == exif.main_directory(tiff).next
    at = 8 + 2 + 5 * 12 + 4
    assert bare[at:] == tiff[at:]
    assert exif.without_orientation(bare) == bare


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_thumbnail_and_note_reach_the_image_file(codec: sdtrt.Codec, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=b"Exif\0\0" + structure("<", 6))
    image = codec.decode(codec.encode(Image.open(stream)))
    written = exif.tiff_of(Image.open(io.BytesIO(image_file(image, kind))).info["exif"])
    at = structure("<", 1).index(b"NOTE")
    assert written[at:] == structure("<", 1)[at:]


@pytest.mark.parametrize(
    ("count", "kind"),
    [*((count, kind) for count in (0, 2, 65535) for kind in (0, 1, 2, 5, 12, 99)), (0, 3), (65535, 3)],
)
def test_orientation_that_is_no_integer_is_left_alone(count: int, kind: int) -> None:
    tiff = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0112, kind, count, b"\6\0\0\0") + bytes(40)
    assert exif.upright(tiff, 1) == tiff
    assert to_engine_image(in_memory(tiff)).metadata.exif == tiff


def in_memory(tiff: bytes) -> Image.Image:
    image = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    image.info["exif"] = tiff
    return image


def test_damaged_structures_are_value_errors() -> None:
    tiff, random = structure("<", 6), np.random.default_rng(5)
    for _ in range(2000):
        damaged = bytearray(tiff[: int(random.integers(0, len(tiff) + 1))])
        for at in random.integers(0, max(1, min(len(damaged), 130)), 3 if damaged else 0):
            damaged[at] = int(random.integers(0, 256))
        if exif.can_be_read(bytes(damaged)):
            for orientation in (1, 3, 6):
                assert len(exif.upright(bytes(damaged), orientation)) == len(damaged)
            assert len(exif.without_orientation(bytes(damaged))) == len(damaged)
            exif.dpi_of(bytes(damaged))
            exif.is_empty(bytes(damaged))


@pytest.mark.parametrize(
    "said", [b'tiff:Orientation="6"', b"tiff:Orientation='8'", b"<tiff:Orientation>3</tiff:Orientation>"]
)
def test_orientation_in_xmp_is_changed_where_it_stands(said: bytes) -> None:
    image = in_memory(b"")
    image.info = {"xmp": b"<x " + said + b"/>"}
    changed = to_engine_image(image).metadata.xmp
    assert len(changed) == len(image.info["xmp"])
    assert not any(digit in changed for digit in b"2345678")


def directory_of(*entries: bytes, after: bytes = b"") -> bytes:
    """Return EXIF data, little-endian, of these entries; what follows them begins at byte 14 + 12 for each."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + after


@pytest.mark.parametrize(
    "tiff",
    [
        directory_of(struct.pack("<HHIHH", 0x0112, 3, 2, 6, 6)),
        directory_of(struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0)),
        directory_of(struct.pack("<HHII", 0x0112, 4, 2, 26), after=struct.pack("<II", 6, 8)),
        directory_of(struct.pack("<HHII", 0x0112, 13, 1, 6)),
    ],
    ids=["two values", "twice", "two values elsewhere", "of a type for directories"],
)
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_odd_orientation_that_pillow_applies_is_not_left_to_be_applied_again(tiff: bytes) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=b"Exif\0\0" + tiff)
    assert exif.orientation_in(tiff) == 6
    picture = to_engine_image(Image.open(stream))
    assert picture.pixels.shape == (8, 6, 3)
    assert len(picture.metadata.exif) == len(tiff)
    again = Image.new("RGB", (6, 8))
    again.info["exif"] = picture.metadata.exif
    assert again.getexif()[0x0112] == 1
    assert exif.orientation_in(exif.without_orientation(tiff)) is None
