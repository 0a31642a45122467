"""What is sent: which kind, which part of a file, and whether the client has it already."""

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
MAX_ACCEPT = 2000
CHECKSUM_NBYTES = 4  # the last of a file


def media_types(headers: Headers, offered: Sequence[str]) -> tuple[str, ...]:
    """Return the media types that a client accepts, the one first that it likes best (RFC 9110, 12.5.1).

    Of those that it likes as much, those that it names come first, then those that are offered first. A `ProblemError`
    if it accepts none.
    """
    said = ",".join(headers.getlist("accept"))[:MAX_ACCEPT] or "*/*"
    ranges = dict(map(_range_of_accept, said.lower().split(",")))
    liking = {kind: _liking(ranges, kind) for kind in offered}
    accepted = sorted((kind for kind in offered if liking[kind][0]), key=lambda kind: liking[kind], reverse=True)
    if not accepted:
        raise ProblemError(406, f"none of these is accepted: {', '.join(offered)}")
    return tuple(accepted)


def _range_of_accept(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip() for word in part.split(";"))
    weights = [word.removeprefix("q=") for word in parameters if word.startswith("q=")]
    try:
        return name, min(max(float(weights[0]), 0.0), 1.0) if weights else 1.0
    except ValueError:
        return name, 0.0


def _liking(ranges: Mapping[str, float], kind: str) -> tuple[float, bool]:
    """Return how much a media type is liked, 0 to 1, as the most specific range says; and whether by its name."""
    if kind == SDT and kind not in ranges and "text/html" in ranges:
        return 0.0, False  # a browser, which shows none
    found = [name for name in (kind, "image/*" if kind != SDT else "", "*/*") if name in ranges]
    return (ranges[found[0]], found[0] == kind) if found else (0.0, False)


def entity_tag(stream: BinaryIO, *told: object) -> str:
    """Return a tag that tells one answer from another: of what a file's checksum says, and of what was asked for."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(max(length - CHECKSUM_NBYTES, 0))
    digest = hashlib.sha256(repr((stream.read(), length, *told)).encode()).hexdigest()
    stream.seek(0)
    return f'"{digest[:32]}"'


def is_known(headers: Headers, tag: str) -> bool:
    """Return whether a client says that it has what a tag stands for."""
    return tag in _tags(headers, "if-none-match") or "*" in _tags(headers, "if-none-match")


def require_match(headers: Headers, tag: str) -> None:
    """Raise a `ProblemError` if a client wants something else than what a tag stands for."""
    tags = _tags(headers, "if-match")
    if tags and tag not in tags and "*" not in tags:
        raise ProblemError(412, "the file is another one by now")


def _tags(headers: Headers, name: str) -> list[str]:
    said = ",".join(headers.getlist(name))
    return [one.strip().removeprefix("W/") for one in said.split(",") if one.strip()]


def file_response(stream: BinaryIO, headers: Headers, tag: str, max_nbytes: int) -> Response:
    """Return a file, or the range of it that is asked for.

    A `ProblemError` if that is beyond its end, or too large; or if it is no `.sdt` file.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise ProblemError(422, "not an .sdt file")
    length = stream.seek(0, io.SEEK_END)
    found = _range(headers, tag, length)
    first, last = found or (0, length - 1)
    if last - first >= max_nbytes:
        raise ProblemError(413, f"{last - first + 1} bytes; the limit is {max_nbytes}, ask for a range")
    stream.seek(first)
    body = stream.read(last - first + 1)
    told = {"Accept-Ranges": "bytes"}
    if found:
        return Response(body, 206, told | {"Content-Range": f"bytes {first}-{last}/{length}"}, SDT)
    return Response(body, 200, told, SDT)


def _range(headers: Headers, tag: str, length: int) -> tuple[int, int] | None:
    """Return the first and last byte of the one range that headers ask for, None for the whole (RFC 9110, 14)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").replace(" ", ""))
    if not match or match[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    if not match[1]:
        first, last = max(length - int(match[2]), 0), length - 1
    else:
        first, last = int(match[1]), min(int(match[2] or length), length - 1)
        if match[2] and int(match[2]) < first:
            return None  # no range at all
    if first > last:
        raise ProblemError(416, f"the file has {length} bytes", {"Content-Range": f"bytes */{length}"})
    return first, last
