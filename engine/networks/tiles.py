"""Large planes in tiles: where they lie, and how what comes of them is cross-faded, a band of rows at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.format.arguments import checked_integer
from sdtrt.engine.format.container import MAX_SIDE
from sdtrt.engine.format.layout import Span
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.kernels import reference

CUT_TILE = 1536  # pixels
BLEND_TILE, BLEND_OVERLAP = 1024, 128

Work = Callable[[Span, Span], F32Array]  # rows and columns of a tile to its planes, float32 (C, h, w)
IsWanted = Callable[[Span, Span], bool]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large tiles are, and by how much neighbours overlap at least, in latents.

    If networks look no farther than half the overlap, tiles can be `cut` in its middle: all that is kept is as it would
    be without tiles. Else they fade into each other over the whole overlap.
    """

    tile: int
    overlap: int
    cut: bool = False

    def __post_init__(self) -> None:
        if not 0 <= 3 * self.overlap <= self.tile or self.tile < 1:
            raise ValueError(
                f"tiles of {self.tile} latents that overlap by {self.overlap}: they must be three times as large"
            )

    def blend(self, overlap: int) -> "Tiling":
        """Return tiles that fade: where they were cut, over `overlap` latents at least if they have room for it."""
        return Tiling(self.tile, max(self.overlap, min(overlap, self.tile // 3))) if self.cut else self

    def spans(self, length: int, multiple: int = 1) -> list[Span]:
        """Return the tiles along one side of so many latents: all of one length, in order, to the very ends.

        Lengths and starts are multiples of `multiple`; `length` must be one, too.
        """
        overlap = round_up(self.overlap, multiple)
        tile = max(round_up(self.tile, multiple), 3 * overlap)
        if length <= tile:
            return [(0, length)]
        count = -(-(length - overlap) // (tile - overlap))
        size = round_up(-(-(length + (count - 1) * overlap) // count), multiple)
        starts = [n * (length - size) // ((count - 1) * multiple) * multiple for n in range(count)]
        return [(start, start + size) for start in starts]

    def blend_windows(self, spans: list[Span], scale: int) -> list[F32Array]:
        """Return each tile's weights, float32 (size,), `scale` for each latent; those of all tiles add up to 1."""
        weights = [np.ones((stop - start) * scale, np.float32) for start, stop in spans]
        for n in range(1, len(spans)):
            overlap = (spans[n - 1][1] - spans[n][0]) * scale
            position = np.arange(overlap, dtype=np.float32)
            ramp = (
                (position >= overlap // 2) if self.cut else (position + np.float32(0.5)) / np.float32(max(overlap, 1))
            )
            weights[n][:overlap] *= ramp
            weights[n - 1][len(weights[n - 1]) - overlap :] *= 1 - ramp.astype(np.float32)
        return weights

    def cut_spans(self, spans: list[Span], scale: int) -> list[Span]:
        """Return what is kept of each tile if they are cut, `scale` for each latent: together all, nothing twice."""
        edges = [scale * spans[0][0]]
        for (_, stop), (start, _) in pairwise(spans):
            edges.append(scale * start + scale * (stop - start) // 2)
        return list(pairwise([*edges, scale * spans[-1][1]]))

    def bands(
        self, height: int, width: int, work: Work, *, scale: int, multiple: int = 1, is_wanted: IsWanted | None = None
    ) -> Iterator[tuple[int, F32Array]]:
        """Yield (first row, planes) of bands that make up the whole, float32 (C, rows, scale * width).

        `height` and `width` are in latents; `work` gives a tile's planes, `scale` pixels for each latent. Tiles that
        are not wanted count as 0, and bands of none but such are left out.
        """
        rows, columns = self.spans(height, multiple), self.spans(width, multiple)
        if len(rows) == len(columns) == 1:
            yield 0, work(rows[0], columns[0])
            return
        windows_y, windows_x = self.blend_windows(rows, scale), self.blend_windows(columns, scale)
        band, top = None, 0
        for n, (row, window_y) in enumerate(zip(rows, windows_y, strict=True)):
            for column, window_x in zip(columns, windows_x, strict=True):
                if is_wanted and not is_wanted(row, column):
                    continue
                planes = work(row, column)
                if band is None:
                    band = np.zeros((len(planes), len(window_y), width * scale), np.float32)
                reference.blend(band, planes, window_y, window_x, 0, column[0] * scale)
            following = rows[n + 1][0] * scale if n + 1 < len(rows) else row[1] * scale
            if band is not None:
                yield top, band[:, : following - top]
                carried = np.zeros_like(band)
                carried[:, : band.shape[1] - (following - top)] = band[:, following - top :]
                band = carried
            top = following


def tiling_of(bundle: Bundle, tile: int | None = None, overlap: int | None = None) -> Tiling:
    """Return the tiling for a bundle's networks, sides given in pixels; a tile of 0 is never exceeded.

    By default tiles are cut where the bundle says how far its networks look, and fade where it does not.
    Raises `ValueError` if tiles are not at least three times as large as their overlap.
    """
    scale, reach = bundle.latent_profile().downscale, bundle.receptive_radius
    if tile is None:
        tile = BLEND_TILE if reach is None else CUT_TILE
    if overlap is None:
        overlap = BLEND_OVERLAP if reach is None else 2 * reach * scale
    tile, overlap = checked_integer("tile", tile, 0), checked_integer("overlap", overlap, 0)
    if 0 < tile < 3 * overlap or 0 < tile < scale:
        raise ValueError(f"tiles of {tile} pixels that overlap by {overlap}: they must be three times as large")
    latents = -(-overlap // scale)
    side = max(tile // scale, 3 * latents) if tile else MAX_SIDE
    return Tiling(side, latents, cut=reach is not None and latents >= 2 * reach)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
