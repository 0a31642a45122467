"""Work on many pictures: one stage ahead of the next, pictures of one kind together."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

AHEAD = 4  # results that may wait to be fetched


def ahead(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield `work(item)` for each item in order, done in a thread of its own while the caller uses earlier results."""
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def batches(items: Iterable[In], largest: int, kind: Callable[[In], Hashable]) -> Iterator[list[In]]:
    """Yield runs of up to `largest` neighbouring items of one kind."""
    batch: list[In] = []
    for item in items:
        if batch and (len(batch) == largest or kind(item) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
