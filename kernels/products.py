"""Matrix products by one thread of BLAS.

Other threads of BLAS spin for a while after each product, on cores that networks need by then: on two cores a decode of
768x512 took a third longer for it. Products here are small, so more threads gain next to nothing.
"""

import threading
from contextlib import ContextDecorator, ExitStack
from functools import cache

from threadpoolctl import ThreadpoolController


class OneThread(ContextDecorator):
    """While anybody is within it, BLAS has one thread in all of the process; then as many as before."""

    def __init__(self) -> None:
        self._lock, self._within, self._limit = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._limit.close()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


one_thread = OneThread()
