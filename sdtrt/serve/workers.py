"""A bounded thread pool beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from sdtrt.serve.problems import CLIENT_GONE, ProblemError, busy

T = TypeVar("T")


class Workers:
    """Threads, and a bounded number of slots for requests.

    Arguments:
        threads: the number of threads, at least 1. Each has one slot.
        waiting: the number of further slots, for requests that wait for a thread.
        timeout: seconds after which a call is given up.
    """

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self.num_slots = threads + waiting
        self.num_taken = 0
        self._pool = ThreadPoolExecutor(threads, "sdtrt")
        self._timeout = timeout

    def acquire_slot(self) -> None:
        """Take a slot for a request, from before its body is read until its response is sent.

        Raises:
            ProblemError: 503, all slots are taken.
        """
        if self.num_taken == self.num_slots:
            raise busy()
        self.num_taken += 1

    def release_slot(self) -> None:
        self.num_taken -= 1

    def submit(self, call: Callable[..., T], *arguments: Any, **keywords: Any) -> "asyncio.Future[T]":
        """Run a call in a thread. Cancelling the returned future frees the arguments of a call that has not begun."""
        job = Job(partial(call, *arguments, **keywords))
        future = asyncio.wrap_future(self._pool.submit(job))
        future.add_done_callback(lambda done: job.discard() if done.cancelled() else None)
        return future

    async def wait_result(self, request: Request, future: "asyncio.Future[T]") -> T:
        """Wait for the result of a call.

        A call that is given up does not begin. A call that has begun runs to its end, and its result is dropped.

        Arguments:
            request: the request, whose body has been read.
            future: the future of the call.

        Raises:
            ProblemError: 503, the call takes longer than the timeout; 499, the client has disconnected.
        """
        disconnect = asyncio.create_task(wait_disconnect(request))
        awaited: list[asyncio.Future[Any]] = [future, disconnect]
        try:
            await asyncio.wait(awaited, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if disconnect.done():
                raise ProblemError(CLIENT_GONE, "the client disconnected")
            raise ProblemError(503, f"the request took longer than {self._timeout:g} seconds", {"Retry-After": "60"})
        finally:
            disconnect.cancel()
            future.cancel()

    def close(self) -> None:
        """Cancel the waiting calls. Running calls end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Job(Generic[T]):
    """A call that runs at most once.

    Executors keep a cancelled job until its turn comes. `discard` drops the call, and with it its arguments, before.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._calls = [call]

    def __call__(self) -> T:
        return self._calls.pop()()

    def discard(self) -> None:
        self._calls.clear()


async def wait_disconnect(request: Request) -> None:
    """Return once the client of a request, whose body has been read, has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
