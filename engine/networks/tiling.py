"""Tiling: networks see a large image one tile at a time, and the results of the tiles are cut or cross-faded.

A span is (start, stop) along one side; `stop` is excluded.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.arguments import checked_integer
from sdtrt.engine.format.container import MAX_SIDE
from sdtrt.engine.format.layout import Span, overlaps
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.kernels import core, reference

CUT_TILE = 1536  # pixels
BLEND_TILE, BLEND_OVERLAP = 1024, 128  # pixels
STRIP = 64  # rows of cross-faded planes that are converted to pixels at once

RunTile = Callable[[Span, Span], F32Array]  # from the rows and the columns of a tile to its planes, float32 (C, h, w)
IsNeeded = Callable[[Span, Span], bool]  # whether the tile with these rows and columns is needed
ReadRows = Callable[[int, int], U8Array]  # from the first row and the row after the last to RGB pixels, uint8 (n, W, 3)
Decode = Callable[[DecodeRequest], F32Array]  # from the latents of a tile to its planes, float32 (3, h, w)
ProgressCallback = Callable[[int, int], None]  # takes the number of finished tiles of an image, and of all its tiles


@dataclass(frozen=True, slots=True)
class Tiling:
    """The size of tiles, and the overlap of neighbours, in latents.

    Cut tiles end in the middle of the overlap. They give the same planes as the whole image, if the receptive radius
    of the networks is at most half the overlap. Other tiles are cross-faded over the whole overlap.

    Attributes:
        tile: height and width of a tile, at least 1 and at least three times the overlap.
        overlap: the least overlap of neighbours, 0 or more.
        cut: whether tiles are cut.

    Raises:
        ValueError: the overlap is negative, or the tile is too small.
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
        """Return a tiling that cross-fades. Tiles that were cut get `overlap` latents, or a third of the tile."""
        return Tiling(self.tile, max(self.overlap, min(overlap, self.tile // 3))) if self.cut else self

    def spans(self, length: int, multiple: int = 1) -> list[Span]:
        """Return the tiles along a side, in order. All have the same length, and together they cover the side.

        Arguments:
            length: latents along the side, a multiple of `multiple`.
            multiple: starts and lengths of tiles are multiples of it.
        """
        if length <= self.tile:
            return [(0, length)]
        overlap = round_up(self.overlap, multiple)
        tile = max(round_up(self.tile, multiple), 3 * overlap)
        if length <= tile:
            return [(0, length)]
        count = -(-(length - overlap) // (tile - overlap))
        size = round_up(-(-(length + (count - 1) * overlap) // count), multiple)
        starts = [n * (length - size) // ((count - 1) * multiple) * multiple for n in range(count)]
        return [(start, start + size) for start in starts]

    def blend_windows(self, spans: list[Span], scale: int) -> list[F32Array]:
        """Return the weights of each tile along a side, float32 (size,). At each place the weights add up to 1.

        Arguments:
            spans: the tiles, in latents.
            scale: weights for each latent.
        """
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
        """Return the part of each cut tile that is used. The parts cover the side without an overlap.

        Arguments:
            spans: the tiles, in latents.
            scale: pixels for each latent.
        """
        edges = [scale * spans[0][0]]
        for (_, stop), (start, _) in pairwise(spans):
            edges.append(scale * start + scale * (stop - start) // 2)
        return list(pairwise([*edges, scale * spans[-1][1]]))

    def bands(
        self,
        height: int,
        width: int,
        run: RunTile,
        *,
        scale: int,
        multiple: int = 1,
        is_needed: IsNeeded | None = None,
    ) -> Iterator[tuple[int, F32Array]]:
        """Yield (first row, planes) of bands from top to bottom; planes are float32 (C, n, scale * width).

        Arguments:
            height, width: latents.
            run: gives the planes of a tile.
            scale: rows and columns of planes for each latent.
            multiple: as in `spans`.
            is_needed: tiles that are not needed count as zeros. A band without needed tiles is not yielded.
        """
        rows, columns = self.spans(height, multiple), self.spans(width, multiple)
        if len(rows) == len(columns) == 1:
            yield 0, run(rows[0], columns[0])
            return
        windows_y, windows_x = self.blend_windows(rows, scale), self.blend_windows(columns, scale)
        band, top = None, 0
        for n, (row, window_y) in enumerate(zip(rows, windows_y, strict=True)):
            for column, window_x in zip(columns, windows_x, strict=True):
                if is_needed and not is_needed(row, column):
                    continue
                planes = run(row, column)
                if band is None:
                    band = np.zeros((len(planes), len(window_y), width * scale), np.float32)
                reference.blend(band, planes, window_y, window_x, 0, column[0] * scale)
            next_top = rows[n + 1][0] * scale if n + 1 < len(rows) else row[1] * scale
            if band is not None:
                yield top, band[:, : next_top - top]
                next_band = np.zeros_like(band)
                next_band[:, : band.shape[1] - (next_top - top)] = band[:, next_top - top :]
                band = next_band
            top = next_top


@dataclass(frozen=True, slots=True)
class TiledRunner:
    """A bundle and its tiling.

    Attributes:
        progress: called before the first tile of an image and after each tile; None for no calls.
    """

    bundle: Bundle
    tiling: Tiling
    progress: ProgressCallback | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        tile: int | None = None,
        overlap: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Return a bundle with the tiling of `choose_tiling`, which has the arguments and the errors."""
        return cls(bundle, choose_tiling(bundle, tile, overlap), progress)

    def fits_one_tile(self, height: int, width: int) -> bool:
        """Return whether latents of a size are one tile."""
        return max(height, width) <= self.tiling.tile

    def analyse_tiled(
        self, rows: ReadRows, height: int, width: int, encode: Callable[[U8Array], F32Array]
    ) -> Iterator[F32Array]:
        """Yield the latents of an image from top to bottom, float32 (C, n, w).

        Arguments:
            rows: gives the pixels of rows, from top to bottom. Overlapping tiles ask for some rows twice.
            height, width: pixels.
            encode: gives the latents of the pixels of a tile, uint8 (H, W, 3).
        """
        scale = self.bundle.latent_profile.downscale

        def encode_tile(down: Span, across: Span) -> F32Array:
            return encode(rows(scale * down[0], min(scale * down[1], height))[:, scale * across[0] : scale * across[1]])

        sides = -(-height // scale), -(-width // scale)
        run = self._with_progress(encode_tile, math.prod(len(self.tiling.spans(side)) for side in sides))
        for _, band in self.tiling.bands(*sides, run, scale=1):
            yield band

    def synthesise(self, image: DecodeRequest, decode: Decode) -> U8Array:
        """Return the RGB pixels of an image, uint8 (H, W, 3); `decode` gives the planes of a tile."""
        height, width = image.header.height, image.header.width
        if not self.fits_one_tile(*image.latents.shape[1:]):
            return np.concatenate([*self.synthesise_tiled(image, decode, (0, height), (0, width))])
        if self.progress is not None:
            self.progress(0, 1)
        planes = decode(image)
        if self.progress is not None:
            self.progress(1, 1)
        return core.planes_to_pixels(planes, width, height, *self.bundle.pixel_range)

    def synthesise_tiled(self, image: DecodeRequest, decode: Decode, rows: Span, columns: Span) -> Iterator[U8Array]:
        """Yield RGB pixels in some rows and columns of an image from top to bottom, uint8 (n, W, 3).

        The pixels are those of the whole image. Only the tiles that they depend on are decoded.

        Arguments:
            decode: gives the planes of a tile.
            rows, columns: pixels.
        """
        if self.tiling.cut and not image.trajectory:
            return self._cut_tiles(image, decode, rows, columns)
        return self._blended_tiles(image, decode, rows, columns)

    def _cut_tiles(self, image: DecodeRequest, decode: Decode, rows: Span, columns: Span) -> Iterator[U8Array]:
        scale, (_, height, width) = self.bundle.latent_profile.downscale, image.latents.shape
        down, across = self._cut_tile_spans(rows, height), self._cut_tile_spans(columns, width)
        used_down, used_across = self.tiling.cut_spans(down, scale), self.tiling.cut_spans(across, scale)
        run = self._with_progress(lambda *tile: decode(image.crop(*tile)), len(down) * len(across))
        for tile_rows, used_rows in zip(down, used_down, strict=True):
            top, bottom = max(used_rows[0], rows[0]), min(used_rows[1], rows[1])
            strip = np.empty((bottom - top, columns[1] - columns[0], 3), np.uint8)
            for tile_columns, used_columns in zip(across, used_across, strict=True):
                left, right = max(used_columns[0], columns[0]), min(used_columns[1], columns[1])
                planes = run(tile_rows, tile_columns)[:, top - scale * tile_rows[0] :, left - scale * tile_columns[0] :]
                strip[:, left - columns[0] : right - columns[0]] = core.planes_to_pixels(
                    planes, right - left, bottom - top, *self.bundle.pixel_range
                )
            yield strip

    def _cut_tile_spans(self, pixels: Span, length: int) -> list[Span]:
        """Return the tiles that some pixels along a side depend on, in latents; the side has `length` latents."""
        scale, radius = self.bundle.latent_profile.downscale, self.bundle.receptive_radius or 0
        first, last = max(pixels[0] // scale - radius, 0), min(-(-pixels[1] // scale) + radius, length)
        return [(first + start, first + stop) for start, stop in self.tiling.spans(last - first)]

    def _blended_tiles(self, image: DecodeRequest, decode: Decode, rows: Span, columns: Span) -> Iterator[U8Array]:
        multiple, scale = 1, self.bundle.latent_profile.downscale
        tiling = self.tiling.blend(BLEND_OVERLAP // scale)
        if image.trajectory and self.bundle.unet:  # the receptive field of a UNet is the whole tile
            multiple = self.bundle.unet.multiple
        _, height, width = image.latents.shape

        def is_needed(down: Span, across: Span) -> bool:
            sides = ((down, rows), (across, columns))
            return all(overlaps((scale * first, scale * last), span) for (first, last), span in sides)

        tiles = [(y, x) for y in tiling.spans(height, multiple) for x in tiling.spans(width, multiple)]
        run = self._with_progress(lambda *tile: decode(image.crop(*tile)), sum(is_needed(*tile) for tile in tiles))
        bands = tiling.bands(height, width, run, scale=scale, multiple=multiple, is_needed=is_needed)
        for top, band in bands:
            for first in range(max(top, rows[0]), min(top + band.shape[1], rows[1]), STRIP):
                last = min(first + STRIP, top + band.shape[1], rows[1])
                planes = band[:, first - top :, columns[0] :]
                yield core.planes_to_pixels(planes, columns[1] - columns[0], last - first, *self.bundle.pixel_range)

    def _with_progress(self, run: RunTile, total: int) -> RunTile:
        if self.progress is None:
            return run
        progress, done = self.progress, 0
        progress(0, total)

        def run_and_report(rows: Span, columns: Span) -> F32Array:
            nonlocal done
            planes = run(rows, columns)
            done += 1
            progress(done, total)
            return planes

        return run_and_report


def choose_tiling(bundle: Bundle, tile: int | None = None, overlap: int | None = None) -> Tiling:
    """Return the tiling for the networks of a bundle: cut tiles if the overlap allows it, else cross-faded tiles.

    Arguments:
        tile: pixels, or 0 for one tile of any size. None is 1536 where the receptive radius is known, else 1024.
        overlap: pixels. None is twice the receptive radius, or 128 where the radius is not known.

    Raises:
        TypeError: `tile` or `overlap` is not an integer.
        ValueError: a number is negative, or `tile` is less than three times `overlap`.
    """
    scale, radius = bundle.latent_profile.downscale, bundle.receptive_radius
    if tile is None:
        tile = BLEND_TILE if radius is None else CUT_TILE
    if overlap is None:
        overlap = BLEND_OVERLAP if radius is None else 2 * radius * scale
    tile, overlap = checked_integer("tile", tile, 0), checked_integer("overlap", overlap, 0)
    if 0 < tile < 3 * overlap or 0 < tile < scale:
        raise ValueError(f"tiles of {tile} pixels that overlap by {overlap}: they must be three times as large")
    latents = -(-overlap // scale)
    side = max(tile // scale, 3 * latents) if tile else MAX_SIDE
    return Tiling(side, latents, cut=radius is not None and latents >= 2 * radius)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def rows_of(pixels: U8Array) -> ReadRows:
    """Return the `ReadRows` of an image in memory, uint8 (H, W, 3)."""
    return lambda first, last: pixels[first:last]
