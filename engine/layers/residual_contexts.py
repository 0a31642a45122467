"""What is expected of each symbol of a residual, from those before it: rows of tables, in integers.

Symbols are of channels (axes of colour), bands (coefficients from low to high, in groups) and blocks. First comes the
extent of every block in every channel: how many groups of it hold anything. Then come the bands, group by group, of
those blocks whose extent holds them; blocks are parted like the squares of a chequerboard, so that half of them see
all four neighbours. `docs/format.md`, section 3.7, is normative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from sdtrt._arrays import AnyArray, I8Array, I32Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.known_symbols import MAGNITUDE
from sdtrt.engine.coding.priors.tables import load_prior_file

CHANNELS, BANDS = 3, 64
EDGES = (0, 1, 3, 6, 10, 21, 36, 49, 64)  # of the groups, which are whole diagonals of a block
GROUPS = len(EDGES) - 1
EXTENTS = GROUPS + 1  # 0 is a block of which nothing is sent
ENTRIES = 16
ESCAPE, REACH = ENTRIES - 1, 7  # entries stand for -7 … 7, the last for what is sent in 16 bits
BINS = 24  # of scores, each with a table, by channel and group
EXTENT_ROWS = CHANNELS * 3 * EXTENTS * EXTENTS
ROWS = EXTENT_ROWS + CHANNELS * GROUPS * BINS
SCORE_SHIFT = 10
FEATURES = 11  # of a block; one more of a coefficient


@dataclass(frozen=True, slots=True)
class ResidualTables:
    """The trained part, shipped with this version, and part of the format."""

    tables: U32Array  # (ROWS, 16): weights that sum to 2**24
    low_bits: I32Array  # (ROWS,): how many bits of each symbol are sent as they are
    points: I8Array  # (ROWS, 16): where coefficients lie, in 1/64 step from their symbols
    weights: I32Array  # (3, GROUPS, 2, FEATURES + 1), of what a score sums
    offsets: I32Array  # (3, 2, 64): what each band's begins with


@cache
def residual_tables() -> ResidualTables:
    """Return the tables of this version."""
    arrays = load_prior_file("residual-1")
    return ResidualTables(
        arrays["tables"],
        arrays["low_bits"].astype(np.int32),
        arrays["points"],
        arrays["weights"].astype(np.int32),
        arrays["offsets"].astype(np.int32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ResidualPass:
    """Symbols that are coded together: the extents of some blocks, or a group of bands; `blocks` are flat indices."""

    channel: int
    group: int  # -1 for extents
    phase: int
    blocks: IndexArray

    @property
    def bands(self) -> slice:
        return slice(EDGES[self.group], EDGES[self.group + 1])


class BlockContexts:
    """The symbols known so far: `extents`, int32 (3, n), and `symbols`, int32 (3, 64, n), of n = rows * columns."""

    def __init__(self, rows: int, columns: int, trained: ResidualTables) -> None:
        self._trained, self._size = trained, (rows, columns)
        count = rows * columns
        self.extents = np.zeros((CHANNELS, count), np.int32)
        self.symbols = np.zeros((CHANNELS, BANDS, count), np.int32)
        self._sums = np.zeros((CHANNELS, GROUPS, count), np.int32)  # of magnitudes
        self._totals = np.zeros((CHANNELS, count), np.int32)  # of the groups before
        self._inside = self._direct(np.ones(count, np.int32)), self._diagonal(np.ones(count, np.int32))

    def passes(self) -> Iterator[ResidualPass]:
        """Yield the passes; each must be `put` before the next is asked for."""
        row, column = np.indices(self._size).reshape(2, -1)
        even = (row | column) & 1 == 0
        odd = row & column & 1 == 1
        thirds = [np.flatnonzero(mask) for mask in (even, odd, ~(even | odd))]
        halves = [(row ^ column) & 1 == phase for phase in (0, 1)]
        for channel in range(CHANNELS):
            for phase, blocks in enumerate(thirds):
                if blocks.size:
                    yield ResidualPass(channel, -1, phase, blocks)
        for channel in range(CHANNELS):
            for group in range(GROUPS):
                there = self.extents[channel] > group
                for phase, half in enumerate(halves):
                    blocks = np.flatnonzero(there & half)
                    if blocks.size:
                        yield ResidualPass(channel, group, phase, blocks)

    def rows(self, coding_pass: ResidualPass) -> I32Array:
        """Return the tables' rows of a pass: int32 (n,) of extents, (bands, n) of a group."""
        if coding_pass.group < 0:
            return self._rows_of_extents(coding_pass)
        scores = (
            self.features(coding_pass)
            @ self._trained.weights[coding_pass.channel, coding_pass.group, coding_pass.phase, :FEATURES]
        )
        scores = scores + self._trained.offsets[coding_pass.channel, coding_pass.phase, coding_pass.bands, None]
        if coding_pass.channel:
            weight = self._trained.weights[coding_pass.channel, coding_pass.group, coding_pass.phase, FEATURES]
            scores += weight * self.brightness(coding_pass)
        bins = np.minimum(np.maximum(scores >> SCORE_SHIFT, 0), BINS - 1)
        return EXTENT_ROWS + (coding_pass.channel * GROUPS + coding_pass.group) * BINS + bins

    def put(self, coding_pass: ResidualPass, values: I32Array) -> None:
        """Store a pass's symbols, in the shape of its rows."""
        if coding_pass.group < 0:
            self.extents[coding_pass.channel, coding_pass.blocks] = values
            return
        self.symbols[coding_pass.channel][coding_pass.bands, coding_pass.blocks] = values
        sums = np.minimum(np.abs(values).sum(0), MAGNITUDE.size - 1)
        self._sums[coding_pass.channel, coding_pass.group, coding_pass.blocks] = sums
        self._totals[coding_pass.channel, coding_pass.blocks] += sums

    def _rows_of_extents(self, coding_pass: ResidualPass) -> I32Array:
        extents, mean = self.extents[coding_pass.channel], np.zeros(len(coding_pass.blocks), np.int32)
        if coding_pass.phase:
            look, count = (None, self._diagonal, self._direct)[coding_pass.phase], self._inside[coding_pass.phase == 1]
            assert look is not None
            known = np.maximum(count[coding_pass.blocks], 1)
            mean = (look(extents)[coding_pass.blocks] + known // 2) // known
        below = self.extents[coding_pass.channel - 1, coding_pass.blocks] if coding_pass.channel else 0
        return ((coding_pass.channel * 3 + coding_pass.phase) * EXTENTS + mean) * EXTENTS + below

    def features(self, coding_pass: ResidualPass) -> I32Array:
        """Return what a pass's blocks are told by, int32 (n, FEATURES): compressed sums of magnitudes, and extents."""
        channel, group, at = coding_pass.channel, coding_pass.group, coding_pass.blocks
        nothing = np.zeros(len(at), np.int32)

        def own(number: int) -> I32Array:
            return self._sums[channel, number, at] if number >= 0 else nothing

        def around(number: int) -> I32Array:
            return self._direct(self._sums[channel, number])[at] if number >= 0 else nothing

        sums = [
            own(group - 1),
            own(group - 2),
            self._totals[channel, at] if group else nothing,
            around(group) if coding_pass.phase else nothing,
            around(group - 1),
            self._diagonal(self._sums[channel, group - 1])[at] if group else nothing,
            self._direct(self._totals[channel])[at],
            self._sums[0, group, at] if channel else nothing,
            self._sums[1, group, at] if channel == 2 else nothing,
        ]
        told = MAGNITUDE[np.minimum(np.stack(sums, 1), MAGNITUDE.size - 1)]
        extents = np.stack([16 * self.extents[channel, at], 4 * self._direct(self.extents[channel])[at]], 1)
        return np.concatenate([told, extents], 1).astype(np.int32)

    def brightness(self, coding_pass: ResidualPass) -> I32Array:
        """Return the compressed magnitudes of brightness in a pass's bands, int32 (bands, n)."""
        known = np.abs(self.symbols[0][coding_pass.bands, coding_pass.blocks])
        return MAGNITUDE[np.minimum(known, MAGNITUDE.size - 1)]

    def _direct(self, plane: I32Array) -> I32Array:
        """Return the sum of the four blocks beside each, int32 (n,); 0 beyond the image."""
        framed = self._framed(plane)
        return (framed[:-2, 1:-1] + framed[2:, 1:-1] + framed[1:-1, :-2] + framed[1:-1, 2:]).ravel()

    def _diagonal(self, plane: I32Array) -> I32Array:
        """Return the sum of the four blocks at each one's corners, int32 (n,)."""
        framed = self._framed(plane)
        return (framed[:-2, :-2] + framed[:-2, 2:] + framed[2:, :-2] + framed[2:, 2:]).ravel()

    def _framed(self, plane: I32Array) -> I32Array:
        rows, columns = self._size
        framed = np.zeros((rows + 2, columns + 2), np.int32)
        framed[1:-1, 1:-1] = plane.reshape(rows, columns)
        return framed


def groups_of(bands: AnyArray) -> AnyArray:
    """Return the sums of bands, (…, 64, n), over each group: (…, GROUPS, n)."""
    return np.stack([bands[..., first:last, :].sum(-2) for first, last in pairwise(EDGES)], -2)
