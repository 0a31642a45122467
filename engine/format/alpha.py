"""Alpha planes to segments and back, tile by tile: lossless WebP."""

from collections.abc import Sequence

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.format import webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Layout, Span, overlaps, paste, tile_spans
from sdtrt.engine.format.profile import read_space_info
from sdtrt.engine.format.webp_lossless import OPAQUE


def encode_alpha(plane: U8Array) -> bytes:
    """Return the segment of a tile's plane, uint8 (H, W) of at most 16383 a side: a WebP file with equal channels."""
    return webp_lossless.encode_rgb(np.repeat(plane[:, :, None], 3, axis=2))


def decode_alpha(segment: bytes, height: int, width: int) -> U8Array:
    """Return a tile's plane, uint8 (height, width); `FormatError` if the segment holds anything else."""
    return webp_lossless.decode_rgb(segment, height, width, "alpha")[:, :, 0].copy()


def read_alpha(
    file: File, rows: Span | None = None, columns: Span | None = None, intact_segments: Sequence[bool] | None = None
) -> U8Array | None:
    """Return a file's alpha, uint8, in some rows and columns of pixels (None: all), None if it has none.

    Raises `FormatError` if a tile that is needed is damaged; one that is not `intact_segments` is opaque instead.
    """
    if not file.layout.alpha:
        return None
    header, layout = file.header, file.layout
    rows, columns = rows or (0, header.height), columns or (0, header.width)
    plane = np.full((rows[1] - rows[0], columns[1] - columns[0]), OPAQUE, np.uint8)
    tiles = pixel_tiles(header.width, header.height, read_space_info(file).downscale, layout)
    for tile, (down, across) in enumerate(tiles):
        wanted = overlaps(down, rows) and overlaps(across, columns)
        if wanted and (intact_segments is None or intact_segments[layout.segment("alpha", tile)]):
            found = decode_alpha(file.segment("alpha", tile), down[1] - down[0], across[1] - across[0])
            paste(plane, found, down[0] - rows[0], across[0] - columns[0])
    return plane


def missing_report(layout: Layout, intact_segments: Sequence[bool]) -> str:
    """Return in words what is missing of the alpha of a salvaged file, nothing if nothing is."""
    count = intact_segments[layout.segment("alpha", 0) :].count(False) if layout.alpha else 0
    return f"alpha of tiles: {count} of {layout.tiles} missing" if count else ""


def pixel_tiles(width: int, height: int, downscale: int, layout: Layout) -> list[tuple[Span, Span]]:
    """Return the rows and columns of pixels of each tile of an image, in the order of tiles."""
    down, across = (
        [
            (downscale * first, min(downscale * last, length))
            for first, last in tile_spans(-(-length // downscale), count)
        ]
        for length, count in ((height, layout.rows), (width, layout.columns))
    )
    return [(rows, columns) for rows in down for columns in across]
