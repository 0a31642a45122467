"""A bounded number of calls at once, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from sdtrt.serve.problems import CLIENT_GONE, ProblemError, busy

T = TypeVar("T")


class Workers:
    """Threads, and places for requests: one in work for each thread, and `waiting` more."""

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self.places = threads + waiting
        self.taken = 0
        self._pool = ThreadPoolExecutor(threads, "sdtrt")
        self._timeout = timeout

    def take_place(self) -> None:
        """Take a place, which is to be held from before the body comes until the answer has gone; or `busy`."""
        if self.taken == self.places:
            raise busy()
        self.taken += 1

    def leave_place(self) -> None:
        self.taken -= 1

    def submit(self, call: Callable[..., T], *arguments: Any, **named: Any) -> "asyncio.Future[T]":
        """Return the future outcome of a call; if that is cancelled before it began, the call is forgotten at once."""
        job = Job(partial(call, *arguments, **named))
        future = asyncio.wrap_future(self._pool.submit(job))
        future.add_done_callback(lambda done: job.forget() if done.cancelled() else None)
        return future

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
        """Forget what waits; what is in work ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Job(Generic[T]):
    """A call, to be made once. Executors keep what was cancelled until its turn comes: so it may be forgotten."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._calls = [call]

    def __call__(self) -> T:
        return self._calls.pop()()

    def forget(self) -> None:
        self._calls.clear()


async def until_gone(request: Request) -> None:
    """Return when the client of a request, whose body has been read, has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
