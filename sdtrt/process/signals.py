"""Signals that end the program. Temporary files are removed first; then the process dies by the signal.

A shell ends a loop at Ctrl-C only if the command in the loop has died by the signal.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
QUICK = 1.0  # seconds after a signal in which further ones are ignored, so that temporary files can be removed
CONTROL_C_EXIT = 0xC000013A  # exit code of Windows programs that Ctrl-C has ended


class SignalExit(SystemExit):
    """A signal has asked the program to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class EndingHandler:
    """Raises `KeyboardInterrupt` or `SignalExit` at the first signal; a later one ends the process at once.

    Arguments:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._first = clock, -1.0

    def __call__(self, number: int, _: object) -> None:
        if self._first < 0:
            self._first = self._clock()
            raise KeyboardInterrupt if number == signal.SIGINT else SignalExit(number)
        if self._clock() - self._first > QUICK:
            die(number)


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Handle signals by `EndingHandler` within the block.

    Only default handlers are replaced: a signal that the caller ignores or handles is left alone. In a thread other
    than the main one nothing is replaced.
    """
    handler, previous = EndingHandler(), dict[int, Any]()
    try:
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and is_default(number):
                previous[number] = signal.signal(number, handler)
        yield
    finally:
        for number, found in previous.items():
            signal.signal(number, found)


def is_default(number: int) -> bool:
    """Return whether this thread may replace a signal's handler, and that handler is the default one."""
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) in defaults


def end_silently() -> None:
    """Let Ctrl-C end the process at once, without a traceback: for times when nothing has to be removed."""
    if is_default(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def blocked(*names: str) -> Iterator[None]:
    """Block signals within the block; processes that are started in it never get them. They are handled after it.

    Otherwise processes that are still importing modules at an interrupt print tracebacks.

    Arguments:
        names: str, such as "SIGINT"; default: those that end the program.
    """
    if os.name == "nt":
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names or NAMES})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def die(number: int) -> int:
    """End the process by a signal; where a process cannot do that, return its exit code."""
    if os.name == "nt":
        return CONTROL_C_EXIT if number == signal.SIGINT else 128 + number
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return 128 + number  # the signal is blocked
