"""The order in which symbols are coded, and what is known at each point of it.

Channels are coded group after group, and each group in passes over subsets of the plane that interleave. Within a
pass nothing depends on anything else of that pass, so a pass is arithmetic on whole arrays. All of this is part of
the format: `docs/format.md`, "Passes".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 4  # how far a tap may reach beyond the plane; symbols there count as 0
SIGNED_LIMIT = 1023  # contexts see symbols clamped to this magnitude

Offset = tuple[int, int]  # (rows, columns)


@dataclass(frozen=True, slots=True)
class Phase:
    """A subset of the plane: every `stride`-th row and column from each of `origins`."""

    stride: int
    origins: tuple[Offset, ...]

    def slices(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the plane's row and column slices of this phase, one pair for each origin that lies inside."""
        inside = [(y, x) for y, x in self.origins if y < height and x < width]
        return [(slice(y, height, self.stride), slice(x, width, self.stride)) for y, x in inside]

    def covers(self, y: int, x: int) -> bool:
        return (y % self.stride, x % self.stride) in self.origins


# Coarse to fine: every phase after the first lies between symbols already known on both sides.
PYRAMID = (
    Phase(4, ((0, 0),)),
    Phase(4, ((2, 2),)),
    Phase(4, ((0, 2), (2, 0))),
    Phase(2, ((1, 1),)),
    Phase(2, ((0, 1), (1, 0))),
)
CHECKERBOARD = (Phase(2, ((0, 0), (1, 1))), Phase(2, ((0, 1), (1, 0))))


@dataclass(frozen=True, slots=True)
class Pass:
    """Channels `start` to `stop` (in coding order) at the positions of `phase`.

    `own_taps` are the offsets at which the group's own symbols are known by now, `previous_taps` the offsets at which
    channels before `start` are looked at (all of them known everywhere).
    """

    start: int
    stop: int
    phase: Phase
    own_taps: tuple[Offset, ...]
    previous_taps: tuple[Offset, ...]


def passes_of_group(
    start: int, stop: int, phases: Sequence[Phase], reach: int, previous_taps: tuple[Offset, ...]
) -> list[Pass]:
    """Return the passes of one group; `reach` is the largest offset of its own taps, in rows or columns."""
    window = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    passes = []
    for number, phase in enumerate(phases):
        done = phases[:number]
        known = [
            # Each origin of a phase sees the same offsets: its rows and columns are alike up to a turn.
            tap
            for tap in window
            if all(any(p.covers(y + tap[0], x + tap[1]) for p in done) for y, x in phase.origins)
        ]
        passes.append(Pass(start, stop, phase, tuple(known), previous_taps))
    return passes


class Planes:
    """The symbols known so far, int in float32 arrays with a margin of zeros: signed, and compressed magnitudes.

    Magnitudes are `MAGNITUDE[min(|symbol|, 255)]`. float32 holds all these integers exactly.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.height, self.width = height, width
        shape = (channels, height + 2 * MARGIN, width + 2 * MARGIN)
        self._signed = np.zeros(shape, np.float32)
        self._magnitude = np.zeros(shape, np.float32)

    def positions(self, step: Pass) -> int:
        """Return how many positions a pass has in each channel."""
        return sum(self._size(s) for s in step.phase.slices(self.height, self.width))

    def put(self, step: Pass, symbols: NDArray[np.int32]) -> None:
        """Store a pass's symbols, (channels of the group, positions)."""
        magnitudes = MAGNITUDE[np.minimum(np.abs(symbols), 255)]
        for part, (rows, columns) in self._parts(step):
            signed = self._inside(self._signed, rows, columns, (0, 0))[step.start : step.stop]
            signed[...] = np.clip(symbols[:, part], -SIGNED_LIMIT, SIGNED_LIMIT).reshape(signed.shape)
            self._inside(self._magnitude, rows, columns, (0, 0))[step.start : step.stop] = magnitudes[:, part].reshape(
                signed.shape
            )

    def own_signed(self, step: Pass) -> NDArray[np.float32]:
        """Return the group's symbols at its taps, float32 (taps * group, positions), tap after tap."""
        return self._take(self._signed, step, step.own_taps, step.start, step.stop)

    def own_magnitudes(self, step: Pass) -> NDArray[np.float32]:
        """Return the group's magnitudes at its taps, as `own_signed`."""
        return self._take(self._magnitude, step, step.own_taps, step.start, step.stop)

    def previous_magnitudes(self, step: Pass) -> NDArray[np.float32]:
        """Return earlier channels' magnitudes at the taps, float32 (taps * start, positions), tap after tap."""
        return self._take(self._magnitude, step, step.previous_taps, 0, step.start)

    def _take(
        self, planes: NDArray[np.float32], step: Pass, taps: Sequence[Offset], start: int, stop: int
    ) -> NDArray[np.float32]:
        group = stop - start
        taken = np.empty((len(taps) * group, self.positions(step)), np.float32)
        for part, (rows, columns) in self._parts(step):
            for number, tap in enumerate(taps):
                source = self._inside(planes, rows, columns, tap)[start:stop]
                taken[number * group : (number + 1) * group, part] = source.reshape(group, part.stop - part.start)
        return taken

    def _parts(self, step: Pass) -> Iterator[tuple[slice, tuple[slice, slice]]]:
        """Yield each origin's share of the positions with its slices of the plane."""
        first = 0
        for slices in step.phase.slices(self.height, self.width):
            last = first + self._size(slices)
            yield slice(first, last), slices
            first = last

    def _size(self, slices: tuple[slice, slice]) -> int:
        rows, columns = slices
        return len(range(*rows.indices(self.height))) * len(range(*columns.indices(self.width)))

    @staticmethod
    def _inside(planes: NDArray[np.float32], rows: slice, columns: slice, tap: Offset) -> NDArray[np.float32]:
        dy, dx = MARGIN + tap[0], MARGIN + tap[1]
        moved_rows = slice(rows.start + dy, rows.stop + dy, rows.step)
        return planes[:, moved_rows, columns.start + dx : columns.stop + dx : columns.step]


# 16 * log2(1 + n), rounded, at most 127: n = 0, 1, 2, 3 … 255. Integers, fixed by the format.
MAGNITUDE = np.minimum(np.round(16 * np.log2(1 + np.arange(256))), 127).astype(np.int32)
