"""Alpha planes to segments and back, tile by tile: lossless WebP."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.format import lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Layout, Span, meet, paste, spans
from sdtrt.engine.format.lossless import OPAQUE
from sdtrt.engine.format.profile import outline_of_file

Plane = NDArray[np.uint8]


def encode(plane: Plane) -> bytes:
    """Return the segment of a tile's plane, uint8 (H, W) of at most 16383 a side: a WebP file with equal channels."""
    return lossless.encode_rgb(np.repeat(plane[:, :, None], 3, axis=2))


def decode(segment: bytes, height: int, width: int) -> Plane:
    """Return a tile's plane, uint8 (height, width); `FormatError` if the segment holds anything else."""
    return lossless.decode_rgb(segment, height, width, "alpha")[:, :, 0].copy()


def alpha_of_file(
    file: File, rows: Span | None = None, columns: Span | None = None, whole: Sequence[bool] | None = None
) -> Plane | None:
    """Return a file's alpha, uint8, in some rows and columns of pixels (None: all), None if it has none.

    Raises `FormatError` if a tile that is needed is damaged; one that is not `whole` is opaque instead.
    """
    if not file.layout.alpha:
        return None
    header, layout = file.header, file.layout
    rows, columns = rows or (0, header.height), columns or (0, header.width)
    plane = np.full((rows[1] - rows[0], columns[1] - columns[0]), OPAQUE, np.uint8)
    tiles = tiles_of_pixels(header.width, header.height, outline_of_file(file).downscale, layout)
    for tile, (down, across) in enumerate(tiles):
        wanted = meet(down, rows) and meet(across, columns)
        if wanted and (whole is None or whole[layout.segment("alpha", tile)]):
            found = decode(file.segment("alpha", tile), down[1] - down[0], across[1] - across[0])
            paste(plane, found, down[0] - rows[0], across[0] - columns[0])
    return plane


def lacking(layout: Layout, whole: Sequence[bool]) -> str:
    """Return in words what is missing of the alpha of a salvaged file, nothing if nothing is."""
    count = whole[layout.segment("alpha", 0) :].count(False) if layout.alpha else 0
    return f"alpha of tiles: {count} of {layout.tiles} missing" if count else ""


def tiles_of_pixels(width: int, height: int, downscale: int, layout: Layout) -> list[tuple[Span, Span]]:
    """Return the rows and columns of pixels of each tile of a picture, in the order of tiles."""
    down, across = (
        [(downscale * first, min(downscale * last, length)) for first, last in spans(-(-length // downscale), count)]
        for length, count in ((height, layout.rows), (width, layout.columns))
    )
    return [(rows, columns) for rows in down for columns in across]
