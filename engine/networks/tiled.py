"""Whole images, and parts of them, through networks that see one tile at a time, wherever the networks run."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.layout import Span, overlaps
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.tiles import BLEND_OVERLAP, Tiling, Work, tiling_of
from sdtrt.kernels import reference

Report = Callable[[int, int], None]  # told how many tiles of an image are done, and how many there are
Rows = Callable[[int, int], U8Array]  # from first and last row (excluded) to RGB pixels, uint8 (rows, W, 3)

STRIP = 64  # rows of cross-faded tiles that are turned into pixels at once


@dataclass(frozen=True, slots=True)
class TiledRunner:
    """A bundle's tiling; `report`, if given, is told of an image's tiles before the first and after each."""

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

    def fits_one_tile(self, height: int, width: int) -> bool:
        """Return whether latents of such a size are one tile."""
        return max(height, width) <= self.tiling.tile

    def analyse_tiled(
        self, rows: Rows, height: int, width: int, encode: Callable[[U8Array], F32Array]
    ) -> Iterator[F32Array]:
        """Yield the latents, float32 (C, n, w), of an image of so many pixels, from top to bottom.

        `rows` gives its pixels, from top to bottom, some twice; `encode` gives the latents of a tile.
        """
        scale = self.scale

        def work(down: Span, across: Span) -> F32Array:
            return encode(rows(scale * down[0], min(scale * down[1], height))[:, scale * across[0] : scale * across[1]])

        sides = -(-height // scale), -(-width // scale)
        told = self._reported(work, math.prod(len(self.tiling.spans(side)) for side in sides))
        for _, band in self.tiling.bands(*sides, told, scale=1):
            yield band

    def synthesise_tiled(
        self, image: DecodeRequest, decode: Callable[[DecodeRequest], F32Array], rows: Span, columns: Span
    ) -> Iterator[U8Array]:
        """Yield RGB pixels of an image, uint8 (n, W, 3), in some rows and columns, from top to bottom.

        `decode` gives a tile's planes, float32 (3, h, w). Where tiles are cut the networks see what they need for these
        rows and columns alone; else the tiles that they touch. Either way pixels are those of the whole image.
        """
        if self.tiling.cut and not image.trajectory:
            return self._cut(image, decode, rows, columns)
        return self._faded(image, decode, rows, columns)

    def _cut(
        self, image: DecodeRequest, decode: Callable[[DecodeRequest], F32Array], rows: Span, columns: Span
    ) -> Iterator[U8Array]:
        scale, (_, height, width) = self.scale, image.shape
        down, across = (self._spans(span, length) for span, length in ((rows, height), (columns, width)))
        kept_down, kept_across = self.tiling.cut_spans(down, scale), self.tiling.cut_spans(across, scale)
        told = self._reported(lambda *place: decode(image.crop(*place)), len(down) * len(across))
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
        reach = self.bundle.receptive_radius or 0
        first, last = max(pixels[0] // self.scale - reach, 0), min(-(-pixels[1] // self.scale) + reach, length)
        return [(first + start, first + stop) for start, stop in self.tiling.spans(last - first)]

    def _faded(
        self, image: DecodeRequest, decode: Callable[[DecodeRequest], F32Array], rows: Span, columns: Span
    ) -> Iterator[U8Array]:
        multiple, scale = 1, self.scale
        tiling = self.tiling.blend(BLEND_OVERLAP // scale)  # the others' reach says nothing of the UNet's
        if image.trajectory and self.bundle.unet:  # which looks everywhere
            multiple = self.bundle.unet.multiple
        _, height, width = image.shape

        def is_wanted(down: Span, across: Span) -> bool:
            sides = ((down, rows), (across, columns))
            return all(overlaps((scale * first, scale * last), span) for (first, last), span in sides)

        places = [(y, x) for y in tiling.spans(height, multiple) for x in tiling.spans(width, multiple)]
        told = self._reported(lambda *place: decode(image.crop(*place)), sum(is_wanted(*place) for place in places))
        bands = tiling.bands(height, width, told, scale=scale, multiple=multiple, is_wanted=is_wanted)
        for top, band in bands:
            for first in range(max(top, rows[0]), min(top + band.shape[1], rows[1]), STRIP):
                last = min(first + STRIP, top + band.shape[1], rows[1])
                planes = band[:, first - top :, columns[0] :]
                yield self._finished(planes, last - first, columns[1] - columns[0])

    def _finished(self, planes: F32Array, height: int, width: int) -> U8Array:
        return reference.planes_to_pixels(planes, width, height, *self.bundle.pixel_range)

    def _reported(self, work: Work, total: int) -> Work:
        if self.report is None:
            return work
        report, done = self.report, 0
        report(0, total)

        def reported(rows: Span, columns: Span) -> F32Array:
            nonlocal done
            planes = work(rows, columns)
            done += 1
            report(done, total)
            return planes

        return reported


def rows_of(pixels: U8Array) -> Rows:
    """Return what gives the rows of pixels that are all there."""
    return lambda first, last: pixels[first:last]
