"""The contexts of the adaptive prior: symbols and their magnitudes at the taps of each pass.

All of this is part of the format: `docs/format.md`, section 3.4.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sdtrt._arrays import F32Array, I32Array
from sdtrt.engine.coding.priors.passes import (
    NO_INNER_EDGES,
    InnerEdges,
    Offset,
    PaddedPlanes,
    Phase,
    neighbour_slice,
    positions_of,
)

SIGNED_LIMIT = 1023  # symbols are clamped to this magnitude in contexts


@dataclass(frozen=True, slots=True)
class AdaptivePass:
    """A pass over channels `start` to `stop` at the positions of `phase`.

    `taps` are the offsets from a position to its neighbours of earlier passes.
    """

    start: int
    stop: int
    phase: Phase
    taps: tuple[Offset, ...]
    predicted: bool = False


@lru_cache(16)
def adaptive_passes(channels: int, phases: tuple[Phase, ...], reach: int) -> tuple[AdaptivePass, ...]:
    """Return the passes over `channels` channels, one for each phase.

    Taps are within `reach` rows and columns.
    """
    window = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    passes = []
    for number, phase in enumerate(phases):
        earlier = phases[:number]
        # All offsets of a phase have the same taps, since the pyramid is symmetric.
        taps = [
            (dy, dx)
            for dy, dx in window
            if all(any(p.covers(y + dy, x + dx) for p in earlier) for y, x in phase.offsets)
        ]
        passes.append(AdaptivePass(0, channels, phase, tuple(taps)))
    return tuple(passes)


class SymbolPlanes:
    """The symbols known so far, and their compressed magnitudes, `MAGNITUDE[min(|symbol|, 255)]`.

    The arrays are float32, which holds all these integers exactly.
    """

    def __init__(self, shape: tuple[int, int, int], inner: InnerEdges = NO_INNER_EDGES) -> None:
        _, self.height, self.width = shape
        self._signed, self._magnitude = PaddedPlanes(shape, inner), PaddedPlanes(shape, inner)

    def positions(self, coding_pass: AdaptivePass) -> int:
        """Return the number of positions of a pass in each channel."""
        parts = positions_of(coding_pass.phase, self.height, self.width)
        return parts[-1][0].stop if parts else 0

    def put(self, coding_pass: AdaptivePass, symbols: I32Array, origin: I32Array | None = None) -> None:
        """Store the symbols of a pass, int32 (channels, positions)."""
        self._signed.put(coding_pass, np.clip(symbols, -SIGNED_LIMIT, SIGNED_LIMIT))
        self._magnitude.put(coding_pass, MAGNITUDE[np.minimum(np.abs(symbols), 255)])

    def signed(self, coding_pass: AdaptivePass) -> F32Array:
        """Return the symbols at a pass's taps, float32 (taps * channels, positions), tap by tap."""
        return self._take(self._signed, coding_pass)

    def magnitudes(self, coding_pass: AdaptivePass) -> F32Array:
        """Return the compressed magnitudes at a pass's taps, in the shape of `signed`."""
        return self._take(self._magnitude, coding_pass)

    def _take(self, planes: PaddedPlanes, coding_pass: AdaptivePass) -> F32Array:
        channels = coding_pass.stop
        values = np.empty((len(coding_pass.taps) * channels, self.positions(coding_pass)), np.float32)
        for part, rows, columns in positions_of(coding_pass.phase, self.height, self.width):
            for number, (dy, dx) in enumerate(coding_pass.taps):
                source = planes[neighbour_slice(rows, columns, dy, dx, slice(None))]
                values[number * channels : (number + 1) * channels, part] = source.reshape(channels, -1)
        return values


# 16 * log2(1 + n), rounded and at most 127, for n = 0 … 255. These integers are part of the format.
MAGNITUDE = np.minimum(np.round(16 * np.log2(1 + np.arange(256))), 127).astype(np.int32)
