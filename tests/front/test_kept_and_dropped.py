"""The table "What is kept" of docs/images.md, row by row: each item of each source has a case here."""

import base64
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

import sdtrt
from sdtrt.images.headers import head_of

PAGE = Path(__file__).parents[2] / "docs" / "images.md"
ORIENTATION, ARTIST, EXIF_IFD, DATE, WIDTH, HEIGHT = 0x0112, 0x013B, 0x8769, 0x9003, 0xA002, 0xA003
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="here"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
# 8x8 pixels of 10 bits, encoded by libaom.
AVIF_OF_10_BITS = base64.b64decode(
    "AAAAHGZ0eXBhdmlmAAAAAG1pZjFhdmlmbWlhZgAAANZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAAA+gABAAAAAAAAAB4AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABhdjAxAAAAAA5waXRtAAAAAAABAAAAVmlw"
    "cnAAAAA4aXBjbwAAAAxhdjFDgQBMAAAAABRpc3BlAAAAAAAAAAgAAAAIAAAAEHBpeGkAAAAAAwoKCgAAABZpcG1hAAAAAAAAAAEAAQOBAgMA"
    "AAAmbWRhdBIACggYCL9ugIaDQjIQHEeHhd3AACwAAACQNY48bw=="
)


class Case(NamedTuple):
    """A file or an image; what must be true of it decoded, and what a warning must say where something is dropped."""

    source: bytes | Image.Image
    kept: Callable[[Image.Image], bool] = lambda image: True
    warning: str = ""


def photo(width: int = 24, height: int = 16) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 9, y * 12, 200 - x * 4 - y * 2], -1).astype(np.uint8))


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or photo()).save(stream, {"JPEG 2000": "JPEG2000"}.get(kind, kind), **options)
    return stream.getvalue()


def in_memory(**info: object) -> Image.Image:
    image = photo()
    image.info.update(info)
    return image


def exif(**tags: object) -> bytes:
    """Return EXIF data with an artist, a date, and tags of IFD0 such as `orientation`."""
    data = Image.Exif()
    data[ARTIST], data[EXIF_IFD] = "Ansel", {DATE: "2024:01:02 03:04:05", WIDTH: 24, HEIGHT: 16}
    for name, value in tags.items():
        data[{"orientation": ORIENTATION}[name]] = value
    return data.tobytes()[6:]


def saved_with_exif(kind: str, tiff: bytes, **options: object) -> bytes:
    return saved(kind, exif=b"Exif\0\0" + tiff if kind == "JPEG" else tiff, **options)


def exif_with_thumbnail() -> bytes:
    """Return EXIF data with a thumbnail, and a maker note whose place matters."""
    thumbnail = saved("JPEG", photo(8, 8))
    head = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x010F, 2, 4, int.from_bytes(b"ACE\0", "little"))
    after = len(head) + 4
    note = b"NOTE" + struct.pack("<I", after)
    second = struct.pack("<H", 2) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in ((0x0201, after + len(note) + 30), (0x0202, len(thumbnail)))
    )
    return head + struct.pack("<I", after + len(note)) + note + second + bytes(4) + thumbnail


def profile(kind: str = "sRGB", *, wide: bool = False) -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes())
    if wide:  # a green primary farther out
        (count,) = struct.unpack_from(">I", data, 128)
        tags = {bytes(data[n : n + 4]): n + 4 for n in range(132, 132 + 12 * count, 12)}
        place = struct.unpack_from(">I", data, tags[b"gXYZ"])[0] + 8
        struct.pack_into(">3i", data, place, *(round(v * 65536) for v in (0.2, 0.72, 0.02)))
    return bytes(data)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(name: bytes, data: bytes) -> bytes:
    """Return a PNG file with a chunk after its header."""
    file = saved("PNG")
    return file[:33] + png_chunk(name, data) + file[33:]


def deep_png(colour_type: int, channels: int) -> bytes:
    rows = (b"\0" + struct.pack(">H", 40000) * channels * 8) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def deep_tiff() -> bytes:
    """Return a TIFF file of RGB with 16 bits, which Pillow does not write."""
    pixels = struct.pack("<H", 40000) * 3 * 64
    bits, start = 8, 8 + 8
    tags = (
        *((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, start)),
        *((277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, len(pixels)), (284, 3, 1, 1)),
    )
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", start + len(pixels)) + struct.pack("<4H", 16, 16, 16, 0) + pixels + directory


def deep_jpeg_2000() -> bytes:
    """Return a JPEG 2000 file whose header says 12 bits for each of three channels."""
    file = saved("JPEG 2000").replace(b"\0\3\7\1\1\7\1\1\7\1\1", b"\0\3\x0b\1\1\x0b\1\1\x0b\1\1")
    at = file.index(b"ihdr") + 14
    return file[:at] + b"\x0b" + file[at + 1 :]


def jpeg_with(marker: int, content: bytes) -> bytes:
    """Return a JPEG file with a segment after its start."""
    file = saved("JPEG")
    return file[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + file[2:]


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)


def psd(*resources: bytes, layers: bytes = b"") -> bytes:
    """Return a Photoshop file, which Pillow does not write."""
    pixels = np.asarray(photo()).transpose(2, 0, 1).tobytes()
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 16, 24, 8, 3) + bytes(4)
    section = struct.pack(">I", len(layers) + 4) + struct.pack(">I", len(layers)) + layers if layers else bytes(4)
    return head + struct.pack(">I", sum(map(len, resources))) + b"".join(resources) + section + bytes(2) + pixels


def psd_layers() -> bytes:
    record = struct.pack(">4iH", 0, 0, 16, 24, 0) + b"8BIMnorm" + struct.pack(">4BI", 255, 0, 0, 0, 0)
    return struct.pack(">h", 2) + record * 2


def tiff_with(tag: int, kind: int, value: object) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[tag], tags[tag] = kind, value
    return saved("TIFF", tiffinfo=tags)


def hexadecimal(kind: str, data: bytes) -> bytes:
    """Return a PNG file with a profile as ImageMagick writes it."""
    text = PngInfo()
    text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8}\n{data.hex()}\n")
    return saved("PNG", pnginfo=text)


def with_text(**texts: str) -> PngInfo:
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_text(keyword, text)
    return chunks


def xmp_png() -> bytes:
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return saved("PNG", pnginfo=chunks)


def boxed(kind: bytes, content: bytes) -> bytes:
    """Return a JPEG 2000 file with a box after its type."""
    file = saved("JPEG 2000")
    at = file.index(b"ftyp") - 4
    at += int.from_bytes(file[at : at + 4], "big")
    return file[:at] + struct.pack(">I", 8 + len(content)) + kind + content + file[at:]


def frames(kind: str) -> bytes:
    others = [Image.new("RGB", (24, 16), colour) for colour in ("red", "blue")]
    return saved(kind, save_all=True, append_images=others)


def patched(file: bytes, old: bytes, new: bytes) -> bytes:
    assert old in file
    return file.replace(old, new)


def alpha_of(image: Image.Image) -> Image.Image:
    translucent = image.copy()
    translucent.putalpha(Image.linear_gradient("L").resize(image.size))
    return translucent


def has_exif(tiff: bytes) -> Callable[[Image.Image], bool]:
    return lambda image: image.info.get("exif") == b"Exif\0\0" + tiff


def has_tags(image: Image.Image) -> bool:
    tags = image.getexif()
    return tags[ARTIST] == "Ansel" and tags.get_ifd(EXIF_IFD)[DATE] == "2024:01:02 03:04:05"


def has_xmp(image: Image.Image) -> bool:
    return b'dc:format="here"' in image.info["xmp"]


def is_turned(image: Image.Image) -> bool:
    return image.size == (16, 24) and image.getexif().get(ORIENTATION, 1) == 1


def has_swapped_sides(image: Image.Image) -> bool:
    sides = image.getexif().get_ifd(EXIF_IFD)
    return is_turned(image) and (sides[WIDTH], sides[HEIGHT]) == (16, 24)


def has_dpi(image: Image.Image) -> bool:
    x, y = image.info["dpi"]
    return abs(x - 300) < 0.1 and abs(y - 150) < 0.1 and image.getexif()[0x0128] == 2


def has_comment(text: str) -> Callable[[Image.Image], bool]:
    return lambda image: image.info["Comment"] == text


def has_alpha(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").tobytes() == alpha_of(photo()).getchannel("A").tobytes()


def is_rgb(image: Image.Image) -> bool:
    return image.mode == "RGB" and "icc_profile" not in image.info


def is_opaque(image: Image.Image) -> bool:
    return image.mode == "RGB"


def has_no_exif(image: Image.Image) -> bool:
    return "exif" not in image.info


DATA, CLIPPED, AS_SRGB = b"IPTC data", "colours beyond sRGB are clipped", "colours are taken as sRGB"
GREY = Image.fromarray(np.full((8, 8), 40000, np.uint16))
STALE = in_memory(icc_profile=profile()).convert("L")
PALETTE = photo().quantize(8)
JFIF = b"JFIF\0\1\1"

CASES: dict[tuple[str, str], Callable[[], Case]] = {
    **{
        ("ICC profile", kind): lambda kind=kind: Case(saved(kind, icc_profile=profile()), is_rgb)
        for kind in ("PNG", "JPEG", "WebP", "TIFF", "AVIF")
    },
    **{
        ("ICC profile with colours beyond sRGB", kind): lambda kind=kind: Case(
            saved(kind, icc_profile=profile(wide=True)), is_rgb, CLIPPED
        )
        for kind in ("PNG", "JPEG")
    },
    **{
        ("ICC profile that is damaged", kind): lambda kind=kind: Case(
            saved(kind, icc_profile=b"junk" * 50), is_rgb, f"{AS_SRGB}: the ICC profile is damaged"
        )
        for kind in ("PNG", "JPEG")
    },
    ("ICC profile of another mode", "PNG"): lambda: Case(
        saved("PNG", photo().convert("L"), icc_profile=profile()), warning=f"{AS_SRGB}: the ICC profile is of RGB"
    ),
    ("ICC profile of the mode before a conversion", "Memory"): lambda: Case(STALE, lambda image: image.mode == "L"),
    ("ICC profile", "JPEG 2000"): lambda: Case(
        patched(saved("JPEG 2000"), b"colr\1", b"colr\2"), is_rgb, f"{AS_SRGB}: Pillow does not read the ICC profile"
    ),
    ("cICP chunk of other colours than sRGB", "PNG"): lambda: Case(
        png_with(b"cICP", bytes([9, 16, 0, 1])), is_rgb, f"{AS_SRGB}: the cICP chunk with primaries 9"
    ),
    ("nclx box of other colours than sRGB", "AVIF"): lambda: Case(
        patched(saved("AVIF"), b"nclx\0\1\0\x0d", b"nclx\0\x09\0\x10"), is_rgb, f"{AS_SRGB}: the nclx box"
    ),
    ("gamma and chromaticities", "PNG"): lambda: Case(
        png_with(b"gAMA", struct.pack(">I", 100000)), is_rgb, f"{AS_SRGB}: the gamma of 1 "
    ),
    ("more than 8 bits, colour", "PNG"): lambda: Case(deep_png(2, 3), is_rgb, "16 bits are reduced to 8"),
    ("more than 8 bits, colour", "TIFF"): lambda: Case(deep_tiff(), is_rgb, "16 bits are reduced to 8"),
    ("more than 8 bits, colour", "PPM"): lambda: Case(
        b"P6 8 8 1023\n" + struct.pack(">H", 700) * 192, is_rgb, "10 bits are reduced to 8"
    ),
    ("more than 8 bits, colour", "SGI"): lambda: Case(
        struct.pack(">HBBHHHH500x", 474, 0, 2, 3, 8, 8, 3) + struct.pack(">H", 40000) * 192, is_rgb, "16 bits are red"
    ),
    ("more than 8 bits, colour", "JPEG 2000"): lambda: Case(deep_jpeg_2000(), is_rgb, "12 bits are reduced to 8"),
    ("more than 8 bits, colour", "AVIF"): lambda: Case(AVIF_OF_10_BITS, is_rgb, "10 bits are reduced to 8"),
    **{
        ("more than 8 bits, grey", kind): lambda kind=kind: Case(
            saved(kind, GREY), lambda image: image.mode == "L", "(16|32) bits are reduced to 8"
        )
        for kind in ("PNG", "TIFF", "PPM", "JPEG 2000")
    },
    **{
        ("CMYK", kind): lambda kind=kind: Case(saved(kind, photo().convert("CMYK")), is_rgb)
        for kind in ("JPEG", "TIFF")
    },
    **{
        ("alpha", kind): lambda kind=kind: Case(saved(kind, alpha_of(photo()), **LOSSLESS.get(kind, {})), has_alpha)
        for kind in ("PNG", "WebP", "AVIF", "TIFF")
    },
    **{
        ("transparent colour", kind): lambda kind=kind: Case(
            saved(kind, PALETTE, transparency=0), lambda image: image.mode == "RGBA"
        )
        for kind in ("PNG", "GIF")
    },
    ("transparency of another mode", "Memory"): lambda: Case(
        in_memory(transparency=b"\0\1"), is_opaque, "the transparency does not fit an image of mode RGB"
    ),
    **{
        ("EXIF orientation", kind): lambda kind=kind: Case(
            saved_with_exif(kind, exif(orientation=6)), is_turned if kind in {"TIFF", "AVIF"} else has_swapped_sides
        )
        for kind in ("JPEG", "PNG", "WebP", "TIFF", "AVIF")
    },
    ("EXIF orientation", "Memory"): lambda: Case(
        in_memory(exif=exif(orientation=6)),
        lambda image: image.size == (24, 16) and image.getexif()[ORIENTATION] == 1,
    ),
    **{
        ("EXIF", kind): lambda kind=kind: Case(saved_with_exif(kind, exif()), has_exif(exif()))
        for kind in ("JPEG", "PNG", "WebP", "AVIF")
    },
    ("EXIF", "PSD"): lambda: Case(psd(resource(1058, exif())), has_exif(exif())),
    ("EXIF", "Memory"): lambda: Case(in_memory(exif=exif()), has_exif(exif())),
    ("EXIF thumbnail and maker note", "JPEG"): lambda: Case(
        saved("JPEG", exif=b"Exif\0\0" + exif_with_thumbnail()), has_exif(exif_with_thumbnail())
    ),
    ("EXIF", "TIFF"): lambda: Case(saved("TIFF", exif=exif()), has_tags),
    ("EXIF that is damaged", "JPEG"): lambda: Case(
        saved("JPEG", exif=b"Exif\0\0junk"), has_no_exif, "the EXIF data is damaged"
    ),
    ("EXIF that is damaged", "Memory"): lambda: Case(in_memory(exif=b"junk"), has_no_exif, "the EXIF data is damaged"),
    ("XMP", "PNG"): lambda: Case(xmp_png(), has_xmp),
    **{("XMP", kind): lambda kind=kind: Case(saved(kind, xmp=XMP), has_xmp) for kind in ("JPEG", "WebP", "AVIF")},
    ("XMP", "TIFF"): lambda: Case(tiff_with(700, 1, XMP), has_xmp),
    ("XMP", "PSD"): lambda: Case(psd(resource(1060, XMP)), has_xmp),
    ("XMP", "Memory"): lambda: Case(in_memory(xmp=XMP), has_xmp),
    ("XMP", "GIF"): lambda: Case(saved("GIF")[:-1] + b"!\xff\x0bXMP DataXMP\1x\0;", warning="metadata is dropped: XMP"),
    ("extended XMP", "JPEG"): lambda: Case(
        jpeg_with(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(50)), warning="dropped: extended XMP"
    ),
    ("text", "PNG"): lambda: Case(
        saved("PNG", pnginfo=with_text(Title="Füße", Author="文")),
        lambda image: (image.info["Title"], image.info["Author"]) == ("Füße", "文"),
    ),
    ("text", "Memory"): lambda: Case(in_memory(Title="Füße"), lambda image: image.info["Title"] == "Füße"),
    **{
        ("comment", kind): lambda kind=kind: Case(saved(kind, comment="café".encode("latin-1")), has_comment("café"))
        for kind in ("JPEG", "GIF", "JPEG 2000")
    },
    ("EXIF or XMP in a profile of ImageMagick", "PNG"): lambda: Case(
        hexadecimal("exif", b"Exif\0\0" + exif()), has_exif(exif())
    ),
    ("other profiles of ImageMagick", "PNG"): lambda: Case(
        hexadecimal("iptc", DATA), warning="dropped: ImageMagick's profile iptc"
    ),
    ("IPTC", "JPEG"): lambda: Case(
        jpeg_with(0xED, b"Photoshop 3.0\0" + resource(0x0404, DATA)), warning="metadata is dropped: IPTC"
    ),
    ("IPTC", "TIFF"): lambda: Case(tiff_with(33723, 7, DATA), warning="metadata is dropped: IPTC"),
    ("IPTC", "PSD"): lambda: Case(psd(resource(1028, DATA)), warning="metadata is dropped: IPTC"),
    ("image resources of Photoshop", "TIFF"): lambda: Case(
        tiff_with(34377, 7, resource(0x0404, DATA)), warning="image resources of Photoshop"
    ),
    ("GeoTIFF", "TIFF"): lambda: Case(tiff_with(34735, 3, (1, 1, 0, 0)), warning="metadata is dropped: GeoTIFF"),
    ("content credentials (C2PA)", "JPEG"): lambda: Case(
        jpeg_with(0xEB, b"JP\0\1\0\0\0\1....jumb....c2pa"), warning="dropped: content credentials"
    ),
    ("content credentials (C2PA)", "PNG"): lambda: Case(
        png_with(b"caBX", b"jumb"), warning="dropped: content credentials"
    ),
    ("uuid and xml boxes", "JPEG 2000"): lambda: Case(boxed(b"uuid", bytes(20)), warning="dropped: uuid box"),
    **{
        ("resolution", kind): lambda kind=kind: Case(saved(kind, dpi=(300, 150)), has_dpi)
        for kind in ("PNG", "JPEG", "TIFF", "BMP")
    },
    ("resolution beside EXIF without one", "JPEG"): lambda: Case(
        saved_with_exif("JPEG", exif(), dpi=(300, 300)), has_exif(exif()), "a resolution of 300x300 dpi is dropped"
    ),
    ("shape of pixels that are not square", "PNG"): lambda: Case(
        png_with(b"pHYs", struct.pack(">IIB", 2, 1, 0)), warning="the shape of its pixels, 1:2"
    ),
    ("shape of pixels that are not square", "JPEG"): lambda: Case(
        patched(saved("JPEG"), JFIF + b"\0\0\1\0\1", JFIF + b"\0\0\2\0\1"), warning="the shape of its pixels, 1:2"
    ),
    **{
        ("further frames and pages", kind): lambda kind=kind: Case(frames(kind), warning="one of 3 frames is taken")
        for kind in ("GIF", "PNG", "WebP", "AVIF", "TIFF", "MPO")
    },
    ("further sizes", "ICO"): lambda: Case(
        saved("ICO", photo(32, 32), sizes=[(16, 16), (32, 32)]),
        lambda image: image.size == (32, 32),
        "one of 2 sizes is taken",
    ),
    ("layers", "PSD"): lambda: Case(psd(layers=psd_layers()), warning="2 layers are dropped"),
    ("layers", "TIFF"): lambda: Case(tiff_with(37724, 7, DATA), warning="layers of Photoshop are dropped"),
    ("gain map", "JPEG"): lambda: Case(
        saved("JPEG", xmp=XMP.replace(b"dc:format", b'xmlns:hdrgm="urn:x" hdrgm:Version="1.0" dc:format')),
        lambda image: has_xmp(image) and b"hdrgm:Version" not in image.info["xmp"],
        "the gain map is dropped",
    ),
}
LOSSLESS = {"WebP": {"lossless": True}, "AVIF": {"quality": 100}}


def rows() -> dict[tuple[str, str], str]:
    """Return the table of the docs: what becomes of an item of a source, in one word."""
    section = PAGE.read_text("utf-8").partition("## What is kept\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+?) \| (.+?) \| (\w+): .+ \|$", section, re.MULTILINE)
    assert len(lines) == section.count("\n|") - 2  # the head of the table, and the line below it
    return {(item, source): outcome for item, sources, outcome in lines for source in sources.split(", ")}


def test_table_of_the_docs_and_cases_name_the_same_items() -> None:
    assert rows().keys() == CASES.keys()


@pytest.mark.parametrize(("item", "source"), CASES, ids=map(" of ".join, CASES))
def test_item_of_the_table_is_kept_converted_or_dropped(codec: sdtrt.Codec, item: str, source: str) -> None:
    case, outcome = CASES[item, source](), rows()[item, source]
    assert outcome in {"kept", "converted", "dropped"}
    image = Image.open(io.BytesIO(case.source)) if isinstance(case.source, bytes) else case.source
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = codec.encode(image)
    losses = [str(loss.message) for loss in caught]
    assert {loss.category for loss in caught} <= {sdtrt.ImageWarning}
    if outcome == "dropped":
        assert [loss for loss in losses if re.search(case.warning, loss)], losses
        assert case.warning
    else:
        assert not losses
    assert case.kept(codec.decode(data))


def test_gain_map_of_avif_is_found_in_its_head() -> None:
    image = photo()
    image.format, image.fp = "AVIF", io.BytesIO(patched(saved("AVIF"), b"MA1B", b"tmap"))
    assert b"tmap" in head_of(image).parts


def test_profile_of_imagemagick_with_xmp_is_converted(codec: sdtrt.Codec) -> None:
    assert has_xmp(codec.decode(codec.encode(Image.open(io.BytesIO(hexadecimal("xmp", XMP))))))


@pytest.mark.parametrize("dpi", [(72, 72), (96, 96), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_default_resolution_leaves_the_file_as_it_is(codec: sdtrt.Codec, kind: str, dpi: tuple[int, int]) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(saved(kind))))
    assert codec.encode(Image.open(io.BytesIO(saved(kind, dpi=dpi)))) == codec.encode(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "ICO", "TGA"])
def test_plain_file_is_encoded_as_its_pixels(codec: sdtrt.Codec, kind: str) -> None:
    """No warning, nothing kept beside the pixels."""
    options = {"sizes": [(32, 32)]} if kind == "ICO" else {}
    image = Image.open(io.BytesIO(saved(kind, photo(32, 32), **options)))
    assert codec.encode(image, layers=1) == codec.encode(np.asarray(image.convert("RGB")), layers=1)


def test_strip_drops_metadata_without_a_warning(codec: sdtrt.Codec) -> None:
    for item, source in (("IPTC", "JPEG"), ("EXIF that is damaged", "JPEG"), ("GeoTIFF", "TIFF")):
        data = CASES[item, source]().source
        assert isinstance(data, bytes)
        assert codec.decode(codec.encode(Image.open(io.BytesIO(data)), strip=True), strip=True).info == {}
