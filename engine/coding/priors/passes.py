"""The order in which symbols are coded: passes over channels and interleaved subsets of positions.

The context of a symbol does not depend on other symbols of its pass, so that a pass is computed on whole arrays. All of
this is part of the format: `docs/format.md`, section 3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np

from sdtrt._arrays import AnyArray, IndexArray

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
