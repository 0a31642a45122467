"""What a service can be asked for: the table of which routes, checks of parameters and OpenAPI document are made."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sdtrt.engine.coding.encode_options import METHODS
from sdtrt.engine.coding.roi import MAX_WEIGHT
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT, SEARCH_ITERATIONS
from sdtrt.engine.denoising.denoise import MAX_STEPS
from sdtrt.engine.image import region_of_text
from sdtrt.engine.networks.decode_options import DENOISE_WORDS, LOOKS
from sdtrt.engine.regions import MAX_SCALE
from sdtrt.images.files import KINDS
from sdtrt.images.roi import DEFAULT_WEIGHT
from sdtrt.serve.delivery import SDT
from sdtrt.serve.problems import ProblemError

JSON, NPY, HTML, TEXT = "application/json", "application/x-npy", "text/html", "text/plain"
MAX_WIDTH = 1 << 16
NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)  # as JSON has them, and a sign +


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that may follow the `?`: how its text is read (`ValueError` if it is wrong), and its JSON schema."""

    name: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method and a path, what is taken and what is given: media types, and the statuses of problems.

    What is `open` needs no token; what `works` is done by a worker.
    """

    name: str
    method: str
    path: str
    summary: str
    takes: str | None = None
    gives: tuple[str, ...]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = field(default=())
    open: bool = False

    @property
    def works(self) -> bool:
        return self.takes is not None or self.name == "file"

    def read(self, query: "list[tuple[str, str]]") -> dict[str, Any]:
        """Return the parameters in a query; a `ProblemError` if one is unknown, said twice, or wrong."""
        known = {parameter.name: parameter for parameter in self.parameters}
        found: dict[str, Any] = {}
        for name, text in query:
            if name not in known or name in found:
                why = "is said twice" if name in known else f"is none of: {', '.join(known) or 'none is known here'}"
                raise ProblemError(422, f"parameter {name[:40]!r} {why}")
            try:
                found[name] = known[name].read(text)
            except ValueError as error:
                raise ProblemError(422, f"parameter {name}: {error}") from error
        return found


def _within(text: str, kind: Callable[[str], float], low: float, high: float) -> float:
    try:
        value = kind(text) if NUMBER.fullmatch(text) else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise ValueError(f"{text[:40]!r}, expected {low:g} to {high:g}")
    return value


def _one_of(text: str, words: Mapping[str, Any]) -> Any:
    if text not in words:
        raise ValueError(f"{text[:40]!r}, expected {' or '.join(words)}")
    return words[text]


def number(name: str, low: float, high: float, text: str) -> Parameter:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Parameter(name, partial(_within, kind=float, low=low, high=high), schema, text)


def whole(name: str, low: int, high: int, text: str) -> Parameter:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(name, partial(_within, kind=int, low=low, high=high), schema, text)


def word(name: str, words: Mapping[str, Any], text: str) -> Parameter:
    return Parameter(name, partial(_one_of, words=words), {"type": "string", "enum": list(words)}, text)


def region(name: str, text: str) -> Parameter:
    schema = {"type": "string", "pattern": r"^\d+x\d+\+\d+\+\d+$", "examples": ["800x600+1200+400"]}
    return Parameter(name, region_of_text, schema, text)


def steps_of_text(text: str) -> int | str:
    """Return a number of denoising steps, `auto` or `off`."""
    return text if text in DENOISE_WORDS else int(_within(text, int, 0, MAX_STEPS))


DENOISE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_STEPS}, {"enum": list(DENOISE_WORDS)}]}
STRIP = word("strip", {"true": True, "false": False}, "leave out EXIF, XMP and text")
ENCODING = (
    number("quality", 1, 100, "1 (smallest) to 100 (best); 50 if nothing is asked for"),
    whole("max_bytes", 1, 1 << 40, "the largest size of the file"),
    number("bpp", 1e-6, 1e3, "the same in bits per pixel"),
    number("target_psnr", 1, 200, "the lowest PSNR in dB"),
    whole(
        "effort",
        min(SEARCH_ITERATIONS),
        max(SEARCH_ITERATIONS),
        f"how hard better images of a size are looked for; {DEFAULT_EFFORT}",
    ),
    word("method", {name: name for name in METHODS}, "latents, or palette, the method of 2022, a baseline; latents"),
    word("layers", {"1": 1, "2": 2}, "1: latents alone"),
    region("roi", "a region that matters more: width, height, left, top"),
    number("roi_weight", 1, MAX_WEIGHT, f"how many times as much; {DEFAULT_WEIGHT:g}"),
    STRIP,
)
VIEWING = (
    region("region", "a part of the image: width, height, left, top"),
    whole("preview", 1, MAX_SCALE, "the image at such a part of its size, quickly for 8, 16, …"),
    whole("width", 1, MAX_WIDTH, "the image made smaller to so many pixels across; never larger"),
    word("look", {look: look for look in LOOKS}, "faithful: least error; vivid: sharp and rich; auto: the model's"),
    Parameter(
        "denoise",
        steps_of_text,
        DENOISE_SCHEMA,
        "steps of the model's UNet; off or 0: none; auto: as its bundle recommends",
    ),
    STRIP,
)
WITH_BODY = (408, 413, 415, 422, 503)

OPERATIONS = (
    Operation(name="page", method="GET", path="/", summary="Try it in a browser", gives=(HTML,), open=True),
    Operation(
        name="viewer",
        method="GET",
        path="/viewer/{name:name}",
        summary="The viewer, which decodes in the browser, file by file, if it is built",
        gives=("*/*",),
        problems=(404,),
        open=True,
    ),
    Operation(
        name="encode",
        method="POST",
        path="/encode",
        summary="An image file to an .sdt file",
        takes="image/*",
        gives=(SDT,),
        problems=WITH_BODY,
        parameters=ENCODING,
    ),
    Operation(
        name="decode",
        method="POST",
        path="/decode",
        summary="An .sdt file to an image of the kind that is accepted",
        takes=SDT,
        gives=KINDS,
        problems=(406, *WITH_BODY),
        parameters=VIEWING,
    ),
    Operation(
        name="file",
        method="GET",
        path="/files/{name:name}",
        summary="An .sdt file under the root, or its image: what is accepted",
        gives=(SDT, *KINDS),
        problems=(404, 406, 412, 413, 416, 422, 502, 503),
        parameters=VIEWING,
    ),
    Operation(
        name="info",
        method="POST",
        path="/info",
        summary="What an .sdt file says of itself",
        takes=SDT,
        gives=(JSON,),
        problems=WITH_BODY,
    ),
    Operation(
        name="verify",
        method="POST",
        path="/verify",
        summary="Whether an .sdt file is whole: every bit is checked, but for the pixels",
        takes=SDT,
        gives=(JSON,),
        problems=WITH_BODY,
    ),
    Operation(
        name="latents",
        method="POST",
        path="/latents",
        summary="The latents in an .sdt file, float32 (C, h, w), as NumPy stores them",
        takes=SDT,
        gives=(NPY,),
        problems=WITH_BODY,
    ),
    Operation(name="healthz", method="GET", path="/healthz", summary="Whether it runs", gives=(JSON,), open=True),
    Operation(
        name="readyz",
        method="GET",
        path="/readyz",
        summary="Whether networks are loaded",
        gives=(JSON,),
        problems=(503,),
        open=True,
    ),
    Operation(name="metrics", method="GET", path="/metrics", summary="Figures for Prometheus", gives=(TEXT,)),
    Operation(name="openapi", method="GET", path="/openapi.json", summary="This", gives=(JSON,), open=True),
)
