"""How many threads work: on tiles, and on matrix products.

Threads for tiles are for work that leaves Python's lock alone, such as coding alpha. Streams of latents are coded one
after the other: the entropy coder keeps the lock, and where the matrix products between its calls have threads of
their own, as is usual, two threads are slower than one.

Other threads of BLAS spin for a while after each product, on cores that networks need by then: on two cores a decode of
768x512 takes a quarter to two fifths longer for it. Products here are small, so more threads gain next to nothing.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

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


def products_by_one_thread() -> None:
    """Have BLAS use one thread from now on: for all of the process, so only where that is sdtrt's own."""
    threadpool_limits(1, user_api="blas")
