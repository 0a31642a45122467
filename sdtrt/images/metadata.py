"""EXIF, XMP and text: read from Pillow images, and written by Pillow's `save` options."""

import operator
import re
import struct
from typing import Any, get_args
from xml.parsers import expat

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdtrt.engine.format.metadata import Metadata
from sdtrt.engine.networks.choices import Look
from sdtrt.images import exif as exif_data
from sdtrt.images.exif import ORIENTATION, PREFIX
from sdtrt.images.losses import (
    GAIN_MAP_VERSION,
    PSD_EXIF,
    PSD_XMP,
    has_gain_map,
    resources_of,
    segments,
    warn,
)
from sdtrt.images.opening import is_file_image

XMP_KEYS = "xmp", "XML:com.adobe.xmp"  # keys of `info`; the first has precedence
RAW_PROFILE = "Raw profile type "
COMMENT = "Comment"  # the keyword of a comment's text
FORMATS_WITH_TEXT = {"PNG", "SDT"}
MAX_JPEG_XMP = 65_502  # bytes that fit into one segment beside its name
MAX_JPEG_SEGMENT = 65_533
FORMATS_WITH_DPI = {"PNG", "JPEG", "TIFF", "BMP"}  # formats whose writers take `dpi`
MAX_KEYWORD = 79  # characters of a keyword in PNG
# Keys of `info` that Pillow's writers do not take as text.
NO_TEXT = {
    *("append_images", "background", "blend", "bpp", "compression", "default_image", "disposal", "duration", "exif"),
    *("icc_profile", "id_section", "loop", "orientation", "palette", "photoshop", "transparency", "version", "xmp"),
}
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))[2-8](?=\s*[\"'<])")
MISSING = "sdtrt:missing"  # key of `info` in images of damaged or truncated files
# Errors that Pillow raises for invalid EXIF data.
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


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of an image file; 1 if none can be read.

    Like Pillow's `ImageOps.exif_transpose`, this reads the orientation in XMP, too.
    """
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except UNREADABLE_EXIF:
        orientation = orientation_in(exif_data.tiff_of(_exif_in_info(image)))
    return orientation if type(orientation) is int and orientation in exif_data.TURNED else 1


def orientation_in(tiff: bytes) -> int | None:
    """Return the orientation in EXIF data; None if it is missing or damaged."""
    try:
        return exif_data.orientation_in(tiff)
    except ValueError:
        return None


def metadata_of(image: Image.Image, orientation: int = 1) -> Metadata:
    """Return the metadata of an image, changed as if the image had been turned upright from `orientation`, 1 to 8.

    In EXIF data only the tags of orientation and size change. Damaged metadata is left out, and an `ImageWarning` is
    given.
    """
    xmp = _upright_xmp(_xmp_of(image))
    if is_file_image(image) and has_gain_map(image):  # the gain map is not encoded
        xmp = GAIN_MAP_VERSION.sub(lambda version: b" " * len(version[0]), xmp)
    return Metadata(_exif_of(image, orientation), xmp, tuple(_texts(image)))


def replace_metadata(image: Image.Image, orientation: int, changes: dict[str, Any]) -> Metadata:
    """Return the metadata of an image as `metadata_of` does, with some of it replaced.

    Arguments:
        image: the image, loaded.
        orientation: the EXIF orientation, 1 to 8, from which the image is turned upright.
        changes: new metadata by name: "exif" and "xmp" as bytes or as Pillow's objects; "comment", a string; "text", a
            dictionary by keyword. None or an empty value removes the image's own metadata of that name.
    """
    tiff, text = exif_of_changes(changes), list(_texts(image))
    if "exif" not in changes:
        tiff = _exif_of(image, orientation)
    elif exif_data.can_be_read(tiff):
        tiff = exif_data.upright(tiff, orientation)
    xmp = _upright_xmp(_bytes(changes["xmp"]) if "xmp" in changes else _xmp_of(image))
    if "text" in changes:
        text = [(str(keyword), _decode_text(value)) for keyword, value in dict(changes["text"] or {}).items()]
    if "comment" in changes:
        text = [(keyword, value) for keyword, value in text if keyword != COMMENT]
        text += [(COMMENT, _decode_text(changes["comment"]))] if changes["comment"] else []
    return Metadata(tiff, xmp, tuple(text))


def exif_of_changes(changes: dict[str, Any]) -> bytes:
    """Return the EXIF data in `changes`; empty bytes if there is none, or if it has no tags."""
    tiff = exif_data.tiff_of(_bytes(changes.get("exif")))
    return b"" if exif_data.can_be_read(tiff) and exif_data.is_empty(tiff) else tiff


def _exif_of(image: Image.Image, orientation: int) -> bytes:
    tiff = exif_data.tiff_of(_exif_in_info(image))
    dpi = exif_data.chosen_dpi(image.info.get("dpi")) if is_file_image(image) else None
    if tiff:
        if not exif_data.can_be_read(tiff):
            warn("the EXIF data is damaged: it is dropped")
            return b""
        if dpi and exif_data.dpi_of(tiff) is None:
            warn(f"a resolution of {dpi[0]:g}x{dpi[1]:g} dpi is dropped: the EXIF data has none")
        return b"" if exif_data.is_empty(tiff) else exif_data.upright(tiff, orientation)
    try:
        exif = exif_data.exif_of_tiff_file(image) if hasattr(image, "tag_v2") else Image.Exif()
        return exif_data.exif_with_dpi(exif, dpi) if dpi else exif_data.written(exif)
    except UNREADABLE_EXIF as error:
        warn(f"the tags of the TIFF file cannot be kept as EXIF data: they are dropped ({error})")
        return b""


def _exif_in_info(image: Image.Image) -> bytes:
    """Return the EXIF data of an image as its file stores it; empty bytes if it was removed from `info`."""
    if "exif" in image.info:
        return _bytes(image.info["exif"])
    if profile := image.info.get(f"{RAW_PROFILE}exif"):
        try:
            return exif_data.bytes_of_hex(profile)
        except (AttributeError, TypeError, ValueError):
            return b"damaged"
    return resources_of(image).get(PSD_EXIF, b"")


def _bytes(value: Any) -> bytes:
    """Return EXIF data or XMP of any type that callers use in `info` as bytes."""
    if isinstance(value, Image.Exif):
        return value.tobytes()
    return value.encode() if isinstance(value, str) else bytes(value or b"")


def _xmp_of(image: Image.Image) -> bytes:
    """Return the XMP of an image; empty bytes if one of its keys in `info` is empty."""
    packets = [_bytes(image.info[key]) for key in XMP_KEYS if key in image.info]
    if packets:
        return packets[0] if all(packets) else b""
    if profile := image.info.get(f"{RAW_PROFILE}xmp"):
        try:
            return exif_data.bytes_of_hex(profile)
        except (AttributeError, TypeError, ValueError):
            warn("the XMP is damaged: it is dropped")
    return resources_of(image).get(PSD_XMP, b"")


def _upright_xmp(xmp: bytes) -> bytes:
    """Return XMP with an orientation of 1, if it has an orientation."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _texts(image: Image.Image) -> list[tuple[str, str]]:
    """Return the text of a PNG file or of an image in memory, or the comments of another file."""
    texts = {name: image.info[name] for name in _text_names(image)}
    if not texts and image.info.get("comment"):
        texts[COMMENT] = _comment_of(image)
    return [(_decode_text(keyword), _decode_text(text)) for keyword, text in texts.items()]


def _text_names(image: Image.Image) -> list[str]:
    """Return the keys of `info` whose values are text. Callers remove text by removing its key."""
    names = [name for name, text in image.info.items() if isinstance(name, str) and isinstance(text, str)]
    stream = getattr(image, "png", None)  # a PNG file whose pixels are not loaded; reading `text` would load them
    known = getattr(image, "text", None) if stream is None else stream.im_text
    if known is not None:
        names = [name for name in names if name in known]
    elif is_file_image(image) and image.format not in FORMATS_WITH_TEXT:
        return []
    else:
        names = [name for name in names if name not in NO_TEXT]
    return [name for name in names if name not in XMP_KEYS and not name.startswith(RAW_PROFILE)]


def _comment_of(image: Image.Image) -> str | bytes:
    """Return the comment of an image; all comments of a JPEG file, one per line."""
    comment: str | bytes = image.info["comment"]
    comments = [content for kind, content in segments(image) if kind == "COM"]
    return "\n".join(map(_decode_text, comments)) if comments and comments[-1] == comment else comment


def _decode_text(text: str | bytes) -> str:
    """Return text without null characters. Bytes are UTF-8, or Latin-1 if they are not valid UTF-8."""
    if not isinstance(text, bytes):
        return str(text).replace("\0", "")
    try:
        return text.decode().replace("\0", "")
    except UnicodeDecodeError:
        return text.decode("latin-1").replace("\0", "")


def put_into(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata into an image's `info`, under the keys of Pillow's own readers, except text under `NO_TEXT` keys."""
    if metadata.exif:
        image.info["exif"] = PREFIX + metadata.exif
    if metadata.xmp:
        image.info["xmp"] = metadata.xmp
    image.info.update((keyword, text) for keyword, text in metadata.text if keyword not in NO_TEXT)
    if metadata.exif and (dpi := exif_data.chosen_dpi(exif_data.dpi_of(metadata.exif))):
        image.info["dpi"] = dpi


def save_options(image: Image.Image, kind: str) -> dict[str, Any]:
    """Return the options of `Image.save` with which a format keeps as much of an image's metadata as it can."""
    exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
    dpi = exif_data.chosen_dpi(image.info.get("dpi"))
    options = {"dpi": dpi} if dpi and kind in FORMATS_WITH_DPI else {}
    if kind == "PNG":
        return options | {"pnginfo": _png_text(image), "exif": exif}
    if kind == "JPEG":
        return options | {
            "exif": _within_limit("EXIF data", exif, MAX_JPEG_SEGMENT),
            "xmp": _within_limit("XMP", xmp, MAX_JPEG_XMP),
            "comment": _within_limit("text", "\n".join(text for _, text in _strings(image)).encode(), MAX_JPEG_SEGMENT),
        }
    if kind == "AVIF":
        exif = _for_avif(exif)
    return options | ({"exif": exif, "xmp": xmp} if kind in {"WEBP", "AVIF"} else {})


def _strings(image: Image.Image) -> list[tuple[str, str]]:
    return [(str(name), text) for name, text in image.info.items() if isinstance(text, str)]


def _png_text(image: Image.Image) -> PngInfo:
    chunks = PngInfo()
    for keyword, text in _strings(image):
        chunks.add_itxt(keyword.encode("latin-1", "replace")[:MAX_KEYWORD] or COMMENT.encode(), text)
    if xmp := image.info.get("xmp", b""):
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return chunks


def _within_limit(name: str, data: bytes, largest: int) -> bytes:
    """Return metadata if it fits into a JPEG file; otherwise warn and return empty bytes."""
    if len(data) <= largest:
        return data
    warn(f"{name} of {len(data)} bytes is dropped: a JPEG file holds at most {largest}")
    return b""


def _for_avif(exif: bytes) -> bytes:
    """Return EXIF data without its orientation, 1, so that Pillow's AVIF writer does not change the data."""
    tiff = exif_data.tiff_of(exif)
    if exif_data.can_be_read(tiff):
        exif = PREFIX + exif_data.without_orientation(tiff)
    return exif if _is_readable(exif) else b""


def _is_readable(exif: bytes) -> bool:
    """Return whether Pillow's AVIF writer can read the orientation in EXIF data."""
    found = Image.Exif()
    try:
        found.load(exif)
        return operator.index(found.get(ORIENTATION, 1)) in range(1 << 16)
    except UNREADABLE_EXIF:
        return False


# Reconstruction by a codec alters pixels, but not the content of the image: https://cv.iptc.org/newscodes/digitalsourcetype/
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
        **{look: f' xmlns:sdtrt="urn:sdtrt:xmp" sdtrt:Look="{look}"' for look in get_args(Look)},
    }.items()
}
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# RDF"
PACKET = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def add_mark(metadata: Metadata, look: str | None = None) -> Metadata:
    """Return metadata with the IPTC mark of an image that an algorithm has altered, and with its look."""
    xmp, mark = metadata.xmp, MARKS[look]
    for earlier in MARKS.values():
        xmp = xmp.replace(earlier, b"")
    xmp = SOURCE.sub(b"", xmp)
    end = _end_of_rdf(xmp) if xmp else None
    xmp = PACKET % mark if end is None else xmp[:end] + mark + xmp[end:]
    return Metadata(metadata.exif, xmp, metadata.text)


def _end_of_rdf(xmp: bytes) -> int | None:
    """Return the end of the last RDF element of a packet; None if there is none, or the packet is not XML in UTF-8."""
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
