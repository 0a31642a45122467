"""How far work is, on standard error: a bar, on a terminal only."""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

Item = TypeVar("Item")
WIDTH = 30
EVERY = 10.0  # seconds between the lines that stand for a bar where there is no terminal


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


class Rate:
    """How far long work is: a bar on a terminal, elsewhere a line now and then, with what is said of it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._started = self._told = time.monotonic()
        self._first, self._total = 0, -1

    def __call__(self, done: int, total: int, said: str) -> None:
        """Say that `done` of `total` are done; those at the first call cost no time. Another total is other work."""
        now = time.monotonic()
        if total != self._total:
            self._first, self._total, self._started = done, total, now
        seconds, here = now - self._started, done - self._first
        left = f", {seconds / here * (total - done):.0f} s left" if here > 0 and done < total else ""
        if self._quiet:
            return
        if sys.stderr.isatty():
            print(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {said}{left}", end="", file=sys.stderr, flush=True)
        elif now - self._told >= EVERY:
            self._told = now
            print(f"{done}/{total}  {said}{left}", file=sys.stderr, flush=True)


class TileBar:
    """A bar for the tiles of one picture, if they are several; to be called as `Codec.open`'s `report`."""

    def __init__(self, *, quiet: bool) -> None:
        self._drawn = not quiet and sys.stderr.isatty()
        self._started = 0.0

    def __call__(self, done: int, total: int) -> None:
        if not self._drawn or total == 1:
            return
        if done == 0:
            self._started = time.monotonic()
        if done == total:
            clear_bar()
            return
        _draw(done, total, time.monotonic() - self._started)
        print("  tiles", end="", file=sys.stderr, flush=True)


def announce(text: str, *, quiet: bool) -> None:
    """Say what is being done, where a bar would be drawn too."""
    if not quiet and sys.stderr.isatty():
        print(text, file=sys.stderr)


class Steps:
    """A bar for work that counts its own steps, in phases within phases: the outermost is drawn.

    The interrupt key only sets `interrupted`: the work may be in code that exceptions must not pass through.
    """

    def __init__(self, title: str, *, quiet: bool) -> None:
        self.title = title
        self.interrupted = False
        self._drawn = not quiet and sys.stderr.isatty()
        self._phases: dict[str, int] = {}
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, lambda *_: setattr(self, "interrupted", True))
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self._drawn:
            clear_bar()

    def begin(self, phase: str, total: int) -> None:
        self._phases[phase] = total

    def advance(self, phase: str, done: int) -> None:
        if self._drawn and phase == next(iter(self._phases), None):
            _draw(done, self._phases[phase], time.monotonic() - self._started)
            print(f"  {self.title}", end="", file=sys.stderr, flush=True)

    def end(self, phase: str) -> None:
        self._phases.pop(phase, None)


def clear_bar() -> None:
    """Empty the bar's line, so that something else can be printed there; the next item draws it anew."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _draw(done: int, total: int, seconds: float) -> None:
    left = f"{seconds / done * (total - done):.0f} s left" if 0 < done < total else f"{seconds:.0f} s"
    print(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {left}", end="", file=sys.stderr, flush=True)


def _bar(done: int, total: int) -> str:
    filled = WIDTH * done // total
    return "#" * filled + "-" * (WIDTH - filled)
