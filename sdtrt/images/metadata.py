"""EXIF, XMP and text: from Pillow images, and to the options with which Pillow writes files."""

import operator
import re
import struct
from typing import Any
from xml.parsers import expat

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdtrt.engine.format.metadata import Metadata

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
LARGEST_JPEG_XMP = 65_502  # bytes, what fits into one segment beside its name
LARGEST_JPEG_SEGMENT = 65_533
LONGEST_KEYWORD = 79  # of PNG
# What Pillow's writers take from `info` as something else than text.
NO_TEXT = {
    *("append_images", "background", "blend", "bpp", "compression", "default_image", "disposal", "duration", "exif"),
    *("icc_profile", "id_section", "loop", "orientation", "palette", "photoshop", "transparency", "version", "xmp"),
}
# The reconstruction of a picture changes it, but not what it tells: https://cv.iptc.org/newscodes/digitalsourcetype/
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
SOURCE = re.compile(
    rb"\s[\w.-]+:DigitalSourceType\s*=\s*(\"[^\"]*\"|'[^']*')"
    rb"|<[\w.-]+:DigitalSourceType\b[^<>]*/>|<([\w.-]+):DigitalSourceType\b[^<>]*>[^<]*</\2:DigitalSourceType\s*>"
)
MARKS = {
    look: (
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"{said}/>'
    ).encode()
    for look, said in {
        None: "",
        "faithful": ' xmlns:sdtrt="urn:sdtrt:xmp" sdtrt:Look="faithful"',
        "vivid": ' xmlns:sdtrt="urn:sdtrt:xmp" sdtrt:Look="vivid"',
    }.items()
}
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# RDF"
MISSING = "sdtrt:missing"  # in the `info` of images from files that are cut short or damaged
# What Pillow raises at EXIF data that is none.
UNREADABLE_EXIF = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
PACKET = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def metadata_of(image: Image.Image, upright: Image.Image) -> Metadata:
    """Return what an opened image carries; `upright` is the same, turned as its orientation says, and without that.

    What cannot be read is left out.
    """
    try:
        exif = upright.getexif()
        exif.pop(ORIENTATION, None)
        tiff = exif.tobytes().removeprefix(EXIF_PREFIX) if exif else b""
    except UNREADABLE_EXIF:
        tiff = b""
    xmp = upright.info.get("xmp") or upright.info.get("XML:com.adobe.xmp") or b""
    return Metadata(tiff, xmp.encode() if isinstance(xmp, str) else bytes(xmp), tuple(_texts(image)))


def _texts(image: Image.Image) -> list[tuple[str, str]]:
    """Return the text of PNG files and of images in memory, and the comments of others."""
    in_memory = {name: said for name, said in image.info.items() if isinstance(said, str) and image.format is None}
    found = {str(name): said for name, said in getattr(image, "text", in_memory).items()}
    if not found and "comment" in image.info:
        found["Comment"] = image.info["comment"]
    return [
        (_plain(keyword), _plain(said))
        for keyword, said in found.items()
        if keyword != "XML:com.adobe.xmp" and not keyword.startswith("Raw profile type")
    ]


def _plain(text: str | bytes) -> str:
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).replace("\0", "")


def put_into(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata where Pillow's own readers put it, in an image's `info`; no text where its writers expect else."""
    if metadata.exif:
        image.info["exif"] = EXIF_PREFIX + metadata.exif
    if metadata.xmp:
        image.info["xmp"] = metadata.xmp
    image.info.update((keyword, said) for keyword, said in metadata.text if keyword not in NO_TEXT)


def marked(metadata: Metadata, look: str | None = None) -> Metadata:
    """Return metadata that says, in IPTC's words, that the picture was reconstructed by an algorithm; and its look."""
    xmp, mark = metadata.xmp, MARKS[look]
    for earlier in MARKS.values():
        xmp = xmp.replace(earlier, b"")
    xmp = SOURCE.sub(b"", xmp)
    end = _end_of_rdf(xmp)
    xmp = PACKET % mark if end is None else xmp[:end] + mark + xmp[end:]
    return Metadata(metadata.exif, xmp, metadata.text)


def _end_of_rdf(xmp: bytes) -> int | None:
    """Return where the last RDF element of a packet ends; None if the packet is no XML in UTF-8, or has no such one."""
    ends = []
    parser = expat.ParserCreate("utf-8", " ")

    def ended(name: str) -> None:
        if name == RDF:
            ends.append(parser.CurrentByteIndex)

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser.EndElementHandler, parser.StartDoctypeDeclHandler = ended, refuse
    try:
        parser.Parse(xmp.rstrip(b"\0"), True)
    except (expat.ExpatError, ValueError):
        return None
    return ends[-1] if ends and xmp.startswith(b"</", ends[-1]) else None


def save_options(image: Image.Image, kind: str) -> dict[str, Any]:
    """Return what to hand to `Image.save`, so that a kind of file keeps as much of an image's metadata as it can."""
    exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
    text = [(str(name), said) for name, said in image.info.items() if isinstance(said, str)]
    if kind == "PNG":
        info = PngInfo()
        for keyword, said in text:
            info.add_itxt(keyword.encode("latin-1", "replace")[:LONGEST_KEYWORD] or b"Comment", said)
        if xmp:
            info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        return {"pnginfo": info, "exif": exif}
    if kind == "JPEG":
        return {
            "exif": exif if len(exif) <= LARGEST_JPEG_SEGMENT else b"",
            "xmp": xmp if len(xmp) <= LARGEST_JPEG_XMP else b"",
            "comment": "\n".join(said for _, said in text).encode()[:LARGEST_JPEG_SEGMENT],
        }
    if kind == "AVIF" and not _is_readable(exif):
        exif = b""
    return {"exif": exif, "xmp": xmp} if kind in {"WEBP", "AVIF"} else {}


def _is_readable(exif: bytes) -> bool:
    """Return whether Pillow's AVIF writer, which looks for an orientation, can read EXIF data."""
    found = Image.Exif()
    try:
        found.load(exif)
        return operator.index(found.get(ORIENTATION, 1)) in range(1 << 16)
    except UNREADABLE_EXIF:
        return False
