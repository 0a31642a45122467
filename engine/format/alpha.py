"""The alpha channel of a file: one lossless WebP segment for each tile."""

from collections.abc import Sequence

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.format import webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Layout, Span, overlaps, paste, pixel_tiles
from sdtrt.engine.format.webp_lossless import OPAQUE


def encode_alpha(plane: U8Array) -> bytes:
    """Return the segment of a tile's plane, uint8 (H, W) of at most 16383 a side: a WebP file of grey pixels."""
    return webp_lossless.encode_rgb(np.repeat(plane[:, :, None], 3, axis=2))


def decode_alpha(segment: bytes, height: int, width: int) -> U8Array:
    """Return a tile's plane, uint8 (height, width); `FormatError` if the segment has another size or is damaged."""
    return webp_lossless.decode_rgb(segment, height, width, "alpha")[:, :, 0].copy()


def read_alpha(
    file: File, rows: Span | None = None, columns: Span | None = None, intact_segments: Sequence[bool] | None = None
) -> U8Array | None:
    """Return the alpha channel of a file, uint8 (height, width), None if it has none.

    Arguments:
        rows, columns: of pixels to return, None: all.
        intact_segments: of a salvaged file. Tiles whose segment is not intact become opaque.

    Raises `FormatError` if a tile within the rows and columns is damaged.
    """
    if not file.layout.alpha:
        return None
    header, layout = file.header, file.layout
    rows, columns = rows or (0, header.height), columns or (0, header.width)
    plane = np.full((rows[1] - rows[0], columns[1] - columns[0]), OPAQUE, np.uint8)
    for tile, (tile_rows, tile_columns) in enumerate(
        pixel_tiles(header.width, header.height, file.space.downscale, layout)
    ):
        is_intact = intact_segments is None or intact_segments[layout.segment_index("alpha", tile)]
        if is_intact and overlaps(tile_rows, rows) and overlaps(tile_columns, columns):
            size = tile_rows[1] - tile_rows[0], tile_columns[1] - tile_columns[0]
            alpha = decode_alpha(file.segment("alpha", tile), *size)
            paste(plane, alpha, tile_rows[0] - rows[0], tile_columns[0] - columns[0])
    return plane


def missing_report(layout: Layout, intact_segments: Sequence[bool]) -> str:
    """Return a sentence about the missing alpha of a salvaged file, empty if it is complete."""
    count = intact_segments[layout.segment_index("alpha", 0) :].count(False) if layout.alpha else 0
    return f"alpha of tiles: {count} of {layout.num_tiles} missing" if count else ""
