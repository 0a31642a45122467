"""Matrix products by one thread of BLAS.

Other threads of BLAS spin for a while after each product, on cores that networks need by then: on two cores a decode of
768x512 took a third longer for it. Products here are small, so more threads gain next to nothing.
"""

import threading
from contextlib import ContextDecorator
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


class OneThread(ContextDecorator):
    """While anybody is within it, BLAS has one thread in all of the process; then as many as before."""

    def __init__(self) -> None:
        self._lock, self._within, self._limit = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._limit = _limited()
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._limit and not self._within:
                _let_go()
                self._limit.restore_original_limits()
                _let_go()


def _limited() -> Any | None:
    """Limit BLAS to one thread; return what undoes that, None if there is nothing to undo."""
    before = _controller().info()
    limit = _controller().limit(limits=1, user_api="blas")
    return limit if _controller().info() != before else None


def _let_go() -> None:
    """Let this thread undo what another has set: from threadpoolctl 3.8 on only that one might."""
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


one_thread = OneThread()
