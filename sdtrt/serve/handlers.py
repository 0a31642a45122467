"""How operations are answered, and within which limits."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sdtrt import file_info
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.images.files import KINDS
from sdtrt.process.text import json_text
from sdtrt.serve import delivery, openapi
from sdtrt.serve.calls import Calls, Kinds, Options
from sdtrt.serve.delivery import SDT
from sdtrt.serve.metrics import Metrics
from sdtrt.serve.operations import JSON, NPY
from sdtrt.serve.page import page_response
from sdtrt.serve.problems import CLIENT_GONE, ProblemError, log
from sdtrt.serve.shelf import Shelf
from sdtrt.serve.together import Together
from sdtrt.serve.workers import Workers
from sdtrt.viewer import HEADERS, SITE, files_of, media_type

T = TypeVar("T")
WARMED = 64, 64  # pixels
CLOSING = {"Connection": "close"}  # where a body is not read to its end
VIEWED = "tiny"  # the latent space that the viewer decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of a service, and what it serves.

    `root` is a folder or an fsspec location whose `.sdt` files are served, None for none. At most `workers` requests
    are computed at once and `waiting` wait for that; others are told to come back. `timeout` and `batch_wait` are in
    seconds: a request is given up after the one, and waits up to the other for requests of its kind, where a device
    takes several at once. Whoever asks must bring the `token`, if there is one. `max_age` is for how many seconds
    answers may be cached. If there are `hosts`, requests must be to one of them: else a page of another host could have
    a browser ask for it. `site` is the folder of the viewer, which is offered if it is built.
    """

    root: str | None = None
    workers: int = 2
    waiting: int = 16
    max_nbytes: int = 64 << 20
    max_pixels: int = DEFAULT_LIMITS.max_pixels
    timeout: float = 60.0
    batch_wait: float = 0.005
    max_age: int = 3600
    token: str | None = None
    hosts: frozenset[str] | None = None
    site: Path = SITE

    def __post_init__(self) -> None:
        if self.token is not None and not self.token.isascii():
            raise ValueError("the token must be of ASCII letters, digits and signs")

    @property
    def limits(self) -> Limits:
        return Limits(max_pixels=self.max_pixels)


class Service:
    """A codec, the workers that use it, and the files that are served; a method for each operation."""

    def __init__(self, codec: EngineCodec, settings: Settings) -> None:
        self.workers = Workers(settings.workers, settings.waiting, settings.timeout)
        self.counts = Metrics(lambda: self.workers.taken)
        self._settings = settings
        self._calls = Calls(codec, settings.limits)
        self._shelf = Shelf(settings.root) if settings.root else None
        self._site = files_of(settings.site)
        self._views = bool(self._site) and codec.bundle.latent_space == VIEWED
        self._ready: asyncio.Future[None] | None = None
        gathering = settings.batch_wait, codec.pipeline.largest_batch
        self._encodings = Together(partial(self.workers.submit, self._calls.encode), *gathering)
        self._decodings = Together(partial(self.workers.submit, self._calls.decode), *gathering)

    def start(self) -> None:
        """Load the networks, while requests come in already."""
        self._ready = self.workers.submit(self._calls.codec.warm, *WARMED)
        self._ready.add_done_callback(log_failure)

    def close(self) -> None:
        self.workers.close()
        self._calls.codec.close()

    async def page(self, request: Request, wanted: Options) -> Response:
        return page_response(decodes=self._views)

    async def viewer(self, request: Request, wanted: Options) -> Response:
        path = self._site.get(request.path_params["name"])
        if path is None or not path.is_file():
            raise ProblemError(404, "there is nothing of that name, or no viewer is built here")
        about = path.stat()
        # Asked for each time, if only for whether it is still so: its parts must not come from several builds.
        headers = HEADERS | {"Cache-Control": "no-cache", "ETag": f'"{about.st_mtime_ns:x}-{about.st_size:x}"'}
        if delivery.is_known(request.headers, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(await asyncio.to_thread(path.read_bytes), headers=headers, media_type=media_type(path))

    async def openapi(self, request: Request, wanted: Options) -> Response:
        return json_response(openapi.document())

    async def metrics(self, request: Request, wanted: Options) -> Response:
        return self.counts.response()

    async def healthz(self, request: Request, wanted: Options) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request, wanted: Options) -> Response:
        if not (self._ready and self._ready.done()):
            raise ProblemError(503, "networks are being loaded", {"Retry-After": "1"})
        self._ready.result()
        return json_response({"status": "ready"})

    async def encode(self, request: Request, wanted: Options) -> Response:
        body = await self._body(request)
        data = await self.workers.outcome(request, self._encodings.call(told(wanted), body))
        return Response(data, media_type=SDT)

    async def decode(self, request: Request, wanted: Options) -> Response:
        kinds = delivery.media_types(request.headers, KINDS)
        body = await self._body(request)
        image = await self.workers.outcome(request, self._decodings.call((kinds, told(wanted)), body))
        return Response(image.data, media_type=image.kind, headers={"Vary": "Accept"})

    async def info(self, request: Request, wanted: Options) -> Response:
        return json_response(asdict(await self._of_body(request, file_info.info)))

    async def verify(self, request: Request, wanted: Options) -> Response:
        unchecked = await self._of_body(request, file_info.verify)
        return json_response({"whole": True} | ({"unchecked": unchecked} if unchecked else {}))

    async def latents(self, request: Request, wanted: Options) -> Response:
        latents = await self._of_body(request, self._calls.codec.decode_latents)
        stream = io.BytesIO()
        np.save(stream, latents)
        return Response(stream.getvalue(), media_type=NPY)

    async def file(self, request: Request, wanted: Options) -> Response:
        if self._shelf is None:
            raise ProblemError(404, "no files are served here: start with --root")
        kinds = delivery.media_types(request.headers, KINDS if wanted else (SDT, *KINDS))
        answer = self.workers.submit(self._of_shelf, self._shelf, request, kinds, wanted)
        return await self.workers.outcome(request, answer)

    def _of_shelf(self, shelf: Shelf, request: Request, kinds: Kinds, wanted: Options) -> Response:
        headers = request.headers
        with shelf.opened(name_of(request)) as (stream, version):
            tag = delivery.entity_tag(stream, kinds, told(wanted), version, self._calls.version)
            delivery.require_match(headers, tag)
            if delivery.is_known(headers, tag):
                response = Response(status_code=304)
            elif kinds[0] == SDT:
                ranged = headers if request.method == "GET" else Headers()
                response = delivery.file_response(stream, ranged, tag, self._settings.max_nbytes)
            else:
                image = self._calls.picture(stream, tuple(kind for kind in kinds if kind != SDT), wanted)
                response = Response(image.data, media_type=image.kind)
        access = "private" if self._settings.token else "public"
        response.headers["ETag"], response.headers["Vary"] = tag, "Accept"
        response.headers["Cache-Control"] = f"{access}, max-age={self._settings.max_age}"
        return response

    async def _of_body(self, request: Request, call: Callable[..., T]) -> T:
        """Return what a call makes of a request's body, within the limits."""
        body = await self._body(request)
        return await self.workers.outcome(request, self.workers.submit(call, body, limits=self._settings.limits))

    async def _body(self, request: Request) -> bytes:
        """Return a request's body; a `ProblemError` if it is missing, too large, or too long in coming."""
        largest = self._settings.max_nbytes
        too_large = ProblemError(413, f"the body has more than {largest} bytes", CLOSING)
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise ProblemError(415, "send the file itself as the body, not a form")
        if int(request.headers.get("content-length", 0)) > largest:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > largest:
                        raise too_large
        except TimeoutError as error:
            raise ProblemError(
                408, f"the body did not come within {self._settings.timeout:g} seconds", CLOSING
            ) from error
        except ClientDisconnect as error:
            raise ProblemError(CLIENT_GONE, "the client went away") from error
        if not body:
            raise ProblemError(422, "the body is empty")
        return bytes(body)


def name_of(request: Request) -> str:
    """Return the name of a file in a request's path; a byte that is not UTF-8 is a lone surrogate.

    Servers decode paths with replacement characters, so the name is taken from the path as it was sent.
    """
    decoded: str = request.path_params["name"]
    sent: bytes | None = request.scope.get("raw_path")
    if sent is None:
        return decoded
    path = unquote_to_bytes(sent.partition(b"?")[0]).decode("utf-8", "surrogateescape")
    return path.removeprefix(request.scope["path"].removesuffix(decoded))


def json_response(value: Any) -> Response:
    return Response(json_text(value), media_type=JSON)


def log_failure(done: "asyncio.Future[None]") -> None:
    if not done.cancelled() and (error := done.exception()):
        log.error("the networks cannot be run", exc_info=error)


def told(wanted: Options) -> tuple[tuple[str, Any], ...]:
    """Return parameters as one value, equal for equal ones."""
    return tuple(sorted(wanted.items()))
