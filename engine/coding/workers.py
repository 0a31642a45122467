"""Work on several tiles at once, in as many threads as there are processors for this process.

For work that leaves Python's lock alone, such as coding alpha. Streams of latents are coded one after the other: the
entropy coder keeps the lock, and where the matrix products between its calls have threads of their own, as is usual,
two threads are slower than one.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def at_once(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Return `work(item)` for each item, in order; a single one is done in the caller's own thread."""
    todo = list(items)
    workers = min(len(todo), processors())
    if workers < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, todo))


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
