"""Planes with a margin, in a memory layout that makes the neighbours of a pass contiguous."""

from functools import lru_cache

import numpy as np

from sdtrt._arrays import AnyArray, F32Array
from sdtrt.engine.coding.priors.passes import InnerEdges, Pass, Phase, len_of_slice, positions_of

MARGIN = 4  # rows and columns: the largest offset of a neighbour

# An index of `PaddedPlanes`: parity of the rows, parity of the columns, channels, rows, columns.
PlaneSlice = tuple[int, int, slice, slice, slice]


class PaddedPlanes:
    """Planes (C, h, w) with a margin: integers in float32 arrays, one array for each parity of rows and columns.

    All passes but the coarsest use every other row and column, so that a row of a pass is contiguous in memory.
    """

    def __init__(self, shape: tuple[int, int, int], inner: InnerEdges) -> None:
        channels, self._height, self._width = shape
        sides = ((side + 2 * MARGIN + 1) // 2 for side in shape[1:])
        self._values = np.zeros((2, 2, channels, *sides), np.float32)
        self._inner = inner

    def __getitem__(self, index: PlaneSlice) -> F32Array:
        return self._values[index]

    def put(self, coding_pass: Pass, values: AnyArray) -> None:
        """Store the values of a pass, (channels of the pass, positions), and extend them over inner edges."""
        of_channels = self._values[:, :, coding_pass.start : coding_pass.stop]
        for part, index in _inside(coding_pass.phase, self._height, self._width):
            target = of_channels[index]
            target[...] = values[:, part].reshape(target.shape)
        for target_index, source_index in _margins(coding_pass.phase, self._height, self._width, self._inner):
            of_channels[target_index] = of_channels[source_index]


def neighbour_slice(rows: slice, columns: slice, dy: int, dx: int, channels: slice) -> PlaneSlice:
    """Return the index in `PaddedPlanes` of the neighbours at the offset (dy, dx), which is within the margin.

    `rows` and `columns` are slices of a pass, as of `Phase.slices`.
    """
    return _plane_slice(_shifted(rows, dy), _shifted(columns, dx), channels)


@lru_cache(1024)
def _inside(phase: Phase, height: int, width: int) -> tuple[tuple[slice, PlaneSlice], ...]:
    """Return the part of a phase's positions that each of its offsets has, and the index of the part."""
    every = slice(None)
    return tuple(
        (part, neighbour_slice(rows, columns, 0, 0, every))
        for part, rows, columns in positions_of(phase, height, width)
    )


@lru_cache(1024)
def _margins(phase: Phase, height: int, width: int, inner: InnerEdges) -> tuple[tuple[PlaneSlice, PlaneSlice], ...]:
    """Return the copies, target and source, that extend a phase's values over inner edges, in order.

    Each position in the margin takes the value of the nearest row and column of the phase inside the plane.
    """
    copies = []
    for rows, columns in phase.slices(height, width):
        (above, inside_rows, below), (before, inside_columns, behind) = (
            _extended(along, side) for along, side in ((rows, height), (columns, width))
        )
        first_row, last_row = _line(inside_rows.start), _line(inside_rows.stop - 1)
        first_column, last_column = _line(inside_columns.start), _line(inside_columns.stop - 1)
        all_rows = slice(above.start, below.stop, phase.stride)
        candidates = (
            (inner.top, (above, inside_columns), (first_row, inside_columns)),
            (inner.bottom, (below, inside_columns), (last_row, inside_columns)),
            (inner.left, (all_rows, before), (all_rows, first_column)),
            (inner.right, (all_rows, behind), (all_rows, last_column)),
        )
        copies += [
            (_plane_slice(*target), _plane_slice(*source)) for is_inner, target, source in candidates if is_inner
        ]
    return tuple(copies)


def _extended(along: slice, side: int) -> tuple[slice, slice, slice]:
    """Return a slice of `Phase.slices` in a padded side, its extension before, and its extension behind: in order."""
    first, stride = along.start + MARGIN, along.step
    last = first + (len_of_slice(along) - 1) * stride
    end = last + (side + 2 * MARGIN - 1 - last) // stride * stride + 1
    return slice(first % stride, first, stride), slice(first, last + 1, stride), slice(last + stride, end, stride)


def _line(at: int) -> slice:
    return slice(at, at + 1, 2)


def _shifted(along: slice, distance: int) -> slice:
    """Return a slice of a plane as a slice of the padded plane, shifted by `distance`."""
    return slice(along.start + MARGIN + distance, along.stop + MARGIN + distance, along.step)


def _plane_slice(rows: slice, columns: slice, channels: slice = slice(None)) -> PlaneSlice:
    """Return the index of slices, with even strides, of the padded planes."""
    return rows.start % 2, columns.start % 2, channels, _halved(rows), _halved(columns)


def _halved(along: slice) -> slice:
    first, stride = along.start // 2, along.step // 2
    return slice(first, first + len_of_slice(along) * stride, stride)
