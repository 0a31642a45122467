"""What the adaptive prior knows at each pass: symbols and their magnitudes at taps.

All of this is part of the format: `docs/format.md`, "Passes".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.passes import OUTER, Inner, Offset, Phase, parts_of
from sdtrt.engine.coding.priors.planes import Planes, seen

SIGNED_LIMIT = 1023  # contexts see symbols clamped to this magnitude

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SymbolPass:
    """All channels, `start` to `stop`, at the positions of `phase`; `taps` are the offsets known by now."""

    start: int
    stop: int
    phase: Phase
    taps: tuple[Offset, ...]
    predicted: bool = False


def symbol_passes(channels: int, phases: Sequence[Phase], reach: int) -> list[SymbolPass]:
    """Return the passes over `channels` channels; `reach` is the largest offset of a tap, in rows or columns."""
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
        passes.append(SymbolPass(0, channels, phase, tuple(known)))
    return passes


class SymbolPlanes:
    """The symbols known so far: signed, and compressed magnitudes, `MAGNITUDE[min(|symbol|, 255)]`.

    float32 holds all these integers exactly.
    """

    def __init__(self, shape: tuple[int, int, int], inner: Inner = OUTER) -> None:
        _, self.height, self.width = shape
        self._signed, self._magnitude = Planes(shape, inner), Planes(shape, inner)

    def positions(self, step: SymbolPass) -> int:
        """Return how many positions a pass has in each channel."""
        parts = parts_of(step.phase, self.height, self.width)
        return parts[-1][0].stop if parts else 0

    def put(self, step: SymbolPass, symbols: NDArray[np.int32], origin: None = None) -> None:
        """Store a pass's symbols, (channels, positions)."""
        self._signed.put(step, np.clip(symbols, -SIGNED_LIMIT, SIGNED_LIMIT))
        self._magnitude.put(step, MAGNITUDE[np.minimum(np.abs(symbols), 255)])

    def signed(self, step: SymbolPass) -> Floats:
        """Return symbols at a pass's taps, float32 (taps * channels, positions), tap after tap."""
        return self._take(self._signed, step)

    def magnitudes(self, step: SymbolPass) -> Floats:
        """Return magnitudes at a pass's taps, as `signed`."""
        return self._take(self._magnitude, step)

    def _take(self, planes: Planes, step: SymbolPass) -> Floats:
        taken = np.empty((len(step.taps) * step.stop, self.positions(step)), np.float32)
        for part, rows, columns in parts_of(step.phase, self.height, self.width):
            for number, (dy, dx) in enumerate(step.taps):
                source = planes[seen(rows, columns, dy, dx, slice(None))]
                taken[number * step.stop : (number + 1) * step.stop, part] = source.reshape(step.stop, -1)
        return taken


# 16 * log2(1 + n), rounded, at most 127: n = 0, 1, 2, 3 … 255. Integers, fixed by the format.
MAGNITUDE = np.minimum(np.round(16 * np.log2(1 + np.arange(256))), 127).astype(np.int32)
