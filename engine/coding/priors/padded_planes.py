"""What is known of planes, and of a margin around them, so stored that passes see it fast."""

from functools import lru_cache

import numpy as np

from sdtrt._arrays import AnyArray, F32Array
from sdtrt.engine.coding.priors.passes import InnerEdges, Pass, Phase, len_of_slice, positions_of

MARGIN = 4  # how far a tap may reach beyond the plane

PlaneSlice = tuple[
    int, int, slice, slice, slice
]  # in `PaddedPlanes`: parities of rows and columns, channels, rows, columns


class PaddedPlanes:
    """Planes (C, h, w) with a margin, int in float32 arrays, rows and columns of each parity kept together.

    All passes but the coarsest have every other row and column, so that each of their rows is one run of memory.
    """

    def __init__(self, shape: tuple[int, int, int], inner: InnerEdges) -> None:
        channels, self._height, self._width = shape
        sides = ((side + 2 * MARGIN + 1) // 2 for side in shape[1:])
        self._values = np.zeros((2, 2, channels, *sides), np.float32)
        self._inner = inner

    def __getitem__(self, place: PlaneSlice) -> F32Array:
        return self._values[place]

    def put(self, coding_pass: Pass, values: AnyArray) -> None:
        """Store a pass's values, (channels of the pass, positions), and those for the margins."""
        own = self._values[:, :, coding_pass.start : coding_pass.stop]
        for part, place in _inside(coding_pass.phase, self._height, self._width):
            stored = own[place]
            stored[...] = values[:, part].reshape(stored.shape)
        for into, source in _margins(coding_pass.phase, self._height, self._width, self._inner):
            own[into] = own[source]


def neighbour_slice(rows: slice, columns: slice, dy: int, dx: int, channels: slice) -> PlaneSlice:
    """Return where `PaddedPlanes` has what lies (dy, dx) away from the rows and columns of a pass, within the margin."""
    return _place(_moved(rows, dy), _moved(columns, dx), channels)


@lru_cache(1024)
def _inside(phase: Phase, height: int, width: int) -> tuple[tuple[slice, PlaneSlice], ...]:
    """Return each origin's share of a phase's positions, and its place."""
    every = slice(None)
    return tuple(
        (part, neighbour_slice(rows, columns, 0, 0, every))
        for part, rows, columns in positions_of(phase, height, width)
    )


@lru_cache(1024)
def _margins(phase: Phase, height: int, width: int, inner: InnerEdges) -> tuple[tuple[PlaneSlice, PlaneSlice], ...]:
    """Return where a phase's values that lie beyond inner edges go, and from where they are taken, in order.

    They are those of the nearest row and column that the phase has within the plane.
    """
    found = []
    for rows, columns in phase.slices(height, width):
        (above, down, below), (before, across, behind) = (
            _edges(along, side) for along, side in ((rows, height), (columns, width))
        )
        first, last = _line(down.start), _line(down.stop - 1)
        left, right = _line(across.start), _line(across.stop - 1)
        whole = slice(above.start, below.stop, phase.stride)
        edges = (
            (inner.top, (above, across), (first, across)),
            (inner.bottom, (below, across), (last, across)),
            (inner.left, (whole, before), (whole, left)),
            (inner.right, (whole, behind), (whole, right)),
        )
        found += [(_place(*into), _place(*source)) for is_inner, into, source in edges if is_inner]
    return tuple(found)


def _edges(along: slice, side: int) -> tuple[slice, slice, slice]:
    """Return a slice of `Phase.slices` within a side with margins, what goes on with it before, and behind."""
    first, coding_pass = along.start + MARGIN, along.step
    last = first + (len_of_slice(along) - 1) * coding_pass
    behind = slice(
        last + coding_pass, last + (side + 2 * MARGIN - 1 - last) // coding_pass * coding_pass + 1, coding_pass
    )
    return slice(first % coding_pass, first, coding_pass), slice(first, last + 1, coding_pass), behind


def _line(at: int) -> slice:
    return slice(at, at + 1, 2)


def _moved(along: slice, distance: int) -> slice:
    """Return a slice of a plane as one of a plane with margins, moved by `distance`."""
    return slice(along.start + MARGIN + distance, along.stop + MARGIN + distance, along.step)


def _place(rows: slice, columns: slice, channels: slice = slice(None)) -> PlaneSlice:
    """Return the place of slices, of even steps, of planes with margins."""
    return rows.start % 2, columns.start % 2, channels, _halved(rows), _halved(columns)


def _halved(along: slice) -> slice:
    first, coding_pass = along.start // 2, along.step // 2
    return slice(first, first + len_of_slice(along) * coding_pass, coding_pass)
