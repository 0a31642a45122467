"""Progress on standard error: a bar on a terminal; elsewhere a line after 5 s, then a line every 10 s."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Self, TypeVar

from sdtrt.process.streams import is_terminal, print_message
from sdtrt.process.text import printable, printable_message

Item = TypeVar("Item")
Clock = Callable[[], float]  # returns the time in seconds
BAR_WIDTH = 30  # characters
FIRST_LINE_SECONDS = 5.0  # until the first line, without a terminal
LINE_INTERVAL_SECONDS = 10.0  # between two lines
TICK_SECONDS = 1.0  # between two readings of the clock


class PacedLines:
    """Prints lines at the pace of this module. While a `Watch` is active, the watch prints them instead.

    Arguments:
        clock: returns the time in seconds (default `time.monotonic`).
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._due = clock, clock() + FIRST_LINE_SECONDS

    def write(self, text: str, *, detail: bool = False) -> None:
        """Print a line if it is due.

        Arguments:
            text: the line.
            detail: whether the text is about a part of the current stage (default False, the text is a stage).
        """
        if Watch.active and detail:
            Watch.active.detail = text
        elif Watch.active:
            Watch.active.stage, Watch.active.detail = text, ""
        elif text and self._clock() >= self._due:
            self._due = self._clock() + LINE_INTERVAL_SECONDS
            print_message(text)


class Watch:
    """Prints lines about long work from a thread, also during a single long call.

    It prints nothing on a terminal. A `Watch` inside another one does nothing.

    Arguments:
        title: str, the name of the work.
        quiet: bool, whether to print nothing.
        clock: returns the time in seconds (default `time.monotonic`).
        tick: float, seconds between two readings of the clock (default `TICK_SECONDS`); 0 starts no thread, and only
            `look` prints.
    """

    active: ClassVar["Watch | None"] = None

    def __init__(self, title: str, *, quiet: bool, clock: Clock = time.monotonic, tick: float = TICK_SECONDS) -> None:
        self.stage = self.detail = ""
        self._title, self._quiet, self._clock, self._tick = title, quiet, clock, tick
        self._started = clock()
        self._due = self._started + FIRST_LINE_SECONDS
        self._ended = threading.Event()
        self._stderr = sys.stderr  # libraries may redirect it for a while

    def __enter__(self) -> Self:
        if not (self._quiet or Watch.active or is_terminal()):
            Watch.active = self
            if self._tick:
                threading.Thread(target=self._run, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if Watch.active is self:
            Watch.active = None

    def _run(self) -> None:
        while not self._ended.wait(self._tick):
            self.look()

    def look(self) -> None:
        """Print a line if it is due."""
        now = self._clock()
        if now >= self._due and Watch.active is self:
            self._due = now + LINE_INTERVAL_SECONDS
            seconds = f"{now - self._started:.0f} s so far"
            text = f"{self._title}: {', '.join(filter(None, (self.stage, self.detail, seconds)))}"
            print_message(text, file=self._stderr)


def progress(items: Sequence[Item], *, quiet: bool, name: Callable[[Item], str] = str) -> Iterator[Item]:
    """Yield items, and show how many are done.

    On a terminal there is a bar if there are several items. Elsewhere lines give the number of items that are done, and
    the name of the current one.

    Arguments:
        items: the items.
        quiet: whether to print nothing.
        name: returns the name of an item (default `str`).
    """
    total, lines = len(items), PacedLines()
    draws = not quiet and is_terminal()
    started = time.monotonic()
    for done, item in enumerate(items):
        if draws and total > 1:
            _draw(done, total, time.monotonic() - started)
        elif not quiet and not draws:
            lines.write(f"{done} of {total} done, now {name(item)}")
        yield item
    if draws and total > 1:
        _draw(total, total, time.monotonic() - started)
        print_message("")


class ProgressBar:
    """Progress of work with a known total: a bar on a terminal, elsewhere paced lines.

    Arguments:
        quiet: whether to print nothing.
        clock: returns the time in seconds (default `time.monotonic`).
    """

    def __init__(self, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self._quiet, self._clock, self._lines = quiet, clock, PacedLines(clock)
        self._started = clock()
        self._done_at_start, self._total = 0, -1

    def __call__(self, done: int, total: int, text: str) -> None:
        """Show progress, with an estimate of the remaining time.

        The first call, and each call with another total, starts new work. Items that are done by then do not count
        towards the estimate.

        Arguments:
            done: items that are done, 0 to `total`.
            total: the number of items.
            text: a text that follows the numbers.
        """
        now = self._clock()
        if total != self._total:
            self._done_at_start, self._total, self._started = done, total, now
        seconds, newly_done = now - self._started, done - self._done_at_start
        left = f", {seconds / newly_done * (total - done):.0f} s left" if newly_done > 0 and done < total else ""
        if self._quiet:
            return
        if is_terminal():
            print_message(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {text}{left}", end="")
        else:
            self._lines.write(f"{done}/{total}  {text}{left}")


class TileProgress:
    """Progress over the tiles of an image; an image of one tile shows nothing. Pass it to `Codec.open` as `report`.

    Arguments:
        quiet: whether to print nothing.
        clock: returns the time in seconds (default `time.monotonic`).
    """

    def __init__(self, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self._quiet, self._draws, self._clock = quiet, not quiet and is_terminal(), clock
        self._started, self._lines = 0.0, PacedLines(clock)

    def __call__(self, done: int, total: int) -> None:
        if self._quiet or total == 1:
            return
        if done == 0:
            self._started, self._lines = self._clock(), PacedLines(self._clock)
        if not self._draws:
            self._lines.write(f"{done} of {total} tiles" if done < total else "", detail=True)
        elif done == total:
            clear_bar()
        else:
            _draw(done, total, self._clock() - self._started, "  tiles")


def announce(text: str, *, quiet: bool) -> None:
    """Print the stage that begins, and make it the stage of an active `Watch`."""
    if quiet:
        return
    print_message(printable_message(text))
    if Watch.active:
        Watch.active.stage, Watch.active.detail = printable(text), ""


class PhaseProgress:
    """Progress of work in nested phases, such as TensorRT's builds. Only the outermost phase is shown.

    While the context is active, SIGINT only sets `interrupted`, because exceptions must not pass through native code.

    Arguments:
        title: the name of the work.
        quiet: whether to print nothing.
        clock: returns the time in seconds (default `time.monotonic`).
    """

    def __init__(self, title: str, *, quiet: bool, clock: Clock = time.monotonic) -> None:
        self.title = title
        self.interrupted = False
        self._quiet, self._draws, self._clock = quiet, not quiet and is_terminal(), clock
        self._phases: dict[str, int] = {}
        self._started, self._lines = clock(), PacedLines(clock)

    def __enter__(self) -> Self:
        self._handler = None
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            self._handler = signal.signal(signal.SIGINT, lambda *_: setattr(self, "interrupted", True))
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self._draws:
            clear_bar()

    def begin(self, phase: str, total: int) -> None:
        self._phases[phase] = total

    def advance(self, phase: str, done: int) -> None:
        if self._quiet or phase != next(iter(self._phases), None):
            return
        if self._draws:
            _draw(done, self._phases[phase], self._clock() - self._started, f"  {self.title}")
        else:
            self._lines.write(f"{self.title}: {done} of {self._phases[phase]} steps")

    def end(self, phase: str) -> None:
        self._phases.pop(phase, None)


def clear_bar() -> None:
    """Clear the line of the bar, so that something else can be printed there. The next call draws the bar again."""
    if is_terminal():
        print_message("\r\033[K", end="")


def _draw(done: int, total: int, seconds: float, text: str = "") -> None:
    left = f"{seconds / done * (total - done):.0f} s left" if 0 < done < total else f"{seconds:.0f} s"
    print_message(f"\r\033[K[{_bar(done, total)}] {done}/{total}  {left}{text}", end="")


def _bar(done: int, total: int) -> str:
    filled = BAR_WIDTH * done // total
    return "#" * filled + "-" * (BAR_WIDTH - filled)
