"""The context model of the residual layer: it gives each symbol a row of the tables, in integers.

The coefficients of a block are divided into 8 groups from low to high frequencies. The *last group* of a block is the
number of groups that are coded (the extent in the format's text); all later groups are 0. It has the role of the last
significant coefficient in H.264, and of the end of block in JPEG.

First come the last groups of all blocks, channel by channel. Then come the coefficients: channel by channel, group by
group, of the blocks whose last group includes the group. Each group takes two passes over a checkerboard of blocks, so
that a block of the second pass sees its four direct neighbours. `docs/format.md`, section 3.7, is normative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from sdtrt._arrays import AnyArray, BoolArray, I8Array, I32Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.symbol_planes import MAGNITUDE
from sdtrt.engine.coding.priors.tables import load_prior_file

CHANNELS, BANDS = 3, 64  # colour axes, and coefficients of a block from low to high
GROUP_EDGES = (0, 1, 3, 6, 10, 21, 36, 49, 64)  # bands at which groups begin: whole diagonals of a block
NUM_GROUPS = len(GROUP_EDGES) - 1
NUM_LAST_GROUPS = NUM_GROUPS + 1  # 0 is a block without coefficients
NUM_BINS = 16
MAX_BIN = 7  # bins -7 … 7
ESCAPE = NUM_BINS - 1  # the bin of symbols that are coded in 16 bits
NUM_SCORE_BINS = 24  # of scores; each is a row of the tables, by channel and group
LAST_GROUP_ROWS = CHANNELS * 3 * NUM_LAST_GROUPS * NUM_LAST_GROUPS
NUM_ROWS = LAST_GROUP_ROWS + CHANNELS * NUM_GROUPS * NUM_SCORE_BINS
SCORE_SHIFT = 10
NUM_FEATURES = 11  # of a block; a coefficient has one more


@dataclass(frozen=True, slots=True)
class ResidualTables:
    """The trained parameters. They ship with sdtrt and are part of the format.

    Arguments:
        tables: uint32 (NUM_ROWS, 16), weights that sum to 2**24.
        low_bits: int32 (NUM_ROWS,), the number of low bits of a symbol that are coded without a model.
        recon_offsets: int8 (NUM_ROWS, 16), in 1/64 step.
        weights: int32 (3, NUM_GROUPS, 2, NUM_FEATURES + 1), of the features in a score.
        offsets: int32 (3, 2, 64), the constant term of the scores of each band.
    """

    tables: U32Array
    low_bits: I32Array
    recon_offsets: I8Array
    weights: I32Array
    offsets: I32Array


@cache
def residual_tables() -> ResidualTables:
    """Return the shipped tables."""
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
    """Symbols that are coded together: the last groups of some blocks, or the bands of a group.

    Arguments:
        channel: colour axis.
        group: of bands, -1 for a pass of last groups.
        phase: of blocks: 0 to 2 in passes of last groups, 0 and 1 of the checkerboard otherwise.
        blocks: flat indices of the blocks.
    """

    channel: int
    group: int
    phase: int
    blocks: IndexArray

    @property
    def bands(self) -> slice:
        return slice(GROUP_EDGES[self.group], GROUP_EDGES[self.group + 1])


class BlockContexts:
    """The symbols of an image that are known so far, and the contexts that they give to later passes.

    `last_groups`, int32 (3, n), and `symbols`, int32 (3, 64, n), are those of n = rows * columns blocks.
    """

    def __init__(self, rows: int, columns: int, tables: ResidualTables) -> None:
        self._tables, self._size = tables, (rows, columns)
        count = rows * columns
        self.last_groups = np.zeros((CHANNELS, count), np.int32)
        self.symbols = np.zeros((CHANNELS, BANDS, count), np.int32)
        self._group_sums = np.zeros((CHANNELS, NUM_GROUPS, count), np.int32)  # of magnitudes
        self._totals = np.zeros((CHANNELS, count), np.int32)  # of magnitudes, over the groups known so far
        ones = np.ones(count, np.int32)
        self._num_direct, self._num_diagonal = self._direct_sum(ones), self._diagonal_sum(ones)

    def passes(self) -> Iterator[ResidualPass]:
        """Yield the passes. Each must be `put` before the next is taken: last groups decide which blocks follow."""
        row, column = np.indices(self._size).reshape(2, -1)
        both_even = (row | column) & 1 == 0
        both_odd = row & column & 1 == 1
        last_group_phases = [np.flatnonzero(mask) for mask in (both_even, both_odd, ~(both_even | both_odd))]
        checkerboard: list[BoolArray] = [(row ^ column) & 1 == phase for phase in (0, 1)]
        for channel in range(CHANNELS):
            for phase, blocks in enumerate(last_group_phases):
                if blocks.size:
                    yield ResidualPass(channel, -1, phase, blocks)
        for channel in range(CHANNELS):
            for group in range(NUM_GROUPS):
                is_coded = self.last_groups[channel] > group
                for phase, half in enumerate(checkerboard):
                    blocks = np.flatnonzero(is_coded & half)
                    if blocks.size:
                        yield ResidualPass(channel, group, phase, blocks)

    def rows(self, coding_pass: ResidualPass) -> I32Array:
        """Return the table rows of a pass: int32 (n,) for last groups, (bands, n) for a group."""
        channel, group, phase = coding_pass.channel, coding_pass.group, coding_pass.phase
        if group < 0:
            return self._last_group_rows(coding_pass)
        weights = self._tables.weights[channel, group, phase]
        scores = self.features(coding_pass) @ weights[:NUM_FEATURES]
        scores = scores + self._tables.offsets[channel, phase, coding_pass.bands, None]
        if channel:
            scores += weights[NUM_FEATURES] * self.luma_magnitudes(coding_pass)
        bins = np.minimum(np.maximum(scores >> SCORE_SHIFT, 0), NUM_SCORE_BINS - 1)
        return LAST_GROUP_ROWS + (channel * NUM_GROUPS + group) * NUM_SCORE_BINS + bins

    def put(self, coding_pass: ResidualPass, symbols: I32Array) -> None:
        """Store the symbols of a pass, in the shape of its rows."""
        channel, group, blocks = coding_pass.channel, coding_pass.group, coding_pass.blocks
        if group < 0:
            self.last_groups[channel, blocks] = symbols
            return
        self.symbols[channel][coding_pass.bands, blocks] = symbols
        sums = np.minimum(np.abs(symbols).sum(0), MAGNITUDE.size - 1)
        self._group_sums[channel, group, blocks] = sums
        self._totals[channel, blocks] += sums

    def _last_group_rows(self, coding_pass: ResidualPass) -> I32Array:
        channel, phase, blocks = coding_pass.channel, coding_pass.phase, coding_pass.blocks
        last_groups, mean = self.last_groups[channel], np.zeros(len(blocks), np.int32)
        if phase:
            # Blocks of phase 1 lie diagonally between those of phase 0; phase 2 is between both.
            if phase == 1:
                sums, counts = self._diagonal_sum(last_groups), self._num_diagonal
            else:
                sums, counts = self._direct_sum(last_groups), self._num_direct
            count = np.maximum(counts[blocks], 1)
            mean = (sums[blocks] + count // 2) // count
        previous_channel = self.last_groups[channel - 1, blocks] if channel else 0
        return ((channel * 3 + phase) * NUM_LAST_GROUPS + mean) * NUM_LAST_GROUPS + previous_channel

    def features(self, coding_pass: ResidualPass) -> I32Array:
        """Return the features of a pass's blocks, int32 (n, NUM_FEATURES).

        They are compressed sums of magnitudes in the block and its neighbours, and last groups.
        """
        channel, group, blocks = coding_pass.channel, coding_pass.group, coding_pass.blocks
        zeros = np.zeros(len(blocks), np.int32)

        def in_block(number: int) -> I32Array:
            return self._group_sums[channel, number, blocks] if number >= 0 else zeros

        def in_neighbours(number: int) -> I32Array:
            return self._direct_sum(self._group_sums[channel, number])[blocks] if number >= 0 else zeros

        sums = [
            in_block(group - 1),
            in_block(group - 2),
            self._totals[channel, blocks] if group else zeros,
            in_neighbours(group) if coding_pass.phase else zeros,
            in_neighbours(group - 1),
            self._diagonal_sum(self._group_sums[channel, group - 1])[blocks] if group else zeros,
            self._direct_sum(self._totals[channel])[blocks],
            self._group_sums[0, group, blocks] if channel else zeros,
            self._group_sums[1, group, blocks] if channel == 2 else zeros,
        ]
        compressed = MAGNITUDE[np.minimum(np.stack(sums, 1), MAGNITUDE.size - 1)]
        last_groups = self.last_groups[channel]
        last_group_features = np.stack([16 * last_groups[blocks], 4 * self._direct_sum(last_groups)[blocks]], 1)
        return np.concatenate([compressed, last_group_features], 1).astype(np.int32)

    def luma_magnitudes(self, coding_pass: ResidualPass) -> I32Array:
        """Return the compressed magnitudes of luma in a pass's bands, int32 (bands, n)."""
        magnitudes = np.abs(self.symbols[0][coding_pass.bands, coding_pass.blocks])
        return MAGNITUDE[np.minimum(magnitudes, MAGNITUDE.size - 1)]

    def _direct_sum(self, plane: I32Array) -> I32Array:
        """Return the sum over the four direct neighbours of each block, int32 (n,); 0 outside of the image."""
        padded = self._padded(plane)
        return (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]).ravel()

    def _diagonal_sum(self, plane: I32Array) -> I32Array:
        """Return the sum over the four diagonal neighbours of each block, int32 (n,); 0 outside of the image."""
        padded = self._padded(plane)
        return (padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]).ravel()

    def _padded(self, plane: I32Array) -> I32Array:
        rows, columns = self._size
        padded = np.zeros((rows + 2, columns + 2), np.int32)
        padded[1:-1, 1:-1] = plane.reshape(rows, columns)
        return padded


def sum_by_group(bands: AnyArray) -> AnyArray:
    """Return the sums over the bands of each group: (…, NUM_GROUPS, n) from (…, 64, n)."""
    return np.stack([bands[..., first:last, :].sum(-2) for first, last in pairwise(GROUP_EDGES)], -2)
