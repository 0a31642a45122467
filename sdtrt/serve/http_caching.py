"""HTTP content negotiation, byte ranges and entity tags (RFC 9110)."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from starlette.datastructures import Headers
from starlette.responses import Response

from sdtrt.engine.format.container import MAGIC
from sdtrt.serve.problems import ProblemError

SDT = "image/x-sdt"
MAX_ACCEPT = 2000  # characters of an Accept header that are parsed
CHECKSUM_NBYTES = 4  # at the end of an .sdt file


def media_types(headers: Headers, offered: Sequence[str]) -> tuple[str, ...]:
    """Return the accepted media types, the preferred one first (RFC 9110, 12.5.1).

    Among media types of equal weight, a type that the header names comes before a type that only a range like `image/*`
    matches. Then the order of `offered` decides.

    Arguments:
        headers: the headers of the request.
        offered: the media types of the operation.

    Raises:
        ProblemError: 406, no offered media type is accepted.
    """
    accept = ",".join(headers.getlist("accept"))[:MAX_ACCEPT] or "*/*"
    weights = dict(map(_parse_media_range, accept.lower().split(",")))
    preferences = {media_type: _preference(weights, media_type) for media_type in offered}
    accepted = [media_type for media_type in offered if preferences[media_type][0]]
    if not accepted:
        raise ProblemError(406, f"the Accept header allows none of: {', '.join(offered)}")
    return tuple(sorted(accepted, key=lambda media_type: preferences[media_type], reverse=True))


def _parse_media_range(part: str) -> tuple[str, float]:
    """Return a media range and its weight, 0 to 1; a malformed weight counts as 0."""
    name, *parameters = (word.strip() for word in part.split(";"))
    weights = [word.removeprefix("q=") for word in parameters if word.startswith("q=")]
    try:
        return name, min(max(float(weights[0]), 0.0), 1.0) if weights else 1.0
    except ValueError:
        return name, 0.0


def _preference(weights: Mapping[str, float], media_type: str) -> tuple[float, bool]:
    """Return the weight of a media type by its most specific range, and whether the header names the type itself."""
    if media_type == SDT and media_type not in weights and "text/html" in weights:
        return 0.0, False  # a browser, which cannot show .sdt files
    matches = [name for name in (media_type, "image/*" if media_type != SDT else "", "*/*") if name in weights]
    return (weights[matches[0]], matches[0] == media_type) if matches else (0.0, False)


def entity_tag(stream: BinaryIO, *variant: object) -> str:
    """Return the entity tag of a response.

    Arguments:
        stream: the `.sdt` file, of which the length and the checksum are read.
        variant: all else that the response depends on, such as parameters and versions.
    """
    length = stream.seek(0, io.SEEK_END)
    stream.seek(max(length - CHECKSUM_NBYTES, 0))
    digest = hashlib.sha256(repr((stream.read(), length, *variant)).encode()).hexdigest()
    stream.seek(0)
    return f'"{digest[:32]}"'


def client_has(headers: Headers, tag: str) -> bool:
    """Return whether If-None-Match contains an entity tag, so that the response is 304."""
    tags = _parse_tags(headers, "if-none-match")
    return tag in tags or "*" in tags


def check_if_match(headers: Headers, tag: str) -> None:
    """Raise `ProblemError` 412 if there is an If-Match header that lacks an entity tag."""
    tags = _parse_tags(headers, "if-match")
    if tags and tag not in tags and "*" not in tags:
        raise ProblemError(412, "the file has changed: its entity tag is not in If-Match")


def _parse_tags(headers: Headers, name: str) -> list[str]:
    value = ",".join(headers.getlist(name))
    return [tag.strip().removeprefix("W/") for tag in value.split(",") if tag.strip()]


def file_response(stream: BinaryIO, headers: Headers, tag: str, max_nbytes: int) -> Response:
    """Return an `.sdt` file, or the byte range of it that a request asks for.

    Arguments:
        stream: the file.
        headers: the headers of the request.
        tag: the entity tag of the file.
        max_nbytes: the largest body, in bytes.

    Raises:
        ProblemError: 422, the file is not an `.sdt` file; 416, the range starts beyond its end; 413, the body would be
            too large.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise ProblemError(422, "not an .sdt file")
    length = stream.seek(0, io.SEEK_END)
    byte_range = _parse_range(headers, tag, length)
    first, last = byte_range or (0, length - 1)
    if last - first >= max_nbytes:
        raise ProblemError(413, f"{last - first + 1} bytes exceed the limit of {max_nbytes}; ask for a range")
    stream.seek(first)
    body = stream.read(last - first + 1)
    response_headers = {"Accept-Ranges": "bytes"}
    if byte_range:
        content_range = {"Content-Range": f"bytes {first}-{last}/{length}"}
        return Response(body, 206, response_headers | content_range, SDT)
    return Response(body, 200, response_headers, SDT)


def _parse_range(headers: Headers, tag: str, length: int) -> tuple[int, int] | None:
    """Return the first and last byte of a Range header with one range; None for the whole file (RFC 9110, 14)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").replace(" ", ""))
    if not match or match[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    if not match[1]:
        first, last = max(length - int(match[2]), 0), length - 1
    else:
        first, last = int(match[1]), min(int(match[2] or length), length - 1)
        if match[2] and int(match[2]) < first:
            return None  # invalid: servers ignore such a range
    if first > last:
        raise ProblemError(416, f"the file has {length} bytes", {"Content-Range": f"bytes */{length}"})
    return first, last
