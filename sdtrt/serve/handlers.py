"""The service: a handler method for each operation, and the limits."""

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
from sdtrt.images.web_formats import KINDS
from sdtrt.process.text import json_text
from sdtrt.serve import http_caching, openapi
from sdtrt.serve.batcher import MicroBatcher
from sdtrt.serve.codec_calls import CodecCalls, MediaTypes, Params, ParamsKey
from sdtrt.serve.http_caching import SDT
from sdtrt.serve.metrics import Metrics
from sdtrt.serve.operations import JSON, NPY
from sdtrt.serve.page import page_response
from sdtrt.serve.problems import CLIENT_GONE, ProblemError, log
from sdtrt.serve.storage import FileStore
from sdtrt.serve.workers import Workers
from sdtrt.viewer import SITE, SITE_HEADERS, list_site_files, media_type

T = TypeVar("T")
WARM_UP_SIZE = 64, 64  # width and height in pixels
CLOSE_CONNECTION = {"Connection": "close"}  # sent if a body has not been read to its end
VIEWER_LATENT_SPACE = "tiny"  # the only latent space that the viewer decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of a service, and the files that it serves.

    Arguments:
        root: a folder or an fsspec location whose `.sdt` files are served (default None, no files).
        workers: requests that are computed at the same time, at least 1 (default 2).
        waiting: further requests that may wait for a worker (default 16). The service refuses others with 503.
        max_nbytes: the largest body of a request or a file response, in bytes (default 64 MiB).
        max_pixels: the largest image, in pixels (default: `DEFAULT_LIMITS`).
        timeout: seconds for each of: receiving the body, the computation, sending the response (default 60).
        batch_wait: seconds that a request waits for others of its kind, if the pipeline supports batches (default
            0.005).
        max_age: seconds for which clients may cache a response (default 3600).
        token: the bearer token that requests need, ASCII (default None, no token).
        hosts: the values that are allowed in the Host header (default None, all). The check stops a web page of another
            host from sending requests through a browser.
        site: the folder of the built viewer (default: `web/dist` of the sources). A missing viewer is not offered.
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
    """A codec, its workers and the files that are served. It has a handler method for each operation, by its name.

    Arguments:
        codec: the codec. `close` closes it.
        settings: limits of the service, and the files that it serves.
    """

    def __init__(self, codec: EngineCodec, settings: Settings) -> None:
        self.workers = Workers(settings.workers, settings.waiting, settings.timeout)
        self.request_metrics = Metrics(lambda: self.workers.num_taken)
        self._settings = settings
        self._calls = CodecCalls(codec, settings.limits)
        self._store = FileStore(settings.root) if settings.root else None
        self._site = list_site_files(settings.site)
        self._page_decodes = bool(self._site) and codec.bundle.latent_space == VIEWER_LATENT_SPACE
        self._ready: asyncio.Future[None] | None = None
        batching = settings.batch_wait, codec.pipeline.largest_batch
        self._encode_batcher = MicroBatcher(partial(self.workers.submit, self._calls.encode), *batching)
        self._decode_batcher = MicroBatcher(partial(self.workers.submit, self._calls.decode), *batching)

    def start(self) -> None:
        """Load the networks in a worker. Requests are accepted meanwhile."""
        self._ready = self.workers.submit(self._calls.codec.warm, *WARM_UP_SIZE)
        self._ready.add_done_callback(log_failure)

    def close(self) -> None:
        self.workers.close()
        self._calls.codec.close()

    async def page(self, request: Request, params: Params) -> Response:
        return page_response(decodes=self._page_decodes)

    async def viewer(self, request: Request, params: Params) -> Response:
        path = self._site.get(request.path_params["name"])
        if path is None or not path.is_file():
            raise ProblemError(404, "the viewer has no such file, or is not built here")
        status = path.stat()
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        # Browsers must revalidate each file, or they could mix files of several builds.
        headers = SITE_HEADERS | {"Cache-Control": "no-cache", "ETag": tag}
        if http_caching.client_has(request.headers, tag):
            return Response(status_code=304, headers=headers)
        return Response(await asyncio.to_thread(path.read_bytes), headers=headers, media_type=media_type(path))

    async def openapi(self, request: Request, params: Params) -> Response:
        return json_response(openapi.document())

    async def metrics(self, request: Request, params: Params) -> Response:
        return self.request_metrics.response()

    async def healthz(self, request: Request, params: Params) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request, params: Params) -> Response:
        if not (self._ready and self._ready.done()):
            raise ProblemError(503, "the networks are being loaded", {"Retry-After": "1"})
        self._ready.result()
        return json_response({"status": "ready"})

    async def encode(self, request: Request, params: Params) -> Response:
        body = await self._body(request)
        data = await self.workers.wait_result(request, self._encode_batcher.submit(params_key(params), body))
        return Response(data, media_type=SDT)

    async def decode(self, request: Request, params: Params) -> Response:
        media_types = http_caching.media_types(request.headers, KINDS)
        body = await self._body(request)
        future = self._decode_batcher.submit((media_types, params_key(params)), body)
        image = await self.workers.wait_result(request, future)
        return Response(image.data, media_type=image.media_type, headers={"Vary": "Accept"})

    async def info(self, request: Request, params: Params) -> Response:
        return json_response(asdict(await self._call_with_body(request, file_info.info)))

    async def verify(self, request: Request, params: Params) -> Response:
        unchecked = await self._call_with_body(request, file_info.verify)
        return json_response({"whole": True} | ({"unchecked": unchecked} if unchecked else {}))

    async def latents(self, request: Request, params: Params) -> Response:
        latents = await self._call_with_body(request, self._calls.codec.decode_latents)
        stream = io.BytesIO()
        np.save(stream, latents)
        return Response(stream.getvalue(), media_type=NPY)

    async def file(self, request: Request, params: Params) -> Response:
        if self._store is None:
            raise ProblemError(404, "this service has no files; start it with --root")
        media_types = http_caching.media_types(request.headers, KINDS if params else (SDT, *KINDS))
        future = self.workers.submit(self._stored_file, self._store, request, media_types, params)
        return await self.workers.wait_result(request, future)

    def _stored_file(self, store: FileStore, request: Request, media_types: MediaTypes, params: Params) -> Response:
        """Return a file of the store as it is, or its image."""
        headers = request.headers
        with store.open(requested_name(request)) as (stream, version):
            tag = http_caching.entity_tag(stream, media_types, params_key(params), version, self._calls.version)
            http_caching.check_if_match(headers, tag)
            if http_caching.client_has(headers, tag):
                response = Response(status_code=304)
            elif media_types[0] == SDT:
                range_headers = headers if request.method == "GET" else Headers()
                response = http_caching.file_response(stream, range_headers, tag, self._settings.max_nbytes)
            else:
                image_types = tuple(media_type for media_type in media_types if media_type != SDT)
                image = self._calls.decode_one(stream, image_types, params)
                response = Response(image.data, media_type=image.media_type)
        access = "private" if self._settings.token else "public"
        response.headers["ETag"], response.headers["Vary"] = tag, "Accept"
        response.headers["Cache-Control"] = f"{access}, max-age={self._settings.max_age}"
        return response

    async def _call_with_body(self, request: Request, call: Callable[..., T]) -> T:
        """Call a function with the body and the limits in a worker, and return its result."""
        body = await self._body(request)
        return await self.workers.wait_result(request, self.workers.submit(call, body, limits=self._settings.limits))

    async def _body(self, request: Request) -> bytes:
        """Return the body of a request; `ProblemError` if it is empty, too large or too slow."""
        max_nbytes = self._settings.max_nbytes
        too_large = ProblemError(413, f"the body has more than {max_nbytes} bytes", CLOSE_CONNECTION)
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise ProblemError(415, "the body is a form; send the file itself as the body")
        if int(request.headers.get("content-length", 0)) > max_nbytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > max_nbytes:
                        raise too_large
        except TimeoutError as error:
            raise ProblemError(
                408, f"the body did not arrive within {self._settings.timeout:g} seconds", CLOSE_CONNECTION
            ) from error
        except ClientDisconnect as error:
            raise ProblemError(CLIENT_GONE, "the client disconnected") from error
        if not body:
            raise ProblemError(422, "the body is empty")
        return bytes(body)


def requested_name(request: Request) -> str:
    """Return the file name in the path of a request; bytes that are not UTF-8 become lone surrogates.

    ASGI servers decode such bytes to replacement characters, so the name is taken from the raw path.
    """
    decoded: str = request.path_params["name"]
    raw_path: bytes | None = request.scope.get("raw_path")
    if raw_path is None:
        return decoded
    path = unquote_to_bytes(raw_path.partition(b"?")[0]).decode("utf-8", "surrogateescape")
    return path.removeprefix(request.scope["path"].removesuffix(decoded))


def json_response(value: Any) -> Response:
    return Response(json_text(value), media_type=JSON)


def log_failure(future: "asyncio.Future[None]") -> None:
    if not future.cancelled() and (error := future.exception()):
        log.error("the networks cannot be run", exc_info=error)


def params_key(params: Params) -> ParamsKey:
    """Return parameters as a hashable value that does not depend on their order."""
    return tuple(sorted(params.items()))
