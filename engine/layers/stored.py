"""What a file has beside its latents: a residual that is added to the networks' picture, an overlay that hides it."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.format import lossless
from sdtrt.engine.format.alpha import tiles_of_pixels
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, meet
from sdtrt.engine.format.profile import outline_of_file
from sdtrt.engine.layers import stream
from sdtrt.engine.layers.transform import grid
from sdtrt.kernels import reference

Pixels = NDArray[np.uint8]


class Tile(NamedTuple):
    """What is over a tile, None where there is nothing."""

    residual: NDArray[np.int16] | None  # (H, W, 3) or somewhat larger, in levels
    overlay: Pixels | None  # (H, W, 4): where alpha is 255 it is the picture


# Of a tile: its rows and columns of pixels, its residual's values, and its overlay.
TileLayers = tuple[Span, Span, NDArray[np.int32] | None, Pixels | None]


class Layers:
    """A file's residual and overlay, decoded tile by tile when they are asked for; for one thread at a time.

    `whole` tells which segments of a salvaged file are whole: those that are not are left out.
    """

    def __init__(self, file: File, whole: Sequence[bool] | None = None) -> None:
        self._file, self._whole = file, whole
        header = file.header
        self._places = tiles_of_pixels(header.width, header.height, outline_of_file(file).downscale, file.layout)
        self._tiles: OrderedDict[int, Tile] = OrderedDict()

    def put(self, pixels: Pixels, rows: Span | None = None, columns: Span | None = None) -> Pixels:
        """Return the networks' pixels, uint8 (H, W, 3), of some rows and columns (None: all), with layers over them.

        They are changed in place. Raises `FormatError` if a layer is damaged.
        """
        header, layout = self._file.header, self._file.layout
        rows, columns = rows or (0, header.height), columns or (0, header.width)
        if not layout.overlay and not layout.residual:
            return pixels
        for number, (down, across) in enumerate(self._places):
            if meet(down, rows) and meet(across, columns):
                place, part = common(down, across, rows, columns)
                tile = self._tile(number)
                if tile.residual is not None:
                    added = pixels[place] + tile.residual[part]
                    pixels[place] = np.minimum(np.maximum(added, 0), 255)
                if tile.overlay is not None:
                    reference.put_overlay(pixels[place], tile.overlay[part])
        return pixels

    def put_reduced(self, pixels: Pixels, scale: int) -> Pixels:
        """Return pixels at 1/`scale` of the size with the overlay over them, as opaque as it covers them."""
        if not self._file.layout.overlay:
            return pixels
        header = self._file.header
        overlay = np.zeros((header.height, header.width, 4), np.uint8)
        for number, (down, across) in enumerate(self._places):
            found = self._overlay(number)
            if found is not None:
                overlay[slice(*down), slice(*across)] = found
        small = reduced(overlay * (overlay[:, :, 3:] == 255), scale).astype(np.float32)
        covered = small[:, :, 3:] / 255
        return np.rint(small[:, :, :3] + (1 - covered) * pixels).clip(0, 255).astype(np.uint8)

    def lacking(self) -> str:
        """Return in words what is missing of a salvaged file's layers, nothing if nothing is."""
        layout, whole = self._file.layout, self._whole
        kinds = [kind for kind in ("overlay", "residual") if kind in layout.kinds]
        missing = [
            f"{kind} of tiles: {count} of {layout.tiles} missing"
            for kind in kinds
            if whole and (count := sum(not whole[layout.segment(kind, tile)] for tile in range(layout.tiles)))
        ]
        return "; ".join(missing)

    def verify(self) -> None:
        """Raise `FormatError` if a layer is damaged."""
        for number in range(len(self._places)):
            self._residual(number)
            self._overlay(number)

    def parts(self) -> Iterator[TileLayers]:
        """Yield the layers of each tile; `FormatError` if one is damaged."""
        for number, (down, across) in enumerate(self._places):
            yield down, across, self._values(number), self._overlay(number)

    def _tile(self, number: int) -> Tile:
        if number not in self._tiles:
            self._tiles[number] = Tile(self._residual(number), self._overlay(number))
        while len(self._tiles) > self._file.layout.columns:  # what is asked for from top to bottom is decoded once
            self._tiles.popitem(last=False)
        return self._tiles[number]

    def _residual(self, number: int) -> NDArray[np.int16] | None:
        values = self._values(number)
        return None if values is None else reference.residual_of(values)

    def _values(self, number: int) -> NDArray[np.int32] | None:
        segment = self._segment("residual", number)
        return stream.decode(segment, *grid(*self._size(number)), self._file.layout.residual) if segment else None

    def _overlay(self, number: int) -> Pixels | None:
        segment = self._segment("overlay", number)
        return lossless.decode_rgba(segment, *self._size(number), "overlay") if segment else None

    def _segment(self, kind: str, tile: int) -> bytes:
        """Return a tile's segment of a kind, empty if there is none, or if it is not whole."""
        layout = self._file.layout
        if kind not in layout.kinds or (self._whole is not None and not self._whole[layout.segment(kind, tile)]):
            return b""
        return self._file.segment(kind, tile)

    def _size(self, number: int) -> tuple[int, int]:
        down, across = self._places[number]
        return down[1] - down[0], across[1] - across[0]


def common(down: Span, across: Span, rows: Span, columns: Span) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return what a tile and some rows and columns have in common: its place in those, and in the tile."""
    top, bottom = max(down[0], rows[0]), min(down[1], rows[1])
    left, right = max(across[0], columns[0]), min(across[1], columns[1])
    place = slice(top - rows[0], bottom - rows[0]), slice(left - columns[0], right - columns[0])
    return place, (slice(top - down[0], bottom - down[0]), slice(left - across[0], right - across[0]))


def reduced(pixels: Pixels, factor: int) -> Pixels:
    """Return means over blocks, uint8; sides are rounded up, and blocks at the end may be smaller."""
    if factor == 1:
        return pixels
    rows = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], factor), axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, np.arange(0, pixels.shape[1], factor), axis=1)
    height, width = (np.diff(np.r_[np.arange(0, n, factor), n]) for n in pixels.shape[:2])
    counts = np.outer(height, width).reshape(sums.shape[:2] + (1,) * (pixels.ndim - 2))
    return np.rint(sums / counts).astype(np.uint8)
