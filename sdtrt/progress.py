"""A progress bar on standard error, on a terminal only."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
WIDTH = 30


def progress(items: Sequence[Item], *, quiet: bool) -> Iterator[Item]:
    """Yield `items`, with a bar if there are several, standard error is a terminal and not `quiet`."""
    total = len(items)
    if quiet or total < 2 or not sys.stderr.isatty():
        yield from items
        return
    started = time.monotonic()
    for done, item in enumerate(items):
        _draw(done, total, time.monotonic() - started)
        yield item
    _draw(total, total, time.monotonic() - started)
    print(file=sys.stderr)


def clear_bar() -> None:
    """Empty the bar's line, so that something else can be printed there; the next item draws it anew."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _draw(done: int, total: int, seconds: float) -> None:
    filled = WIDTH * done // total
    left = f"{seconds / done * (total - done):.0f} s left" if 0 < done < total else f"{seconds:.0f} s"
    bar = "#" * filled + "-" * (WIDTH - filled)
    print(f"\r\033[K[{bar}] {done}/{total}  {left}", end="", file=sys.stderr, flush=True)
