"""What a file has beside its latents: a residual that is added to the networks' image, an overlay that hides it."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import I16Array, I32Array, U8Array
from sdtrt.engine.format import webp_lossless
from sdtrt.engine.format.alpha import pixel_tiles
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, overlaps
from sdtrt.engine.format.profile import read_space_info
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import block_grid
from sdtrt.kernels import reference


class TileLayers(NamedTuple):
    """What is over a tile, None where there is nothing."""

    residual: I16Array | None  # (H, W, 3) or somewhat larger, in levels
    overlay: U8Array | None  # (H, W, 4): where alpha is 255 it is the image


# Of a tile: its rows and columns of pixels, its residual's values, and its overlay.
TileCoefficients = tuple[Span, Span, I32Array | None, U8Array | None]


class LayerReader:
    """A file's residual and overlay, decoded tile by tile when they are asked for; for one thread at a time.

    `intact_segments` tells which segments of a salvaged file are whole: those that are not are left out.
    """

    def __init__(self, file: File, intact_segments: Sequence[bool] | None = None) -> None:
        self._file, self._intact_segments = file, intact_segments
        header = file.header
        self._places = pixel_tiles(header.width, header.height, read_space_info(file).downscale, file.layout)
        self._tiles: OrderedDict[int, TileLayers] = OrderedDict()

    def apply(self, pixels: U8Array, rows: Span | None = None, columns: Span | None = None) -> U8Array:
        """Return the networks' pixels, uint8 (H, W, 3), of some rows and columns (None: all), with layers over them.

        They are changed in place. Raises `FormatError` if a layer is damaged.
        """
        header, layout = self._file.header, self._file.layout
        rows, columns = rows or (0, header.height), columns or (0, header.width)
        if not layout.overlay and not layout.residual:
            return pixels
        for number, (down, across) in enumerate(self._places):
            if overlaps(down, rows) and overlaps(across, columns):
                place, part = intersect(down, across, rows, columns)
                tile = self._tile(number)
                if tile.residual is not None:
                    added = pixels[place] + tile.residual[part]
                    pixels[place] = np.minimum(np.maximum(added, 0), 255)
                if tile.overlay is not None:
                    reference.apply_overlay(pixels[place], tile.overlay[part])
        return pixels

    def apply_to_preview(self, pixels: U8Array, scale: int) -> U8Array:
        """Return pixels at 1/`scale` of the size with the overlay over them, as opaque as it covers them."""
        if not self._file.layout.overlay:
            return pixels
        header = self._file.header
        overlay = np.zeros((header.height, header.width, 4), np.uint8)
        for number, (down, across) in enumerate(self._places):
            found = self._overlay(number)
            if found is not None:
                overlay[slice(*down), slice(*across)] = found
        small = box_downscale(overlay * (overlay[:, :, 3:] == 255), scale).astype(np.float32)
        covered = small[:, :, 3:] / 255
        return np.rint(small[:, :, :3] + (1 - covered) * pixels).clip(0, 255).astype(np.uint8)

    def missing_report(self) -> str:
        """Return in words what is missing of a salvaged file's layers, nothing if nothing is."""
        layout, intact_segments = self._file.layout, self._intact_segments
        kinds = [kind for kind in ("overlay", "residual") if kind in layout.kinds]
        missing = [
            f"{kind} of tiles: {count} of {layout.tiles} missing"
            for kind in kinds
            if intact_segments
            and (count := sum(not intact_segments[layout.segment(kind, tile)] for tile in range(layout.tiles)))
        ]
        return "; ".join(missing)

    def verify(self) -> None:
        """Raise `FormatError` if a layer is damaged."""
        for number in range(len(self._places)):
            self._residual(number)
            self._overlay(number)

    def tiles(self) -> Iterator[TileCoefficients]:
        """Yield the layers of each tile; `FormatError` if one is damaged."""
        for number, (down, across) in enumerate(self._places):
            yield down, across, self._values(number), self._overlay(number)

    def _tile(self, number: int) -> TileLayers:
        if number not in self._tiles:
            self._tiles[number] = TileLayers(self._residual(number), self._overlay(number))
        while len(self._tiles) > self._file.layout.columns:  # what is asked for from top to bottom is decoded once
            self._tiles.popitem(last=False)
        return self._tiles[number]

    def _residual(self, number: int) -> I16Array | None:
        values = self._values(number)
        return None if values is None else reference.inverse_dct(values)

    def _values(self, number: int) -> I32Array | None:
        segment = self._segment("residual", number)
        return (
            residual_codec.decode_residual(segment, *block_grid(*self._size(number)), self._file.layout.residual)
            if segment
            else None
        )

    def _overlay(self, number: int) -> U8Array | None:
        segment = self._segment("overlay", number)
        return webp_lossless.decode_rgba(segment, *self._size(number), "overlay") if segment else None

    def _segment(self, kind: str, tile: int) -> bytes:
        """Return a tile's segment of a kind, empty if there is none, or if it is not whole."""
        layout = self._file.layout
        if kind not in layout.kinds or (
            self._intact_segments is not None and not self._intact_segments[layout.segment(kind, tile)]
        ):
            return b""
        return self._file.segment(kind, tile)

    def _size(self, number: int) -> tuple[int, int]:
        down, across = self._places[number]
        return down[1] - down[0], across[1] - across[0]


def intersect(down: Span, across: Span, rows: Span, columns: Span) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return what a tile and some rows and columns have in common: its place in those, and in the tile."""
    top, bottom = max(down[0], rows[0]), min(down[1], rows[1])
    left, right = max(across[0], columns[0]), min(across[1], columns[1])
    place = slice(top - rows[0], bottom - rows[0]), slice(left - columns[0], right - columns[0])
    return place, (slice(top - down[0], bottom - down[0]), slice(left - across[0], right - across[0]))


def box_downscale(pixels: U8Array, factor: int) -> U8Array:
    """Return means over blocks, uint8; sides are rounded up, and blocks at the end may be smaller."""
    if factor == 1:
        return pixels
    rows = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], factor), axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, np.arange(0, pixels.shape[1], factor), axis=1)
    height, width = (np.diff(np.r_[np.arange(0, n, factor), n]) for n in pixels.shape[:2])
    counts = np.outer(height, width).reshape(sums.shape[:2] + (1,) * (pixels.ndim - 2))
    return np.rint(sums / counts).astype(np.uint8)
