"""How far work is, on standard error: a bar on a terminal, elsewhere a line after 5 s and then one every 10 s."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Self, TypeVar

from sdtrt.process.streams import is_terminal, print_message
from sdtrt.process.text import printable, printable_message

Item = TypeVar("Item")
Clock = Callable[[], float]  # gives the time in seconds
WIDTH = 30
FIRST, EVERY = 5.0, 10.0  # seconds until the first line where there is no terminal, and between lines
TICK = 1.0  # seconds between two looks at the clock


class Lines:
    """Lines for a log, paced. While a `Watch` is active, it prints them."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._due = clock, clock() + FIRST

    def write(self, text: str, *, detail: bool = False) -> None:
        """Print a line if one is due; `detail` tells that the text is about a part of the work."""
        if Watch.active and detail:
            Watch.active.detail = text
        elif Watch.active:
            Watch.active.stage, Watch.active.detail = text, ""
        elif text and self._clock() >= self._due:
            self._due = self._clock() + EVERY
            print_message(text)


class Watch:
    """Prints a line about long work from a thread, so that a single long call is seen to be alive.

    On a terminal, and if `quiet`, it prints nothing. A `Watch` within another one is part of that.

    Arguments:
        title: str, what the work is.
        quiet: bool, whether nothing is to be printed.
        clock: gives the time in seconds; default: `time.monotonic`.
        tick: float, seconds between two looks at the clock; 0: none but by calls of `look`.
    """

    active: ClassVar["Watch | None"] = None

    def __init__(self, title: str, *, quiet: bool, clock: Clock = time.monotonic, tick: float = TICK) -> None:
        self.stage = self.detail = ""
        self._title, self._quiet, self._clock, self._tick = title, quiet, clock, tick
        self._started = clock()
        self._due = self._started + FIRST
        self._ended = threading.Event()
        self._stderr = sys.stderr  # libraries may have it redirected for a while

    def __enter__(self) -> Self:
        if not (self._quiet or Watch.active or is_terminal()):
            Watch.active = self
            if self._tick:
                threading.Thread(target=self._looking, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if Watch.active is self:
            Watch.active = None

    def _looking(self) -> None:
        while not self._ended.wait(self._tick):
            self.look()

    def look(self) -> None:
        """Print a line if one is due."""
        now = self._clock()
        if now >= self._due and Watch.active is self:
            self._due = now + EVERY
            seconds = f"{now - self._started:.0f} s so far"
            text = f"{self._title}: {', '.join(filter(None, (self.stage, self.detail, seconds)))}"
            print_message(text, file=self._stderr)


def progress(items: Sequence[Item], *, quiet: bool, name: Callable[[Item], str] = str) -> Iterator[Item]:
    """Yield `items`, with a bar if there are several, standard error is a terminal and not `quiet`.

    Elsewhere lines say how many are done, and the name of the one in work.
    """
    total, lines = len(items), Lines()
    shown = not quiet and is_terminal()
    started = time.monotonic()
    for done, item in enumerate(items):
        if shown and total > 1:
            _draw(done, total, time.monotonic() - started)
        elif not quiet and not shown:
            lines.write(f"{done} of {total} done, now {name(item)}")
        yield item
    if shown and total > 1:
        _draw(total, total, time.monotonic() - started)
        print_message("")


class Rate:
    """How far long work is: a bar on a terminal, elsewhere a line now and then, with what is said of it."""

    def __init__(self, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self._quiet, self._clock, self._lines = quiet, clock, Lines(clock)
        self._started = clock()
        self._first, self._total = 0, -1

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` are done; those at the first call cost no time. Another total is other work."""
        now = self._clock()
        if total != self._total:
            self._first, self._total, self._started = done, total, now
        seconds, here = now - self._started, done - self._first
        left = f", {seconds / here * (total - done):.0f} s left" if here > 0 and done < total else ""
        if self._quiet:
            return
        if is_terminal():
            print_message(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {text}{left}", end="")
        else:
            self._lines.write(f"{done}/{total}  {text}{left}")


class TileBar:
    """A bar for the tiles of one image, if they are several; to be called as `Codec.open`'s `report`."""

    def __init__(self, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self._quiet, self._drawn, self._clock = quiet, not quiet and is_terminal(), clock
        self._started, self._lines = 0.0, Lines(clock)

    def __call__(self, done: int, total: int) -> None:
        if self._quiet or total == 1:
            return
        if done == 0:
            self._started, self._lines = self._clock(), Lines(self._clock)
        if not self._drawn:
            self._lines.write(f"{done} of {total} tiles" if done < total else "", detail=True)
        elif done == total:
            clear_bar()
        else:
            _draw(done, total, self._clock() - self._started, "  tiles")


def announce(text: str, *, quiet: bool) -> None:
    """Say what is being done."""
    if quiet:
        return
    print_message(printable_message(text))
    if Watch.active:
        Watch.active.stage, Watch.active.detail = printable(text), ""


class Steps:
    """A bar for work that counts its own steps, in phases within phases: the outermost is drawn.

    The interrupt key only sets `interrupted`: the work may be in code that exceptions must not pass through.
    """

    def __init__(self, title: str, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self.title = title
        self.interrupted = False
        self._quiet, self._drawn, self._clock = quiet, not quiet and is_terminal(), clock
        self._phases: dict[str, int] = {}
        self._started, self._lines = clock(), Lines(clock)

    def __enter__(self) -> Self:
        self._handler = None
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
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
        if self._quiet or phase != next(iter(self._phases), None):
            return
        if self._drawn:
            _draw(done, self._phases[phase], self._clock() - self._started, f"  {self.title}")
        else:
            self._lines.write(f"{self.title}: {done} of {self._phases[phase]} steps")

    def end(self, phase: str) -> None:
        self._phases.pop(phase, None)


def clear_bar() -> None:
    """Empty the bar's line, so that something else can be printed there; the next item draws it anew."""
    if is_terminal():
        print_message("\r\033[K", end="")


def _draw(done: int, total: int, seconds: float, text: str = "") -> None:
    left = f"{seconds / done * (total - done):.0f} s left" if 0 < done < total else f"{seconds:.0f} s"
    print_message(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {left}{text}", end="")


def _bar(done: int, total: int) -> str:
    filled = WIDTH * done // total
    return "#" * filled + "-" * (WIDTH - filled)
