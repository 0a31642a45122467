"""Milliseconds of calls, in no more time than there is."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP, MIN_WARM_UP = 10, 3  # calls: the first as it is, the second to record a graph, the third to run it
MIN_RUNS = 3


def percentiles(call: Callable[[], Any], runs: int, seconds: float) -> dict[str, float]:
    """Return median, 95th and 99th percentile of `runs` calls in ms, of fewer if these would take longer."""
    begun = time.perf_counter()
    for n in range(WARM_UP):
        if n >= MIN_WARM_UP and time.perf_counter() - begun > seconds / 3:
            break
        call()
    begun = time.perf_counter()
    times: list[float] = []
    while len(times) < runs and (len(times) < MIN_RUNS or time.perf_counter() - begun < seconds):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return {f"p{p}": round(float(np.percentile(times, p)), 3) for p in (50, 95, 99)} | {"runs": len(times)}
