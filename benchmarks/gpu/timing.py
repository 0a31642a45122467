"""Milliseconds of calls within a time limit."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import milliseconds

WARM_UP, MIN_WARM_UP = 10, 3  # calls; the second records a CUDA graph, and the third runs it
MIN_RUNS = 3


def percentiles(call: Callable[[], Any], runs: int, seconds: float) -> dict[str, float]:
    """Return median, 95th and 99th percentile of up to `runs` calls within about `seconds`, in ms."""
    loop_started = time.perf_counter()
    for n in range(WARM_UP):
        if n >= MIN_WARM_UP and time.perf_counter() - loop_started > seconds / 3:
            break
        call()
    loop_started = time.perf_counter()
    times: list[float] = []
    while len(times) < runs and (len(times) < MIN_RUNS or time.perf_counter() - loop_started < seconds):
        times.append(milliseconds(call))
    return {f"p{p}": round(float(np.percentile(times, p)), 3) for p in (50, 95, 99)} | {"runs": len(times)}
