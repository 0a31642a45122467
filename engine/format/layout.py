"""How the payload of a file is divided: tiles of the latents, and the segments of each tile."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdtrt._arrays import AnyArray

TILE_ALIGNMENT = 4  # latents: edges of tiles are multiples of the coarsest stride of passes
MIN_TILE = 32  # latents a side; a single tile may be smaller

Span = tuple[int, int]  # half-open: first, and one past the last


@dataclass(frozen=True, slots=True)
class Layout:
    """The grid of tiles, and the kinds of segments that each tile has.

    All segments of a kind are stored together, tile by tile in row-major order.

    Arguments:
        columns, rows: of the grid of tiles.
        levels: number of levels, 1 to 7, that the stream of a tile is divided into; each is a segment.
        alpha, overlay: whether each tile has such a segment.
        residual_step: quantization step of the residual layer in 1/16 of an 8-bit value; 0: no residual layer.
    """

    columns: int = 1
    rows: int = 1
    levels: int = 1
    alpha: bool = False
    overlay: bool = False
    residual_step: int = 0

    @property
    def num_tiles(self) -> int:
        return self.columns * self.rows

    @property
    def num_segments(self) -> int:
        """Number of segments of the file."""
        return self.num_tiles * len(self.kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of segments in their order. These names are part of `sdtrt info --json`."""
        levels = ["latents"] if self.levels == 1 else [f"level {level + 1}" for level in range(self.levels)]
        return (*levels, *["overlay"] * self.overlay, *["residual"] * (self.residual_step > 0), *["alpha"] * self.alpha)

    def segment_index(self, kind: int | str, tile: int) -> int:
        """Return the index of a tile's segment of a kind; `kind` is a name in `kinds` or its position there."""
        return (self.kinds.index(kind) if isinstance(kind, str) else kind) * self.columns * self.rows + tile

    def fits(self, height: int, width: int) -> bool:
        """Return whether latents of this height and width can have this many tiles."""
        return self.rows <= max_tiles(height) and self.columns <= max_tiles(width)


SINGLE = Layout()


def max_tiles(length: int) -> int:
    """Return the largest number of tiles along a side of `length` latents."""
    return max(1, length // MIN_TILE)


def tile_spans(length: int, count: int) -> list[Span]:
    """Return the spans of `count` tiles along a side of `length` latents."""
    units = -(-length // TILE_ALIGNMENT)
    edges = [TILE_ALIGNMENT * (n * units // count) for n in range(count)] + [length]
    return list(pairwise(edges))


def pixel_tiles(width: int, height: int, downscale: int, layout: Layout) -> list[tuple[Span, Span]]:
    """Return the rows and columns of pixels of each tile of an image, in row-major order."""
    row_spans, column_spans = (
        [
            (downscale * first, min(downscale * last, length))
            for first, last in tile_spans(-(-length // downscale), count)
        ]
        for length, count in ((height, layout.rows), (width, layout.columns))
    )
    return [(rows, columns) for rows in row_spans for columns in column_spans]


def overlaps(first: Span, second: Span) -> bool:
    """Return whether two spans overlap."""
    return max(first[0], second[0]) < min(first[1], second[1])


def overlapping(spans: Sequence[Span], span: Span) -> range:
    """Return the indices of the spans that overlap with `span`; `spans` are adjacent and in rising order."""
    return range(bisect_right(spans, span[0], key=itemgetter(1)), bisect_left(spans, span[1], key=itemgetter(0)))


def paste(plane: AnyArray, part: AnyArray, top: int, left: int) -> None:
    """Copy a part, (..., h, w), into a plane, (..., H, W), cropped to the plane.

    The part's first row and column go to (`top`, `left`), which may be negative.
    """
    target = plane[..., max(top, 0) : max(top + part.shape[-2], 0), max(left, 0) : max(left + part.shape[-1], 0)]
    down, right = max(-top, 0), max(-left, 0)
    target[...] = part[..., down : down + target.shape[-2], right : right + target.shape[-1]]
