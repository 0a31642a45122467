"""Work on several tiles at once, in as many threads as there are processors for this process.

The entropy coder keeps Python's lock, and the matrix products between its calls leave it alone: two threads code
streams of latents faster than one, and more would wait for each other (benchmarks/access.py).
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


IN_TURN = 2  # threads, of those that need Python's lock half of the time


def at_once(work: Callable[[In], Out], items: Iterable[In], most: int | None = None) -> list[Out]:
    """Return `work(item)` for each item, in order, by `most` threads; a single one is done in the caller's own."""
    todo = list(items)
    workers = min(len(todo), processors(), most or len(todo))
    if workers < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, todo))


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
