"""What the adaptive prior knows at each pass: symbols and their magnitudes at taps.

All of this is part of the format: `docs/format.md`, "Passes".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import F32Array, I32Array
from sdtrt.engine.coding.priors.padded_planes import PaddedPlanes, neighbour_slice
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges, Offset, Phase, positions_of

SIGNED_LIMIT = 1023  # contexts see symbols clamped to this magnitude


@dataclass(frozen=True, slots=True)
class AdaptivePass:
    """All channels, `start` to `stop`, at the positions of `phase`; `taps` are the offsets known by now."""

    start: int
    stop: int
    phase: Phase
    taps: tuple[Offset, ...]
    predicted: bool = False


def adaptive_passes(channels: int, phases: Sequence[Phase], reach: int) -> list[AdaptivePass]:
    """Return the passes over `channels` channels; `reach` is the largest offset of a tap, in rows or columns."""
    window = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    passes = []
    for number, phase in enumerate(phases):
        done = phases[:number]
        known = [
            # Each origin of a phase sees the same offsets: its rows and columns are alike up to a turn.
            tap
            for tap in window
            if all(any(p.covers(y + tap[0], x + tap[1]) for p in done) for y, x in phase.offsets)
        ]
        passes.append(AdaptivePass(0, channels, phase, tuple(known)))
    return passes


class KnownSymbols:
    """The symbols known so far: signed, and compressed magnitudes, `MAGNITUDE[min(|symbol|, 255)]`.

    float32 holds all these integers exactly.
    """

    def __init__(self, shape: tuple[int, int, int], inner: InnerEdges = NO_INNER_EDGES) -> None:
        _, self.height, self.width = shape
        self._signed, self._magnitude = PaddedPlanes(shape, inner), PaddedPlanes(shape, inner)

    def positions(self, coding_pass: AdaptivePass) -> int:
        """Return how many positions a pass has in each channel."""
        parts = positions_of(coding_pass.phase, self.height, self.width)
        return parts[-1][0].stop if parts else 0

    def put(self, coding_pass: AdaptivePass, symbols: I32Array, origin: None = None) -> None:
        """Store a pass's symbols, (channels, positions)."""
        self._signed.put(coding_pass, np.clip(symbols, -SIGNED_LIMIT, SIGNED_LIMIT))
        self._magnitude.put(coding_pass, MAGNITUDE[np.minimum(np.abs(symbols), 255)])

    def signed(self, coding_pass: AdaptivePass) -> F32Array:
        """Return symbols at a pass's taps, float32 (taps * channels, positions), tap after tap."""
        return self._take(self._signed, coding_pass)

    def magnitudes(self, coding_pass: AdaptivePass) -> F32Array:
        """Return magnitudes at a pass's taps, as `signed`."""
        return self._take(self._magnitude, coding_pass)

    def _take(self, planes: PaddedPlanes, coding_pass: AdaptivePass) -> F32Array:
        taken = np.empty((len(coding_pass.taps) * coding_pass.stop, self.positions(coding_pass)), np.float32)
        for part, rows, columns in positions_of(coding_pass.phase, self.height, self.width):
            for number, (dy, dx) in enumerate(coding_pass.taps):
                source = planes[neighbour_slice(rows, columns, dy, dx, slice(None))]
                taken[number * coding_pass.stop : (number + 1) * coding_pass.stop, part] = source.reshape(
                    coding_pass.stop, -1
                )
        return taken


# 16 * log2(1 + n), rounded, at most 127: n = 0, 1, 2, 3 … 255. Integers, fixed by the format.
MAGNITUDE = np.minimum(np.round(16 * np.log2(1 + np.arange(256))), 127).astype(np.int32)
