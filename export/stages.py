"""Stages of long work, each said at its start; where there is no terminal, a line every few seconds while it lasts."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sdtrt.progress import EVERY


def say(text: str, *, quiet: bool) -> None:
    """Print what begins now on standard error."""
    if not quiet and sys.stderr:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def stage(text: str, *, quiet: bool) -> Iterator[None]:
    """Print what begins now; unless standard error is a terminal, print every `EVERY` seconds how long it has taken."""
    say(text, quiet=quiet)
    stream = sys.stderr  # what is redirected meanwhile is a library's
    if quiet or not stream or stream.isatty():
        yield
        return
    started, ended = time.monotonic(), threading.Event()

    def repeat() -> None:
        while not ended.wait(EVERY):
            print(f"{text}: {time.monotonic() - started:.0f} s so far", file=stream, flush=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
