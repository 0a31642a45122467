"""Routes, and the way of a request: may it, what does it want, the answer; counted, and in headers that are safe."""

import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sdtrt.engine.codec import PictureCodec
from sdtrt.serve.handlers import Service, Settings
from sdtrt.serve.operations import OPERATIONS, Operation
from sdtrt.serve.problems import ProblemError, problem_of

SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
CLOSED = "default-src 'none'; frame-ancestors 'none'; sandbox"  # nothing that is sent may do anything


def application(codec: PictureCodec, settings: Settings) -> Starlette:
    """Return the ASGI application of a service, which closes the codec at its end."""
    service = Service(codec, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    async def refused(_: Request, error: Exception) -> Response:
        return safe(problem_of(error).response())

    routes = [Route(one.path, endpoint(service, one, settings.token), methods=[one.method]) for one in OPERATIONS]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: refused})


def endpoint(service: Service, operation: Operation, token: str | None) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers the requests of an operation."""
    handler = getattr(service, operation.name)

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        try:
            if token and not operation.open:
                authorise(request, token)
            response = await handler(request, operation.read(request.query_params.multi_items()))
        except Exception as error:
            response = problem_of(error).response()
        service.counts.count(operation.name, response, time.perf_counter() - started)
        return safe(response)

    return answer


def authorise(request: Request, token: str) -> None:
    """Raise a `ProblemError` unless a request brings the token."""
    scheme, _, brought = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(brought.encode("latin-1"), token.encode()):
        raise ProblemError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def safe(response: Response) -> Response:
    for name, value in SAFE.items():
        response.headers[name] = value
    response.headers.setdefault("Content-Security-Policy", CLOSED)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
