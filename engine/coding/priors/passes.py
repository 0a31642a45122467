"""The order in which symbols are coded: passes over channels and interleaved subsets of positions; the walk over them.

The context of a symbol does not depend on other symbols of its pass, so that a pass is computed on whole arrays. It
depends on the symbols of earlier passes, which `PaddedPlanes` hold. All of this is part of the format:
`docs/format.md`, section 3.3.

`walk_passes` is the one loop over passes that encoder, decoder, searches and fitting share: get the context of a pass,
choose or read its symbols, hand the symbols over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from sdtrt._arrays import AnyArray, F32Array, I32Array, IndexArray

if TYPE_CHECKING:
    from sdtrt.engine.coding.priors.prior import Prior
    from sdtrt.engine.coding.priors.tables import Context

Offset = tuple[int, int]  # (rows, columns)


@dataclass(frozen=True, slots=True)
class Phase:
    """A subset of the positions of a plane: from each of `offsets`, every `stride`-th row and column."""

    stride: int
    offsets: tuple[Offset, ...]

    def slices(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the slices of rows and columns of this phase, a pair for each offset that lies inside the plane."""
        inside = [(y, x) for y, x in self.offsets if y < height and x < width]
        return [(slice(y, height, self.stride), slice(x, width, self.stride)) for y, x in inside]

    def covers(self, y: int, x: int) -> bool:
        return (y % self.stride, x % self.stride) in self.offsets


# From coarse to fine: the positions of each phase lie between positions of earlier phases.
PYRAMID = (
    Phase(4, ((0, 0),)),
    Phase(4, ((2, 2),)),
    Phase(4, ((0, 2), (2, 0))),
    Phase(2, ((1, 1),)),
    Phase(2, ((0, 1), (1, 0))),
)
CHECKERBOARD = (Phase(2, ((0, 0), (1, 1))), Phase(2, ((0, 1), (1, 0))))


class Pass(Protocol):
    """A pass over channels `start` to `stop` (in coding order) at the positions of `phase`.

    If it is `predicted`, symbols are coded relative to the prior's prediction, see `LatentPass`.
    """

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def predicted(self) -> bool: ...


P = TypeVar("P", bound=Pass)


def non_empty(passes: Sequence[P], height: int, width: int) -> list[tuple[int, P]]:
    """Return the passes that have positions in a plane of this size, each with its index among all passes."""
    return [
        (number, coding_pass) for number, coding_pass in enumerate(passes) if coding_pass.phase.slices(height, width)
    ]


@lru_cache(1024)
def positions_of(phase: Phase, height: int, width: int) -> tuple[tuple[slice, slice, slice], ...]:
    """Return the part of a phase's positions that each offset has, in coding order, with its rows and columns."""
    parts = []
    first = 0
    for rows, columns in phase.slices(height, width):
        last = first + len_of_slice(rows) * len_of_slice(columns)
        parts.append((slice(first, last), rows, columns))
        first = last
    return tuple(parts)


def len_of_slice(along: slice) -> int:
    """Return the number of rows or columns in a slice of `Phase.slices`."""
    return len(range(along.start, along.stop, along.step))


@dataclass(frozen=True, slots=True)
class InnerEdges:
    """The edges of a tile that border another tile."""

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False


NO_INNER_EDGES = InnerEdges()  # in an image of a single tile


def gather(planes: AnyArray, coding_pass: Pass) -> AnyArray:
    """Return the values of a pass, (channels of the pass, positions), from planes (C, h, w) in coding order."""
    parts = positions_of(coding_pass.phase, *planes.shape[1:])
    channels = slice(coding_pass.start, coding_pass.stop)
    values = np.empty((coding_pass.stop - coding_pass.start, parts[-1][0].stop), planes.dtype)
    for part, rows, columns in parts:
        values[:, part] = planes[channels, rows, columns].reshape(len(values), part.stop - part.start)
    return values


def gather_plane(plane: AnyArray, coding_pass: Pass) -> AnyArray:
    """Return the values of a pass, (positions,), from one plane (h, w) that all channels share."""
    parts = positions_of(coding_pass.phase, *plane.shape)
    return np.concatenate([plane[rows, columns].ravel() for _, rows, columns in parts])


def scatter(planes: AnyArray, coding_pass: Pass, values: AnyArray) -> None:
    """Write the values of a pass into planes: the inverse of `gather`."""
    for part, rows, columns in positions_of(coding_pass.phase, *planes.shape[1:]):
        target = planes[coding_pass.start : coding_pass.stop, rows, columns]
        target[...] = values[:, part].reshape(target.shape)


def undo_channel_order(planes: AnyArray, order: IndexArray) -> AnyArray:
    """Return planes in their original order, from planes in coding order, `original[order]`."""
    original = np.empty_like(planes)
    original[order] = planes
    return original


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


@dataclass(slots=True, eq=False)
class PassVisit:
    """One pass of a walk.

    Attributes:
        number: index of the pass among all passes of the prior, also those without positions in this tile.
        coding_pass: channels and positions of the pass.
        planes: the symbols that are known so far, in the form that the prior keeps them.
    """

    number: int
    coding_pass: Pass
    planes: Any
    _prior: "Prior"
    _origin: I32Array | None = None

    def context(self) -> "Context":
        """Compute the context of the pass from the symbols that were put so far. Each call runs the prior."""
        context = self._prior.context(self.coding_pass, self.planes, self.number)
        self._origin = context.origin
        return context

    def put(self, symbols: I32Array) -> None:
        """Make the symbols of the pass known to later passes.

        Arguments:
            symbols: int32 (channels of the pass, positions). The symbols of a predicted pass are relative to the origin
                of its context, so `context` must have been called before.
        """
        self.planes.put(self.coding_pass, symbols, self._origin)


def walk_passes(
    prior: "Prior", shape: tuple[int, int, int], step_code: int, edges: InnerEdges = NO_INNER_EDGES
) -> Iterator[PassVisit]:
    """Yield the passes that have positions in a tile, from coarse to fine.

    A pass whose symbols are all 0 need not be put, unless it is predicted: unknown symbols count as 0.

    Arguments:
        prior: the entropy model.
        shape: (channels, rows, columns) of the tile's latents.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """
    planes = prior.planes(shape, step_code, edges)
    for number, coding_pass in non_empty(prior.passes(shape[0]), *shape[1:]):
        yield PassVisit(number, coding_pass, planes, prior)
