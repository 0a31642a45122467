"""Routes, and the way of a request: may it, what does it want, the answer; counted, and in headers that are safe."""

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
from sdtrt.serve.problems import ProblemError, problem_of

SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
CLOSED = "default-src 'none'; frame-ancestors 'none'; sandbox"  # nothing that is sent may do anything


def application(codec: EngineCodec, settings: Settings) -> Starlette:
    """Return the ASGI application of a service, which closes the codec at its end."""
    service = Service(codec, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    async def refused(_: Request, error: Exception) -> Response:
        return safe(problem_of(error).response())

    register_url_convertor("name", NameConvertor())
    routes = [Route(one.path, endpoint(service, one, settings), methods=[one.method]) for one in OPERATIONS]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: refused})
    app.router.redirect_slashes = False
    return app


class NameConvertor(PathConvertor):
    """The rest of a path, whatever signs are in it, line ends too."""

    regex = r"[\s\S]*"


def endpoint(service: Service, operation: Operation, settings: Settings) -> Callable[[Request], Awaitable[ASGIApp]]:
    """Return what answers the requests of an operation.

    One that costs more than a glance has a place from before its body is read until its answer is sent, so that neither
    those who send slowly nor those who read slowly can pile up work.
    """
    handler = getattr(service, operation.name)

    async def answer(request: Request) -> ASGIApp:
        started, held = time.perf_counter(), False
        try:
            check(request, operation, settings)
            wanted = operation.read(request.query_params.multi_items())
            if operation.works:
                service.workers.take_place()
                held = True
            response = await handler(request, wanted)
        except Exception as error:
            response = problem_of(error).response()
        except BaseException:
            if held:
                service.workers.leave_place()
            raise
        service.counts.count(operation.name, response, time.perf_counter() - started)
        return Sending(safe(response), settings.timeout, service.workers.leave_place if held else None)

    return answer


class Sending:
    """An answer on its way, which is given up after `timeout` seconds; `sent` is called at its end, however it ends."""

    def __init__(self, response: Response, timeout: float, sent: Callable[[], None] | None) -> None:
        self._response, self._timeout, self._sent = response, timeout, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._response(scope, receive, send)
        finally:
            if self._sent:
                self._sent()


def check(request: Request, operation: Operation, settings: Settings) -> None:
    """Raise a `ProblemError` unless a request may be made."""
    if settings.hosts is not None and _host_of(request) not in settings.hosts:
        raise ProblemError(421, "this service is for its own machine alone; others need --host and a token")
    if settings.token is not None and not operation.open:
        scheme, _, brought = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(brought.encode(), settings.token.encode()):
            raise ProblemError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _host_of(request: Request) -> str | None:
    """Return the host that a request is to, by its own header: for a malformed one Starlette tells the server's."""
    try:
        return urlsplit(f"//{request.headers['host']}").hostname
    except KeyError:  # an old client, which is no browser
        return request.url.hostname
    except ValueError:
        return None


def safe(response: Response) -> Response:
    for name, value in SAFE.items():
        response.headers[name] = value
    response.headers.setdefault("Content-Security-Policy", CLOSED)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
