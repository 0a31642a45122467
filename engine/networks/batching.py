"""Work on many images: threads that work ahead of the caller, and batches of images of one kind."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

PREFETCH_DEPTH = 4  # results that may wait for the caller


def prefetch(work: Callable[[In], Out], items: Iterable[In], threads: int = 1) -> Iterator[Out]:
    """Yield `work(item)` for each item in order. Threads compute results while the caller uses earlier ones.

    An error of `work` gets a note with the number of the item.

    Arguments:
        work: is called in a thread.
        items: are taken in the caller's thread, a few ahead of the results.
        threads: how many items are worked on at once, at least 1.
    """

    def run(number: int, item: In) -> Out:
        try:
            return work(item)
        except Exception as error:
            error.add_note(f"number {number} of the batch, from 0")
            raise

    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, item in enumerate(items):
                waiting.append(pool.submit(run, number, item))
                if len(waiting) >= PREFETCH_DEPTH + threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def group_into_batches(items: Iterable[In], largest: int, kind: Callable[[In], Hashable]) -> Iterator[list[In]]:
    """Yield batches of neighbouring items. All items of a batch are of one kind, and there are at most `largest`."""
    batch: list[In] = []
    for item in items:
        if batch and (len(batch) == largest or kind(item) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
