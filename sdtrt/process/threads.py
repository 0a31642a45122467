"""How many threads work: on tiles, and on matrix products.

Threads for tiles are for work that leaves Python's lock alone: coding alpha, and streams in the compiled core.

The functions of the compiled core have no matrix products of NumPy. Where NumPy takes their place, other threads of
BLAS spin for a while after each product, on cores that networks need by then: on two cores a decode of
768x512 takes a quarter to two fifths longer for it. The products are small, so more threads gain next to nothing.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
CGROUPS = Path("/sys/fs/cgroup")  # where Linux mounts them
CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")
QUOTA_FILES = (("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu.max",))  # of version 1 and of version 2


def parallel_map(work: Callable[[In], Out], items: Iterable[In], threads: int | None = None) -> list[Out]:
    """Return `work(item)` for each item, in order.

    Arguments:
        work: is called in threads, or in the caller's own thread if there is one item or one thread.
        items: one call each.
        threads: at most so many; default one for each processor that this process may use.
    """
    todo = list(items)
    workers = min(len(todo), available_cpus() if threads is None else threads)
    if workers < 2:
        return [work(item) for item in todo]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, todo))


def available_cpus() -> int:
    """Return how many processors this process may use, at least 1.

    The affinity mask limits the number, as `taskset` and batch systems set it. So does the CPU quota of the control
    groups, as `docker run --cpus` sets it; a part of a processor counts as a processor.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(CGROUPS, CGROUPS_OF_PROCESS)
    return max(1, usable if quota >= usable else math.ceil(quota))


@cache
def cpu_quota(root: Path, groups: Path) -> float:
    """Return how many processors the control groups of this process allow, infinity without a limit.

    Arguments:
        root: the folder where the control groups are mounted.
        groups: the file that lists the control groups of the process, as `/proc/self/cgroup`.
    """
    try:
        lines = groups.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if not controllers:
            quotas += _quotas(root, group)
        elif "cpu" in controllers.split(","):
            quotas += [*_quotas(root / controllers, group), *_quotas(root / "cpu", group)]
    return min(quotas)


def _quotas(mount: Path, group: str) -> Iterator[float]:
    """Yield the limits of a control group and of those above it, in processors."""
    inner = Path(group.lstrip("/"))
    for folder in [mount / inner, *(mount / above for above in inner.parents)]:
        for names in QUOTA_FILES:
            try:
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if float(quota) > 0 and float(period) > 0:
                    yield float(quota) / float(period)
            except (OSError, ValueError):  # no such file, or "max" for no limit
                continue


def limit_blas_to_one_thread() -> None:
    """Have BLAS use one thread from now on: for all of the process, so only where that is sdtrt's own.

    Without NumPy imported, the function does nothing.
    """
    if "numpy" not in sys.modules:
        return
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
