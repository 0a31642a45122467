"""The order in which symbols are coded: passes over channels and interleaved subsets of the plane.

Within a pass nothing depends on anything else of that pass, so a pass is arithmetic on whole arrays. All of this is
part of the format: `docs/format.md`, "Passes".
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
    """A subset of the plane: every `stride`-th row and column from each of `offsets`."""

    stride: int
    offsets: tuple[Offset, ...]

    def slices(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the plane's row and column slices of this phase, one pair for each origin that lies inside."""
        inside = [(y, x) for y, x in self.offsets if y < height and x < width]
        return [(slice(y, height, self.stride), slice(x, width, self.stride)) for y, x in inside]

    def covers(self, y: int, x: int) -> bool:
        return (y % self.stride, x % self.stride) in self.offsets


# Coarse to fine: every phase after the first lies between symbols already known on both sides.
PYRAMID = (
    Phase(4, ((0, 0),)),
    Phase(4, ((2, 2),)),
    Phase(4, ((0, 2), (2, 0))),
    Phase(2, ((1, 1),)),
    Phase(2, ((0, 1), (1, 0))),
)
CHECKERBOARD = (Phase(2, ((0, 0), (1, 1))), Phase(2, ((0, 1), (1, 0))))


class Pass(Protocol):
    """Channels `start` to `stop` (in coding order) at the positions of `phase`; see `LatentPass` for `predicted`."""

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
    """Return those passes that have positions in a plane, each with its number among all."""
    return [
        (number, coding_pass) for number, coding_pass in enumerate(passes) if coding_pass.phase.slices(height, width)
    ]


@lru_cache(1024)
def positions_of(phase: Phase, height: int, width: int) -> tuple[tuple[slice, slice, slice], ...]:
    """Return each origin's share of a phase's positions, with its rows and columns."""
    parts = []
    first = 0
    for rows, columns in phase.slices(height, width):
        last = first + len_of_slice(rows) * len_of_slice(columns)
        parts.append((slice(first, last), rows, columns))
        first = last
    return tuple(parts)


def len_of_slice(along: slice) -> int:
    """Return how many rows or columns a slice of `Phase.slices` takes."""
    return len(range(along.start, along.stop, along.step))


@dataclass(frozen=True, slots=True)
class InnerEdges:
    """Which edges of a tile lie within the image."""

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False


NO_INNER_EDGES = InnerEdges()  # of an image of a single tile


def gather(planes: AnyArray, coding_pass: Pass) -> AnyArray:
    """Return a pass's share of planes (C, h, w) in coding order: (channels of the pass, positions)."""
    parts = positions_of(coding_pass.phase, *planes.shape[1:])
    taken = np.empty((coding_pass.stop - coding_pass.start, parts[-1][0].stop), planes.dtype)
    for part, rows, columns in parts:
        taken[:, part] = planes[coding_pass.start : coding_pass.stop, rows, columns].reshape(
            len(taken), part.stop - part.start
        )
    return taken


def gather_plane(plane: AnyArray, coding_pass: Pass) -> AnyArray:
    """Return a pass's share of one plane (h, w), that all channels see: (positions,)."""
    parts = positions_of(coding_pass.phase, *plane.shape)
    return np.concatenate([plane[rows, columns].ravel() for _, rows, columns in parts])


def scatter(planes: AnyArray, coding_pass: Pass, values: AnyArray) -> None:
    """Put back what `gather` took."""
    for part, rows, columns in positions_of(coding_pass.phase, *planes.shape[1:]):
        into = planes[coding_pass.start : coding_pass.stop, rows, columns]
        into[...] = values[:, part].reshape(into.shape)


def undo_channel_order(planes: AnyArray, order: IndexArray) -> AnyArray:
    """Return planes in coding order, `original[order]`, in the original order."""
    original = np.empty_like(planes)
    original[order] = planes
    return original
