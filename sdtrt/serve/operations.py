"""The table of operations: routes, parameter checks and the OpenAPI document are made from it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sdtrt.engine.coding.encode_options import (
    DEFAULT_EFFORT,
    DEFAULT_ROI_WEIGHT,
    MAX_ROI_WEIGHT,
    METHODS,
    SEARCH_ITERATIONS,
)
from sdtrt.engine.denoising.steps import MAX_STEPS
from sdtrt.engine.networks.choices import LOOKS
from sdtrt.engine.networks.decode_request import DENOISE_WORDS
from sdtrt.engine.part_options import MAX_SCALE, region_of_text
from sdtrt.images.web_formats import KINDS
from sdtrt.serve.http_caching import SDT
from sdtrt.serve.problems import ProblemError

JSON, NPY, HTML, TEXT = "application/json", "application/x-npy", "text/html", "text/plain"
MAX_WIDTH = 1 << 16  # pixels
NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)  # a JSON number, or one with a sign +


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    Arguments:
        name: its name.
        parse: a function from its text to its value; `ValueError` if the text is invalid.
        schema: its JSON schema.
        description: its description in the OpenAPI document.
    """

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of the service.

    Arguments:
        name: its name, which is also that of its handler method.
        method: the HTTP method.
        path: the route.
        summary: its summary in the OpenAPI document.
        takes: the media type of the request body (default None, no body).
        gives: the media types of the response.
        problems: the statuses of its errors (default none).
        parameters: its query parameters (default none).
        open: whether it needs no token (default False).
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
    def uses_worker(self) -> bool:
        return self.takes is not None or self.name == "file"

    def parse_query(self, query: "list[tuple[str, str]]") -> dict[str, Any]:
        """Return the parameters in a query; `ProblemError` 422 if one is unknown, repeated or invalid."""
        parameters = {parameter.name: parameter for parameter in self.parameters}
        params: dict[str, Any] = {}
        for name, text in query:
            if name not in parameters:
                expected = f"expected one of: {', '.join(parameters)}" if parameters else "this path has no parameters"
                raise ProblemError(422, f"unknown parameter {name[:40]!r}; {expected}")
            if name in params:
                raise ProblemError(422, f"parameter {name!r} is given twice")
            try:
                params[name] = parameters[name].parse(text)
            except ValueError as error:
                raise ProblemError(422, f"parameter {name}: {error}") from error
        return params


def _parse_number(text: str, number_type: Callable[[str], float], low: float, high: float) -> float:
    try:
        value = number_type(text) if NUMBER.fullmatch(text) else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise ValueError(f"{text[:40]!r}, expected {low:g} to {high:g}")
    return value


def _parse_choice(text: str, choices: Mapping[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(f"{text[:40]!r}, expected {' or '.join(choices)}")
    return choices[text]


def number_parameter(name: str, low: float, high: float, description: str) -> Parameter:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Parameter(name, partial(_parse_number, number_type=float, low=low, high=high), schema, description)


def integer_parameter(name: str, low: int, high: int, description: str) -> Parameter:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(name, partial(_parse_number, number_type=int, low=low, high=high), schema, description)


def choice_parameter(name: str, choices: Mapping[str, Any], description: str) -> Parameter:
    schema = {"type": "string", "enum": list(choices)}
    return Parameter(name, partial(_parse_choice, choices=choices), schema, description)


def region_parameter(name: str, description: str) -> Parameter:
    schema = {"type": "string", "pattern": r"^\d+x\d+\+\d+\+\d+$", "examples": ["800x600+1200+400"]}
    return Parameter(name, region_of_text, schema, description)


def parse_denoise(text: str) -> int | str:
    """Return a number of denoising steps, "auto" or "off"."""
    return text if text in DENOISE_WORDS else int(_parse_number(text, int, 0, MAX_STEPS))


DENOISE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_STEPS}, {"enum": list(DENOISE_WORDS)}]}
STRIP = choice_parameter("strip", {"true": True, "false": False}, "leave out EXIF, XMP and text")
ENCODE_PARAMETERS = (
    number_parameter("quality", 1, 100, "1 (smallest) to 100 (best); default 50"),
    integer_parameter("max_bytes", 1, 1 << 40, "largest size of the file in bytes"),
    number_parameter("bpp", 1e-6, 1e3, "largest size of the file in bits per pixel"),
    number_parameter("target_psnr", 1, 200, "lowest PSNR of the decoded image in dB"),
    integer_parameter(
        "effort",
        min(SEARCH_ITERATIONS),
        max(SEARCH_ITERATIONS),
        f"effort of the encoder, from fast to thorough; default {DEFAULT_EFFORT}",
    ),
    choice_parameter(
        "method", {name: name for name in METHODS}, "latents (default), or palette, the baseline method of 2022"
    ),
    choice_parameter("layers", {"1": 1, "2": 2}, "1: latents only; 2 (default): also an overlay and a residual"),
    region_parameter("roi", "region of interest: width, height, left, top in pixels"),
    number_parameter(
        "roi_weight", 1, MAX_ROI_WEIGHT, f"weight of errors in the region; default {DEFAULT_ROI_WEIGHT:g}"
    ),
    STRIP,
)
DECODE_PARAMETERS = (
    region_parameter("region", "region of the image to decode: width, height, left, top in pixels"),
    integer_parameter("preview", 1, MAX_SCALE, "downscale by this factor; fast for multiples of 8"),
    integer_parameter("width", 1, MAX_WIDTH, "downscale to at most this width in pixels"),
    choice_parameter(
        "look",
        {look: look for look in LOOKS},
        "faithful: least error; fast: least time; auto: by the model",
    ),
    Parameter(
        "denoise",
        parse_denoise,
        DENOISE_SCHEMA,
        "steps of the model's UNet; off or 0: none; auto: as its bundle recommends",
    ),
    STRIP,
)
BODY_PROBLEMS = (408, 413, 415, 422, 503)

OPERATIONS = (
    Operation(name="page", method="GET", path="/", summary="Front page: try it in a browser", gives=(HTML,), open=True),
    Operation(
        name="viewer",
        method="GET",
        path="/viewer/{name:name}",
        summary="Files of the viewer, which decodes in the browser; 404 if it is not built",
        gives=("*/*",),
        problems=(404,),
        open=True,
    ),
    Operation(
        name="encode",
        method="POST",
        path="/encode",
        summary="Encode an image file as an .sdt file",
        takes="image/*",
        gives=(SDT,),
        problems=BODY_PROBLEMS,
        parameters=ENCODE_PARAMETERS,
    ),
    Operation(
        name="decode",
        method="POST",
        path="/decode",
        summary="Decode an .sdt file to an image of an accepted media type",
        takes=SDT,
        gives=KINDS,
        problems=(406, *BODY_PROBLEMS),
        parameters=DECODE_PARAMETERS,
    ),
    Operation(
        name="file",
        method="GET",
        path="/files/{name:name}",
        summary="An .sdt file below the root, or its image, by the accepted media types",
        gives=(SDT, *KINDS),
        problems=(404, 406, 412, 413, 416, 422, 502, 503),
        parameters=DECODE_PARAMETERS,
    ),
    Operation(
        name="info",
        method="POST",
        path="/info",
        summary="Properties of an .sdt file",
        takes=SDT,
        gives=(JSON,),
        problems=BODY_PROBLEMS,
    ),
    Operation(
        name="verify",
        method="POST",
        path="/verify",
        summary="Check every bit of an .sdt file without decoding its pixels",
        takes=SDT,
        gives=(JSON,),
        problems=BODY_PROBLEMS,
    ),
    Operation(
        name="latents",
        method="POST",
        path="/latents",
        summary="The latents of an .sdt file as a .npy file, float32 (C, h, w)",
        takes=SDT,
        gives=(NPY,),
        problems=BODY_PROBLEMS,
    ),
    Operation(name="healthz", method="GET", path="/healthz", summary="Liveness", gives=(JSON,), open=True),
    Operation(
        name="readyz",
        method="GET",
        path="/readyz",
        summary="Readiness: whether the networks are loaded",
        gives=(JSON,),
        problems=(503,),
        open=True,
    ),
    Operation(name="metrics", method="GET", path="/metrics", summary="Metrics for Prometheus", gives=(TEXT,)),
    Operation(name="openapi", method="GET", path="/openapi.json", summary="This document", gives=(JSON,), open=True),
)
