"""Calls of one kind that arrive within a moment of each other, made as one."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Kind = TypeVar("Kind", bound=Hashable)


class Together(Generic[Kind, In, Out]):
    """Items of one kind, gathered for up to `wait` seconds or until there are `largest`, then handed to `submit`.

    `submit` gives an outcome for each item, the exception in place of a result if there is none.
    """

    def __init__(
        self,
        submit: "Callable[[Kind, Sequence[In]], asyncio.Future[list[Out | Exception]]]",
        wait: float,
        largest: int,
    ) -> None:
        self._submit, self._wait, self._largest = submit, wait, largest
        self._gathered: dict[Kind, list[tuple[In, asyncio.Future[Out]]]] = defaultdict(list)

    def call(self, kind: Kind, item: In) -> "asyncio.Future[Out]":
        """Return the future outcome for an item."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        gathered = self._gathered[kind]
        gathered.append((item, future))
        if len(gathered) == self._largest:
            self._start(kind)
        elif len(gathered) == 1:
            loop.call_later(self._wait, self._start_these, kind, gathered)
        return future

    def _start_these(self, kind: Kind, gathered: "list[tuple[In, asyncio.Future[Out]]]") -> None:
        if self._gathered.get(kind) is gathered:  # not yet started, as full
            self._start(kind)

    def _start(self, kind: Kind) -> None:
        wanted = [(item, future) for item, future in self._gathered.pop(kind) if not future.cancelled()]
        if not wanted:
            return
        futures = [future for _, future in wanted]
        started = self._submit(kind, [item for item, _ in wanted])
        started.add_done_callback(lambda done: share_out(done, futures))
        for future in futures:
            future.add_done_callback(lambda _: started.cancel() if all(one.cancelled() for one in futures) else None)


def share_out(done: "asyncio.Future[list[Out | Exception]]", futures: "Sequence[asyncio.Future[Out]]") -> None:
    """Give each future its outcome."""
    if done.cancelled():
        for future in futures:
            future.cancel()
        return
    failure = done.exception()
    outcomes = [failure] * len(futures) if failure else done.result()
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
