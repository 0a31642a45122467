"""Whole pictures through networks that see one tile at a time, wherever the networks run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.quantized import part_of
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiles import Span, Tiling, Work, tiling_of
from sdtrt.kernels import reference

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Report = Callable[[int, int], None]  # told how many tiles of a picture are done, and how many there are


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

    def analyse(self, pixels: Pixels, encode: Callable[[Pixels], Floats]) -> Floats:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3); `encode` gives those of a tile."""
        scale = self.scale

        def work(rows: Span, columns: Span) -> Floats:
            return encode(pixels[scale * rows[0] : scale * rows[1], scale * columns[0] : scale * columns[1]])

        height, width = (-(-side // scale) for side in pixels.shape[:2])
        bands = self.tiling.bands(height, width, self._reported(work, self.tiling, height, width), scale=1)
        return np.concatenate([band for _, band in bands], axis=1)

    def synthesise(self, picture: Parsed, decode: Callable[[Parsed], Floats]) -> Pixels:
        """Return a picture's RGB pixels; `decode` gives a tile's planes, float32 (3, h, w)."""
        tiling, multiple, header = self.tiling, 1, picture.header
        if picture.trajectory and self.bundle.unet:  # which looks everywhere
            tiling, multiple = replace(tiling, cut=False), self.bundle.unet.multiple

        def work(rows: Span, columns: Span) -> Floats:
            return decode(replace(picture, contents=part_of(picture.contents, rows, columns)))

        _, height, width = picture.shape
        told = self._reported(work, tiling, height, width, multiple)
        pixels = np.empty((header.height, header.width, 3), np.uint8)
        for top, band in tiling.bands(height, width, told, scale=self.scale, multiple=multiple):
            rows = pixels[top : top + band.shape[1]]
            rows[:] = reference.planes_to_pixels(band, header.width, len(rows), *self.bundle.pixel_range)
        return pixels

    def _reported(self, work: Work, tiling: Tiling, height: int, width: int, multiple: int = 1) -> Work:
        if self.report is None:
            return work
        report, done = self.report, 0
        total = len(tiling.spans(height, multiple)) * len(tiling.spans(width, multiple))
        report(0, total)

        def reported(rows: Span, columns: Span) -> Floats:
            nonlocal done
            planes = work(rows, columns)
            done += 1
            report(done, total)
            return planes

        return reported
