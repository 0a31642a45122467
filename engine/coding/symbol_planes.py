"""What priors that look at symbols know at each pass: the symbols themselves and their magnitudes at taps.

All of this is part of the format: `docs/format.md`, "Passes".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.passes import MARGIN, Offset, Phase, moved, parts_of

SIGNED_LIMIT = 1023  # contexts see symbols clamped to this magnitude

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SymbolPass:
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
) -> list[SymbolPass]:
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
        passes.append(SymbolPass(start, stop, phase, tuple(known), previous_taps))
    return passes


class SymbolPlanes:
    """The symbols known so far, int in float32 arrays with a margin of zeros: signed, and compressed magnitudes.

    Magnitudes are `MAGNITUDE[min(|symbol|, 255)]`. float32 holds all these integers exactly.
    """

    def __init__(self, shape: tuple[int, int, int], step_code: int) -> None:
        channels, self.height, self.width = shape
        self.step_code = step_code
        padded = (channels, self.height + 2 * MARGIN, self.width + 2 * MARGIN)
        self._signed = np.zeros(padded, np.float32)
        self._magnitude = np.zeros(padded, np.float32)

    def positions(self, step: SymbolPass) -> int:
        """Return how many positions a pass has in each channel."""
        parts = parts_of(step.phase, self.height, self.width)
        return parts[-1][0].stop if parts else 0

    def put(self, step: SymbolPass, symbols: NDArray[np.int32]) -> None:
        """Store a pass's symbols, (channels of the group, positions)."""
        signed = np.clip(symbols, -SIGNED_LIMIT, SIGNED_LIMIT)
        magnitudes = MAGNITUDE[np.minimum(np.abs(symbols), 255)]
        for part, rows, columns in parts_of(step.phase, self.height, self.width):
            inside = (slice(step.start, step.stop), moved(rows, 0), moved(columns, 0))
            shape = self._signed[inside].shape
            self._signed[inside] = signed[:, part].reshape(shape)
            self._magnitude[inside] = magnitudes[:, part].reshape(shape)

    def own_signed(self, step: SymbolPass) -> Floats:
        """Return the group's symbols at its taps, float32 (taps * group, positions), tap after tap."""
        return self._take(self._signed, step, step.own_taps, step.start, step.stop)

    def own_magnitudes(self, step: SymbolPass) -> Floats:
        """Return the group's magnitudes at its taps, as `own_signed`."""
        return self._take(self._magnitude, step, step.own_taps, step.start, step.stop)

    def previous_magnitudes(self, step: SymbolPass) -> Floats:
        """Return earlier channels' magnitudes at the taps, float32 (taps * start, positions), tap after tap."""
        return self._take(self._magnitude, step, step.previous_taps, 0, step.start)

    def _take(self, planes: Floats, step: SymbolPass, taps: Sequence[Offset], start: int, stop: int) -> Floats:
        group = stop - start
        taken = np.empty((len(taps) * group, self.positions(step)), np.float32)
        for part, rows, columns in parts_of(step.phase, self.height, self.width):
            for number, (dy, dx) in enumerate(taps):
                source = planes[start:stop, moved(rows, dy), moved(columns, dx)]
                taken[number * group : (number + 1) * group, part] = source.reshape(group, part.stop - part.start)
        return taken


# 16 * log2(1 + n), rounded, at most 127: n = 0, 1, 2, 3 … 255. Integers, fixed by the format.
MAGNITUDE = np.minimum(np.round(16 * np.log2(1 + np.arange(256))), 127).astype(np.int32)
