"""A bounded number of calls at once, off the event loop."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from sdtrt.serve.problems import CLIENT_GONE, ProblemError, busy

T = TypeVar("T")


class Workers:
    """Threads, and the requests that have a place: one in work for each thread, and `waiting` more."""

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self.places = threads + waiting
        self.taken = 0
        self._pool = ThreadPoolExecutor(threads, "sdtrt")
        self._timeout = timeout

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, from before a request's body is read; a `ProblemError` if there is none."""
        if self.taken == self.places:
            raise busy()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def submit(self, call: Callable[..., T], *arguments: Any, **named: Any) -> "asyncio.Future[T]":
        return asyncio.wrap_future(self._pool.submit(call, *arguments, **named))

    async def outcome(self, request: Request, future: "asyncio.Future[T]") -> T:
        """Return what comes of a call; a `ProblemError` if it takes too long, or nobody waits for it any longer.

        A call that is given up is not begun, or, where it has been, ends by itself.
        """
        gone = asyncio.create_task(until_gone(request))
        awaited: list[asyncio.Future[Any]] = [future, gone]
        try:
            await asyncio.wait(awaited, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if gone.done():
                raise ProblemError(CLIENT_GONE, "the client went away")
            raise ProblemError(503, f"this took longer than {self._timeout:g} seconds", {"Retry-After": "60"})
        finally:
            gone.cancel()
            future.cancel()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


async def until_gone(request: Request) -> None:
    """Return when the client of a request, whose body has been read, has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
