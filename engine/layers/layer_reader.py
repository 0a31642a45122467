"""Decoding of a file's layers: a residual that is added to the networks' output, and an overlay that covers it."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import I16Array, I32Array, U8Array
from sdtrt.engine.format import webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, overlaps, pixel_tiles
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import block_grid
from sdtrt.kernels import core, reference
from sdtrt.process.threads import parallel_map


class TileLayers(NamedTuple):
    """The decoded layers of a tile; None where the tile has none."""

    residual: I16Array | None  # (H, W, 3) in 8-bit values, padded to whole blocks
    overlay: U8Array | None  # (H, W, 4); pixels of alpha 255 replace the image


class TileCoefficients(NamedTuple):
    """The layers of a tile as kernels take them; None where the tile has none."""

    rows: Span  # of pixels
    columns: Span
    coefficients: I32Array | None  # of the residual, as `reference.add_residual` takes them
    overlay: U8Array | None  # (H, W, 4)


class LayerReader:
    """Decodes the layers of a file tile by tile, on access. For one thread at a time.

    Arguments:
        file: the file.
        intact_segments: of a salvaged file. Segments that are not intact are ignored.
    """

    def __init__(self, file: File, intact_segments: Sequence[bool] | None = None) -> None:
        self._file, self._intact_segments = file, intact_segments
        header = file.header
        self._tile_spans = pixel_tiles(header.width, header.height, file.space.downscale, file.layout)
        self._cache: OrderedDict[int, TileLayers] = OrderedDict()
        self._lock = Lock()  # of the cache: `apply` works on several tiles at once

    def apply(self, pixels: U8Array, rows: Span | None = None, columns: Span | None = None) -> U8Array:
        """Put the layers over the networks' output, in place, and return it.

        Arguments:
            pixels: uint8 (H, W, 3).
            rows, columns: of the image that `pixels` are, None: all.

        Raises `FormatError` if a layer is damaged.
        """
        header, layout = self._file.header, self._file.layout
        rows, columns = rows or (0, header.height), columns or (0, header.width)
        if not layout.overlay and not layout.residual_step:
            return pixels
        numbers = [
            number
            for number, (tile_rows, tile_columns) in enumerate(self._tile_spans)
            if overlaps(tile_rows, rows) and overlaps(tile_columns, columns)
        ]

        def apply_tile(number: int) -> None:
            in_pixels, in_tile = intersect(*self._tile_spans[number], rows, columns)
            tile = self._tile(number)
            if tile.residual is not None:
                core.add_to_pixels(pixels[in_pixels], tile.residual[in_tile])
            if tile.overlay is not None:
                reference.apply_overlay(pixels[in_pixels], tile.overlay[in_tile])

        parallel_map(apply_tile, numbers, core.threads_over_tiles())
        return pixels

    def apply_to_preview(self, pixels: U8Array, scale: int) -> U8Array:
        """Return a preview, at 1/`scale` of the size, blended with the overlay by the share of each pixel it covers."""
        if not self._file.layout.overlay:
            return pixels
        header = self._file.header
        overlay = np.zeros((header.height, header.width, 4), np.uint8)
        for number, (tile_rows, tile_columns) in enumerate(self._tile_spans):
            tile_overlay = self._overlay(number)
            if tile_overlay is not None:
                overlay[slice(*tile_rows), slice(*tile_columns)] = tile_overlay
        small = box_downscale(overlay * (overlay[:, :, 3:] == 255), scale).astype(np.float32)
        coverage = small[:, :, 3:] / 255
        return np.rint(small[:, :, :3] + (1 - coverage) * pixels).clip(0, 255).astype(np.uint8)

    def missing_report(self) -> str:
        """Return a sentence about the missing layers of a salvaged file, empty if they are complete."""
        layout, intact_segments = self._file.layout, self._intact_segments
        if intact_segments is None:
            return ""
        reports = []
        for kind in ("overlay", "residual"):
            if kind in layout.kinds:
                first = layout.segment_index(kind, 0)
                count = list(intact_segments[first : first + layout.num_tiles]).count(False)
                reports += [f"{kind} of tiles: {count} of {layout.num_tiles} missing"] if count else []
        return "; ".join(reports)

    def verify(self) -> None:
        """Raise `FormatError` if a layer is damaged."""
        for number in range(len(self._tile_spans)):
            self._residual(number)
            self._overlay(number)

    def tiles(self) -> Iterator[TileCoefficients]:
        """Yield the layers of each tile, for a device; `FormatError` if one is damaged."""
        for number, (rows, columns) in enumerate(self._tile_spans):
            yield TileCoefficients(rows, columns, self._coefficients(number), self._overlay(number))

    def _tile(self, number: int) -> TileLayers:
        tile = self._cache.get(number)
        if tile is None:
            tile = TileLayers(self._residual(number), self._overlay(number))
            with self._lock:
                self._cache[number] = tile
                # One row of tiles stays in memory, so that reading from top to bottom decodes each tile once.
                while len(self._cache) > self._file.layout.columns:
                    self._cache.popitem(last=False)
        return tile

    def _residual(self, number: int) -> I16Array | None:
        coefficients = self._coefficients(number)
        return None if coefficients is None else core.inverse_dct(coefficients)

    def _coefficients(self, number: int) -> I32Array | None:
        segment = self._segment("residual", number)
        if not segment:
            return None
        grid = block_grid(*self._size(number))
        return residual_codec.decode_residual(segment, *grid, self._file.layout.residual_step)

    def _overlay(self, number: int) -> U8Array | None:
        segment = self._segment("overlay", number)
        return webp_lossless.decode_rgba(segment, *self._size(number), "overlay") if segment else None

    def _segment(self, kind: str, tile: int) -> bytes:
        """Return a segment, empty if the file does not have it or it is not intact."""
        layout = self._file.layout
        if kind not in layout.kinds or (
            self._intact_segments is not None and not self._intact_segments[layout.segment_index(kind, tile)]
        ):
            return b""
        return self._file.segment(kind, tile)

    def _size(self, number: int) -> tuple[int, int]:
        rows, columns = self._tile_spans[number]
        return rows[1] - rows[0], columns[1] - columns[0]


def intersect(
    tile_rows: Span, tile_columns: Span, rows: Span, columns: Span
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the intersection of a tile with a region, twice: as slices of the region, and as slices of the tile."""
    top, bottom = max(tile_rows[0], rows[0]), min(tile_rows[1], rows[1])
    left, right = max(tile_columns[0], columns[0]), min(tile_columns[1], columns[1])
    in_region = slice(top - rows[0], bottom - rows[0]), slice(left - columns[0], right - columns[0])
    in_tile = (
        slice(top - tile_rows[0], bottom - tile_rows[0]),
        slice(left - tile_columns[0], right - tile_columns[0]),
    )
    return in_region, in_tile


def box_downscale(pixels: U8Array, factor: int) -> U8Array:
    """Return the means of blocks of `factor` x `factor` pixels, uint8.

    Height and width are rounded up: blocks in the last row and column may be smaller.
    """
    if factor == 1:
        return pixels
    rows = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], factor), axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, np.arange(0, pixels.shape[1], factor), axis=1)
    height, width = (np.diff(np.r_[np.arange(0, n, factor), n]) for n in pixels.shape[:2])
    counts = np.outer(height, width).reshape(sums.shape[:2] + (1,) * (pixels.ndim - 2))
    return np.rint(sums / counts).astype(np.uint8)
