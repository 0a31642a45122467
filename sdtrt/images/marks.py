"""The mark, in XMP, that an image was reconstructed by an algorithm, and in which look."""

import re
from xml.parsers import expat

from sdtrt.engine.format.metadata import Metadata

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
        "faithful": ' xmlns:sdtrt="urn:sdtrt:xmp" sdtrt:Look="faithful"',
        "vivid": ' xmlns:sdtrt="urn:sdtrt:xmp" sdtrt:Look="vivid"',
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
    end = _end_of_rdf(xmp)
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
