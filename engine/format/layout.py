"""How a file's payload is divided: tiles of the latent plane, and for each a segment of every kind."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

from sdtrt._arrays import AnyArray

TILE_ALIGNMENT = 4  # latents: edges of tiles are multiples, as positions of passes are
MIN_TILE = 32  # latents a side, but for planes of a single tile

Span = tuple[int, int]  # first, and one behind the last


@dataclass(frozen=True, slots=True)
class Layout:
    """Tiles across and down, and of what kinds each has a segment: its stream's `levels`, and what else there is.

    Segments are stored kind after kind, in each tile after tile, row by row. `residual` is the step of the residual
    layer in 1/16 level, 0 where there is none.
    """

    columns: int = 1
    rows: int = 1
    levels: int = 1
    alpha: bool = False
    overlay: bool = False
    residual: int = 0

    @property
    def tiles(self) -> int:
        return self.columns * self.rows

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return self.tiles * len(self.kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What kinds of segments there are, in their order."""
        levels = ["latents"] if self.levels == 1 else [f"level {level + 1}" for level in range(self.levels)]
        return (*levels, *["overlay"] * self.overlay, *["residual"] * (self.residual > 0), *["alpha"] * self.alpha)

    def segment(self, kind: int | str, tile: int) -> int:
        """Return the number of a tile's segment of a kind, which is a number or a name in `kinds`."""
        return (self.kinds.index(kind) if isinstance(kind, str) else kind) * self.tiles + tile

    def fits(self, height: int, width: int) -> bool:
        """Return whether a plane of so many latents may be divided so."""
        return self.rows <= max_tiles(height) and self.columns <= max_tiles(width)


SINGLE = Layout()


def max_tiles(length: int) -> int:
    """Return into how many tiles a side of so many latents may be divided at most."""
    return max(1, length // MIN_TILE)


def tile_spans(length: int, count: int) -> list[Span]:
    """Return `count` tiles along a side of so many latents."""
    grains = -(-length // TILE_ALIGNMENT)
    edges = [TILE_ALIGNMENT * (n * grains // count) for n in range(count)] + [length]
    return list(pairwise(edges))


def overlaps(first: Span, second: Span) -> bool:
    """Return whether two spans have anything in common."""
    return max(first[0], second[0]) < min(first[1], second[1])


def overlapping(tile_spans: Sequence[Span], span: Span) -> range:
    """Return the numbers of those spans, of some side by side, that have anything in common with one."""
    return range(
        bisect_right(tile_spans, span[0], key=itemgetter(1)), bisect_left(tile_spans, span[1], key=itemgetter(0))
    )


def paste(plane: AnyArray, part: AnyArray, top: int, left: int) -> None:
    """Put what of a part, (..., h, w), lies within a plane, (..., H, W), where it belongs."""
    into = plane[..., max(top, 0) : max(top + part.shape[-2], 0), max(left, 0) : max(left + part.shape[-1], 0)]
    down, right = max(-top, 0), max(-left, 0)
    into[...] = part[..., down : down + into.shape[-2], right : right + into.shape[-1]]
