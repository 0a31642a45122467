"""Routing and request handling: authorisation, parameter parsing, dispatch, metrics, security headers."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sdtrt.engine.codec import EngineCodec
from sdtrt.serve.handlers import Service, Settings
from sdtrt.serve.operations import OPERATIONS, Operation
from sdtrt.serve.problems import ProblemError, to_problem

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"  # a response may load and run nothing


def application(codec: EngineCodec, settings: Settings) -> Starlette:
    """Return the ASGI application of a service.

    Arguments:
        codec: the codec that encodes and decodes. The application closes it at shutdown.
        settings: limits of the service, and the files that it serves.
    """
    service = Service(codec, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    async def problem_response(_: Request, error: Exception) -> Response:
        return with_security_headers(to_problem(error).response())

    register_url_convertor("name", NameConvertor())
    routes = [
        Route(operation.path, endpoint(service, operation, settings), methods=[operation.method])
        for operation in OPERATIONS
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: problem_response})
    app.router.redirect_slashes = False
    return app


class NameConvertor(PathConvertor):
    """The rest of a path. It may contain any character, even a line end."""

    regex = r"[\s\S]*"


def endpoint(service: Service, operation: Operation, settings: Settings) -> Callable[[Request], Awaitable[ASGIApp]]:
    """Return the ASGI endpoint of an operation.

    An operation that uses a worker holds a slot from before its body is read until its response is sent. Slow senders
    and slow readers therefore cannot pile up work.
    """
    handler = getattr(service, operation.name)

    async def answer(request: Request) -> ASGIApp:
        started, holds_slot = time.perf_counter(), False
        try:
            check_allowed(request, operation, settings)
            params = operation.parse_query(request.query_params.multi_items())
            if operation.uses_worker:
                service.workers.acquire_slot()
                holds_slot = True
            response = await handler(request, params)
        except Exception as error:
            response = to_problem(error).response()
        except BaseException:
            if holds_slot:
                service.workers.release_slot()
            raise
        service.request_metrics.count(operation.name, response, time.perf_counter() - started)
        on_sent = service.workers.release_slot if holds_slot else None
        return TimedResponse(with_security_headers(response), settings.timeout, on_sent)

    return answer


class TimedResponse:
    """A response that is given up if sending it takes longer than a timeout.

    Arguments:
        response: the response to send.
        timeout: seconds.
        on_sent: a function to call once sending has ended, also after an error; or None.
    """

    def __init__(self, response: Response, timeout: float, on_sent: Callable[[], None] | None) -> None:
        self._response, self._timeout, self._on_sent = response, timeout, on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._response(scope, receive, send)
        finally:
            if self._on_sent:
                self._on_sent()


def check_allowed(request: Request, operation: Operation, settings: Settings) -> None:
    """Raise a `ProblemError` if the host or the token of a request is wrong."""
    if settings.hosts is not None and _requested_host(request) not in settings.hosts:
        raise ProblemError(421, "this service answers its own machine only; set --host and a token to admit others")
    if settings.token is not None and not operation.open:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), settings.token.encode()):
            raise ProblemError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _requested_host(request: Request) -> str | None:
    """Return the host in the Host header, None if it is malformed; Starlette would return the server's own then."""
    try:
        return urlsplit(f"//{request.headers['host']}").hostname
    except KeyError:  # an old client; browsers always send the header
        return request.url.hostname
    except ValueError:
        return None


def with_security_headers(response: Response) -> Response:
    """Add the headers that forbid browsers to guess the media type, to run content and to cache it."""
    for name, value in SECURITY_HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Content-Security-Policy", CLOSED_POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
