"""Micro-batching: calls with the same key that arrive within a short time run as one batch."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Key = TypeVar("Key", bound=Hashable)


class MicroBatcher(Generic[Key, In, Out]):
    """Collects items by key, and runs each batch once it is full or its first item has waited long enough.

    Arguments:
        run_batch: starts a batch, given its key and items. Its result has a value or an exception for each item.
        wait: seconds that the first item of a batch waits for others.
        max_batch: the largest number of items in a batch, at least 1.
    """

    def __init__(
        self,
        run_batch: "Callable[[Key, Sequence[In]], asyncio.Future[list[Out | Exception]]]",
        wait: float,
        max_batch: int,
    ) -> None:
        self._run_batch, self._wait, self._max_batch = run_batch, wait, max_batch
        self._pending: dict[Key, list[tuple[In, asyncio.Future[Out]]]] = defaultdict(list)

    def submit(self, key: Key, item: In) -> "asyncio.Future[Out]":
        """Add an item to the batch of a key, and return the future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        batch = self._pending[key]
        batch.append((item, future))
        if len(batch) == self._max_batch:
            self._start(key)
        elif len(batch) == 1:
            loop.call_later(self._wait, self._start_if_pending, key, batch)
        return future

    def _start_if_pending(self, key: Key, batch: "list[tuple[In, asyncio.Future[Out]]]") -> None:
        if self._pending.get(key) is batch:  # a full batch has started already
            self._start(key)

    def _start(self, key: Key) -> None:
        batch = [(item, future) for item, future in self._pending.pop(key) if not future.cancelled()]
        if not batch:
            return
        futures = [future for _, future in batch]
        job = self._run_batch(key, [item for item, _ in batch])
        job.add_done_callback(lambda done: distribute_results(done, futures))
        for future in futures:
            future.add_done_callback(lambda _: job.cancel() if all(other.cancelled() for other in futures) else None)


def distribute_results(job: "asyncio.Future[list[Out | Exception]]", futures: "Sequence[asyncio.Future[Out]]") -> None:
    """Set the result or the exception of each item's future from a finished batch."""
    if job.cancelled():
        for future in futures:
            future.cancel()
        return
    error = job.exception()
    results = [error] * len(futures) if error else job.result()
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
