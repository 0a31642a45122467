"""Whole pictures, and parts of them, through networks that see one tile at a time, wherever the networks run."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.format.layout import Span, meet
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiles import FADED_OVERLAP, Tiling, Work, tiling_of
from sdtrt.kernels import reference

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Report = Callable[[int, int], None]  # told how many tiles of a picture are done, and how many there are
Rows = Callable[[int, int], Pixels]  # from first and last row (excluded) to RGB pixels, uint8 (rows, W, 3)

STRIP = 64  # rows of cross-faded tiles that are turned into pixels at once


@dataclass(frozen=True, slots=True)
class Tiled:
    """A bundle's tiling; `report`, if given, is told of a picture's tiles before the first and after each."""

    bundle: Bundle
    tiling: Tiling
    report: Report | None = None

    @classmethod
    def of(
        cls, bundle: Bundle, tile: int | None = None, overlap: int | None = None, report: Report | None = None
    ) -> Self:
        """Return a bundle with its tiling; arguments and errors as in `tiling_of`."""
        return cls(bundle, tiling_of(bundle, tile, overlap), report)

    @property
    def scale(self) -> int:
        return self.bundle.latent_profile().downscale

    def is_one(self, height: int, width: int) -> bool:
        """Return whether latents of such a size are one tile."""
        return max(height, width) <= self.tiling.tile

    def latents(self, rows: Rows, height: int, width: int, encode: Callable[[Pixels], Floats]) -> Iterator[Floats]:
        """Yield the latents, float32 (C, n, w), of a picture of so many pixels, from top to bottom.

        `rows` gives its pixels, from top to bottom, some twice; `encode` gives the latents of a tile.
        """
        scale = self.scale

        def work(down: Span, across: Span) -> Floats:
            return encode(rows(scale * down[0], min(scale * down[1], height))[:, scale * across[0] : scale * across[1]])

        sides = -(-height // scale), -(-width // scale)
        told = self._reported(work, math.prod(len(self.tiling.spans(side)) for side in sides))
        for _, band in self.tiling.bands(*sides, told, scale=1):
            yield band

    def pixels(
        self, picture: Parsed, decode: Callable[[Parsed], Floats], rows: Span, columns: Span
    ) -> Iterator[Pixels]:
        """Yield RGB pixels of a picture, uint8 (n, W, 3), in some rows and columns, from top to bottom.

        `decode` gives a tile's planes, float32 (3, h, w). Where tiles are cut the networks see what they need for these
        rows and columns alone; else the tiles that they touch. Either way pixels are those of the whole picture.
        """
        if self.tiling.cut and not picture.trajectory:
            return self._cut(picture, decode, rows, columns)
        return self._faded(picture, decode, rows, columns)

    def _cut(self, picture: Parsed, decode: Callable[[Parsed], Floats], rows: Span, columns: Span) -> Iterator[Pixels]:
        scale, (_, height, width) = self.scale, picture.shape
        down, across = (self._spans(span, length) for span, length in ((rows, height), (columns, width)))
        kept_down, kept_across = self.tiling.kept(down, scale), self.tiling.kept(across, scale)
        told = self._reported(lambda *place: decode(picture.part(*place)), len(down) * len(across))
        for tile_rows, kept in zip(down, kept_down, strict=True):
            top, bottom = max(kept[0], rows[0]), min(kept[1], rows[1])
            strip = np.empty((bottom - top, columns[1] - columns[0], 3), np.uint8)
            for tile_columns, beside in zip(across, kept_across, strict=True):
                left, right = max(beside[0], columns[0]), min(beside[1], columns[1])
                planes = told(tile_rows, tile_columns)[
                    :, top - scale * tile_rows[0] :, left - scale * tile_columns[0] :
                ]
                strip[:, left - columns[0] : right - columns[0]] = self._finished(planes, bottom - top, right - left)
            yield strip

    def _spans(self, pixels: Span, length: int) -> list[Span]:
        """Return the tiles, in latents, that decide some pixels along a side of `length` latents."""
        reach = self.bundle.reach or 0
        first, last = max(pixels[0] // self.scale - reach, 0), min(-(-pixels[1] // self.scale) + reach, length)
        return [(first + start, first + stop) for start, stop in self.tiling.spans(last - first)]

    def _faded(
        self, picture: Parsed, decode: Callable[[Parsed], Floats], rows: Span, columns: Span
    ) -> Iterator[Pixels]:
        multiple, scale = 1, self.scale
        tiling = self.tiling.faded(FADED_OVERLAP // scale)  # the others' reach says nothing of the UNet's
        if picture.trajectory and self.bundle.unet:  # which looks everywhere
            multiple = self.bundle.unet.multiple
        _, height, width = picture.shape

        def is_wanted(down: Span, across: Span) -> bool:
            sides = ((down, rows), (across, columns))
            return all(meet((scale * first, scale * last), span) for (first, last), span in sides)

        places = [(y, x) for y in tiling.spans(height, multiple) for x in tiling.spans(width, multiple)]
        told = self._reported(lambda *place: decode(picture.part(*place)), sum(is_wanted(*place) for place in places))
        bands = tiling.bands(height, width, told, scale=scale, multiple=multiple, is_wanted=is_wanted)
        for top, band in bands:
            for first in range(max(top, rows[0]), min(top + band.shape[1], rows[1]), STRIP):
                last = min(first + STRIP, top + band.shape[1], rows[1])
                planes = band[:, first - top :, columns[0] :]
                yield self._finished(planes, last - first, columns[1] - columns[0])

    def _finished(self, planes: Floats, height: int, width: int) -> Pixels:
        return reference.planes_to_pixels(planes, width, height, *self.bundle.pixel_range)

    def _reported(self, work: Work, total: int) -> Work:
        if self.report is None:
            return work
        report, done = self.report, 0
        report(0, total)

        def reported(rows: Span, columns: Span) -> Floats:
            nonlocal done
            planes = work(rows, columns)
            done += 1
            report(done, total)
            return planes

        return reported


def rows_of(pixels: Pixels) -> Rows:
    """Return what gives the rows of pixels that are all there."""
    return lambda first, last: pixels[first:last]
