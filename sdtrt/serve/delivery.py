"""What is sent: which kind, which part of a file, and whether the client has it already."""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import BinaryIO

from starlette.datastructures import Headers
from starlette.responses import Response

from sdtrt.serve.problems import ProblemError

SDT = "image/x-sdt"
CHECKSUM_NBYTES = 4  # the last of a file


def media_type(accept: str, offered: Sequence[str]) -> str:
    """Return the media type that an `Accept` header likes best, of several the first offered (RFC 9110, 12.5.1).

    A `ProblemError` if it likes none.
    """
    best = max(offered, key=lambda kind: _liking(accept, kind))
    if not _liking(accept, best)[0]:
        raise ProblemError(406, f"none of these is accepted: {', '.join(offered)}")
    return best


def _liking(accept: str, kind: str) -> tuple[float, bool]:
    """Return how much a header likes a media type, 0 to 1, as its most specific range says; and whether by its name."""
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        weights = [re.fullmatch(r"q=([01](?:\.\d{0,3})?)", word) for word in parameters]
        found[name] = min([float(match[1]) for match in weights if match] or [1.0])
    # Who asks for any image is a browser, that shows none of ours.
    ranges = (kind, "*/*") if kind == SDT else (kind, "image/*", "*/*")
    return next(((found[name], name == kind) for name in ranges if name in found), (0.0, False))


def entity_tag(stream: BinaryIO, *told: object) -> str:
    """Return a tag that tells one answer from another: of what a file's checksum says, and of what was asked for."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(max(length - CHECKSUM_NBYTES, 0))
    digest = hashlib.sha256(repr((stream.read(), length, *told)).encode()).hexdigest()
    stream.seek(0)
    return f'"{digest[:32]}"'


def is_known(headers: Headers, tag: str) -> bool:
    """Return whether a client says that it has what a tag stands for."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return tag in known or known == ["*"]


def file_response(stream: BinaryIO, headers: Headers, tag: str, max_nbytes: int) -> Response:
    """Return a file, or the range of it that is asked for; a `ProblemError` if that is beyond its end, or too large."""
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
