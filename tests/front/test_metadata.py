"""Metadata from image files to image files, by way of an .sdt file; and the mark that tells of it."""

import io
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import sdtrt
from sdtrt import cli
from sdtrt.engine.format import container
from sdtrt.engine.format.metadata import MAX_NBYTES, Metadata, to_chunks
from sdtrt.images.metadata import MARKS, NO_TEXT, SOURCE_TYPE, add_mark

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/png"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
ARTIST, ORIENTATION = 0x013B, 0x0112
Photo = Callable[[int, int], np.ndarray]


@pytest.fixture
def photograph(photo: Photo, tmp_path: Path) -> Path:
    """A PNG with EXIF data, an orientation among them, XMP and text."""
    exif = Image.Exif()
    exif[ARTIST], exif[ORIENTATION] = "Ansel", 6
    text = PngInfo()
    text.add_text("Title", "Moonrise")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    path = tmp_path / "photograph.png"
    Image.fromarray(photo(40, 24)).save(path, exif=exif, pnginfo=text)
    return path


def described(image: Image.Image) -> dict[int, object]:
    """Return an image's EXIF tags but for the orientation, which must be upright."""
    tags = dict(image.getexif())
    assert tags.pop(ORIENTATION, 1) == 1
    return tags


def test_decode_image_has_the_metadata_in_info(photograph: Path) -> None:
    image = sdtrt.decode(sdtrt.encode(photograph))
    assert image.size == (24, 40)  # it was turned
    assert described(image) == {ARTIST: "Ansel"}
    assert image.info["Title"] == "Moonrise"
    assert image.info["xmp"] == XMP.replace(b"</rdf:RDF>", MARKS["faithful"] + b"</rdf:RDF>")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif"])
def test_commands_metadata_survives_in_image_files(photograph: Path, suffix: str) -> None:
    packed, back = photograph.with_suffix(".sdt"), photograph.with_name(f"back.{suffix}")
    assert cli.main(["encode", str(photograph)]) == 0
    assert cli.main(["decode", str(packed), "-o", str(back)]) == 0
    with Image.open(back) as image:
        image.load()
        assert described(image) == {ARTIST: "Ansel"}
        assert SOURCE_TYPE.encode() in image.info["xmp"]
        assert b"image/png" in image.info["xmp"]
        if suffix == "png":
            assert image.text["Title"] == "Moonrise"
        if suffix == "jpg":
            assert image.info["comment"] == b"Moonrise"


def test_strip_leaves_the_mark_alone(photograph: Path) -> None:
    plain, full = sdtrt.encode(photograph, strip=True), sdtrt.encode(photograph)
    assert len(plain) < len(full) - 100
    assert set(sdtrt.decode(plain).info) == {"xmp"}  # nothing but the mark
    assert not sdtrt.decode(plain, strip=True).info
    assert not sdtrt.decode(full, strip=True).info
    assert sdtrt.decode(full, strip=True).tobytes() == sdtrt.decode(plain).tobytes()
    assert cli.main(["encode", "--strip", str(photograph)]) == 0
    assert photograph.with_suffix(".sdt").read_bytes() == plain
    back = photograph.with_name("back.png")
    assert cli.main(["decode", "--strip", str(photograph.with_suffix(".sdt")), "-o", str(back)]) == 0
    with Image.open(back) as image:
        image.load()
        assert not image.info


def test_decode_of_a_second_generation_has_the_same_metadata(photograph: Path) -> None:
    once = sdtrt.decode(sdtrt.encode(photograph))
    twice = sdtrt.decode(sdtrt.encode(once))
    assert twice.info == once.info


@pytest.mark.parametrize(
    "said",
    [
        b'<rdf:Description xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" i:DigitalSourceType="x"/>',
        b"<rdf:Description><i:DigitalSourceType>x</i:DigitalSourceType></rdf:Description>",
        b'<rdf:Description><i:DigitalSourceType rdf:resource="x"/></rdf:Description>',
    ],
)
def test_add_mark_replaces_an_earlier_source_type(said: bytes) -> None:
    xmp = add_mark(Metadata(xmp=XMP.replace(b"</rdf:RDF>", said + b"</rdf:RDF >"))).xmp
    assert xmp.count(b"DigitalSourceType") == 1
    assert MARKS[None] + b"</rdf:RDF >" in xmp
    assert add_mark(Metadata(xmp=xmp)).xmp == xmp


@pytest.mark.parametrize("look", ["faithful", "fast"])
def test_add_mark_has_the_look_of_the_last_decode_alone(look: str) -> None:
    """That of the last decoding alone."""
    told = add_mark(add_mark(Metadata(xmp=XMP), "fast"), look).xmp
    told_of = [element.get("{urn:sdtrt:xmp}Look") for element in ElementTree.fromstring(told).iter()]
    assert [found for found in told_of if found] == [look]
    assert add_mark(Metadata(xmp=told)).xmp == add_mark(Metadata(xmp=XMP)).xmp


@pytest.mark.parametrize("xmp", [b"", b"junk", bytes(range(256))])
def test_add_mark_without_xmp_makes_a_packet(xmp: bytes) -> None:
    (description,) = ElementTree.fromstring(add_mark(Metadata(xmp=xmp)).xmp).iter(f"{{{RDF}}}Description")
    assert description.get(f"{{{IPTC}}}DigitalSourceType") == SOURCE_TYPE


@pytest.mark.parametrize(
    "xmp",
    [
        XMP + b"<!-- </rdf:RDF> -->",
        XMP.replace(b"</rdf:RDF>", b"<!-- </rdf:RDF> --></rdf:RDF>"),
        b'<!DOCTYPE x:xmpmeta [<!ENTITY e "</rdf:RDF>">]>' + XMP,
        XMP.replace(b"</rdf:RDF>", b"<broken></rdf:RDF>"),
        XMP.decode().encode("utf-16"),
        XMP + bytes(9),
    ],
)
def test_add_mark_is_found_by_a_parser(xmp: bytes) -> None:
    root = ElementTree.fromstring(add_mark(Metadata(xmp=xmp)).xmp.rstrip(b"\0"))
    told_of = [element.get(f"{{{IPTC}}}DigitalSourceType") for element in root.iter(f"{{{RDF}}}Description")]
    assert SOURCE_TYPE in told_of


@pytest.mark.parametrize("part", [b"<a:DigitalSourceType ", b" a:DigitalSourceType='", b"<!--", b"<a>", b"</rdf:RDF"])
def test_add_mark_long_packet_takes_linear_time(part: bytes) -> None:
    started = time.process_time()
    add_mark(Metadata(xmp=part * (MAX_NBYTES // len(part))))
    assert time.process_time() - started < 20


FIELDS = {
    "a width below 0": "0100000800000001fffb0000",
    "a height below 0": "0101000900000001fffffff9",
    "a unit in letters": "012800020000000461626300",
}


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_orientation_in_exif_that_pillow_cannot_write(field: str) -> None:
    orientation = bytes.fromhex("011200030000000100060000")
    fields = sorted([orientation, bytes.fromhex(field)])
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", 2) + b"".join(fields) + bytes(4)
    stream = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(stream, "JPEG", exif=b"Exif\0\0" + tiff)
    with Image.open(stream) as image:
        assert sdtrt.decode(sdtrt.encode(image)).size == (20, 40)
        assert image.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_is_left_out(exif: bytes, photo: Photo) -> None:
    image = Image.fromarray(photo(16, 16))
    image.info["exif"] = exif
    with pytest.warns(sdtrt.ImageWarning, match="EXIF data is damaged"):
        data = sdtrt.encode(image)
    assert "exif" not in sdtrt.decode(data).info


def test_decode_to_jpeg_drops_xmp_that_is_too_large(photo: Photo, tmp_path: Path) -> None:
    image = Image.fromarray(photo(16, 16))
    image.info["xmp"] = XMP + b" " * 70_000
    (tmp_path / "a.sdt").write_bytes(sdtrt.encode(image))
    assert cli.main(["decode", str(tmp_path / "a.sdt"), "--format", "jpeg"]) == 0
    with Image.open(io.BytesIO((tmp_path / "a.jpeg").read_bytes())) as back:
        assert "xmp" not in back.info


@pytest.mark.parametrize("keyword", [*sorted(NO_TEXT), "comment", "dpi", "Ключ"])
@pytest.mark.parametrize("grey", [False, True])
def test_put_into_any_keyword_of_text_is_kept_or_left_out(
    codec: sdtrt.Codec, photo: Photo, tmp_path: Path, keyword: str, grey: bool
) -> None:
    """Pillow's writers know some, and expect no text there."""
    pixels = photo(9, 5)
    file = container.read(codec.encode(np.ascontiguousarray(pixels[:, :, 0]) if grey else pixels))
    chunks = to_chunks(Metadata(text=((keyword, "said"),)))
    (tmp_path / "a.sdt").write_bytes(container.write(replace(file, chunks=chunks)))
    for suffix in ("png", "jpg", "webp", "gif", "tif", "avif"):
        assert cli.main(["decode", str(tmp_path / "a.sdt"), "-f", "-o", str(tmp_path / f"a.{suffix}")]) == 0


@pytest.mark.parametrize("exif", [b"junk", b"II*\0", b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0x\0\0\0\0\0\0\0"])
def test_exif_data_that_is_none_in_a_file(codec: sdtrt.Codec, photo: Photo, tmp_path: Path, exif: bytes) -> None:
    """It is handed on, but left out of AVIF, for Pillow looks into it there."""
    file = container.read(codec.encode(photo(9, 5)))
    path, target = str(tmp_path / "a.sdt"), str(tmp_path / "a.avif")
    Path(path).write_bytes(container.write(replace(file, chunks=to_chunks(Metadata(exif=exif)))))
    assert cli.main(["decode", path, "-o", target]) == 0
    with Image.open(target) as image:
        assert not image.getexif()
