"""Alpha planes to segments and back, tile by tile: lossless WebP."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Layout, Span, meet, paste, spans
from sdtrt.engine.format.profile import profile_of_file
from sdtrt.errors import FormatError

Plane = NDArray[np.uint8]

LARGEST_SIDE = 16383  # of a WebP picture
OPAQUE = 255
HEAD_NBYTES, SIGNATURE = 25, 0x2F  # of a WebP file of the simple kind


def encode(plane: Plane) -> bytes:
    """Return the segment of a tile's plane, uint8 (H, W) of at most 16383 a side: a WebP file with equal channels."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(plane).convert("RGB").save(stream, "WEBP", lossless=True, quality=100)
    return stream.getvalue()


def decode(segment: bytes, height: int, width: int) -> Plane:
    """Return a tile's plane, uint8 (height, width); `FormatError` if the segment holds anything else."""
    from PIL import Image

    if _size_of(segment) != (width, height):
        raise FormatError(f"damaged alpha: not a lossless WebP file of {width}x{height} without alpha of its own")
    try:
        with Image.open(io.BytesIO(segment), formats=["WEBP"]) as image:
            if image.size != (width, height) or image.mode != "RGB" or getattr(image, "n_frames", 1) != 1:
                raise FormatError(f"damaged alpha: {image.mode} {image.size}, expected RGB {(width, height)}")
            return np.asarray(image)[:, :, 0].copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(f"damaged alpha: {error}") from error


def _size_of(segment: bytes) -> tuple[int, int] | None:
    """Return the size that a lossless WebP file of the simple kind gives itself, None if it is none.

    "WebP Lossless Bitstream Specification", section 3: 14 bits each of width - 1 and height - 1, then one of alpha and
    three of the version.
    """
    if len(segment) < HEAD_NBYTES or segment[:4] + segment[8:16] != b"RIFFWEBPVP8L" or segment[20] != SIGNATURE:
        return None
    if int.from_bytes(segment[4:8], "little") + 8 != len(segment):
        return None
    bits = int.from_bytes(segment[21:25], "little")
    return None if bits >> 28 else ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)


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
    tiles = tiles_of_pixels(header.width, header.height, profile_of_file(file).downscale, layout)
    for tile, (down, across) in enumerate(tiles):
        wanted = meet(down, rows) and meet(across, columns)
        if wanted and (whole is None or whole[layout.segment(layout.levels, tile)]):
            found = decode(file.segment(layout.levels, tile), down[1] - down[0], across[1] - across[0])
            paste(plane, found, down[0] - rows[0], across[0] - columns[0])
    return plane


def lacking(layout: Layout, whole: Sequence[bool]) -> str:
    """Return in words what is missing of the alpha of a salvaged file, nothing if nothing is."""
    count = whole[layout.levels * layout.tiles :].count(False) if layout.alpha else 0
    return f"of {layout.tiles} tiles' alpha {count} are missing" if count else ""


def tiles_of_pixels(width: int, height: int, downscale: int, layout: Layout) -> list[tuple[Span, Span]]:
    """Return the rows and columns of pixels of each tile of a picture, in the order of tiles."""
    down, across = (
        [(downscale * first, min(downscale * last, length)) for first, last in spans(-(-length // downscale), count)]
        for length, count in ((height, layout.rows), (width, layout.columns))
    )
    return [(rows, columns) for rows in down for columns in across]
