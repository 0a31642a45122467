"""Residuals and overlays of numbers, and files with them over their pictures: for vectors and tests."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.streams.ans import AnsEncoder
from sdtrt.engine.format import webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, pixel_tiles
from sdtrt.engine.layers.dct import block_grid
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.layers.residual_contexts import ESCAPE, GROUP_EDGES, MAX_BIN, BlockContexts, residual_tables
from sdtrt.kernels import reference

Ints = NDArray[np.int32]


def drawing(width: int, height: int) -> NDArray[np.uint8]:
    """Return an overlay, uint8 (H, W, 4): lines of few colours, and nothing between them."""
    y, x = np.ogrid[:height, :width]
    there = (x * x + 3 * y * y) % 97 < 30
    colours = np.stack([7 * (x // 9) + 0 * y, 11 * (y // 7) + 0 * x, 200 + (x + y) % 3], 2) % 256
    return np.dstack([colours * there[:, :, None], webp_lossless.OPAQUE * there]).astype(np.uint8)


def with_overlay(file: File, overlay: NDArray[np.uint8]) -> File:
    """Return a file without residual and alpha with an overlay, uint8 (H, W, 4), over it."""
    parts = [overlay[slice(*rows), slice(*columns)] for rows, columns in tiles_of(file)]
    segments = [webp_lossless.encode_rgba(part) if part.any() else b"" for part in parts]
    layout = dataclasses.replace(file.layout, overlay=True)
    return dataclasses.replace(file, segments=(*file.segments, *segments), layout=layout)


def with_residual(file: File, step: int, seed: int, missing: int | None = None) -> File:
    """Return a file without alpha with a residual, of seeded noise; nothing in tile `missing`."""
    sizes = [(rows[1] - rows[0], columns[1] - columns[0]) for rows, columns in tiles_of(file)]
    segments = [
        b"" if n == missing else residual_stream(*residual_noise(seed + n, *block_grid(*size)))
        for n, size in enumerate(sizes)
    ]
    layout = dataclasses.replace(file.layout, residual_step=step)
    return dataclasses.replace(file, segments=(*file.segments, *segments), layout=layout)


def tiles_of(file: File) -> list[tuple[Span, Span]]:
    return pixel_tiles(file.header.width, file.header.height, 8, file.layout)


def residual_noise(seed: int, rows: int, columns: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return extents, (3, rows, columns), and symbols, (3, 64, rows, columns), of a residual: some far, most small."""
    rng = np.random.default_rng(seed)
    extents = rng.integers(0, 9, (3, rows, columns)) * (rng.random((3, rows, columns)) < 0.7)
    extents[:, :1, :1] = 8
    reach = rng.choice([1, 1, 2, 4, 12, 60, 32767], (3, 64, rows, columns), p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.035, 0.005])
    symbols = rng.integers(-reach, reach + 1)
    symbols.flat[:2] = -32768, 32767
    sent = np.repeat(np.arange(8), np.diff(GROUP_EDGES))[:, None, None] < extents[:, None]
    return extents.astype(np.int32), (symbols * sent).astype(np.int32)


def residual_stream(extents: NDArray[np.int32], symbols: NDArray[np.int32]) -> bytes:
    """Return the stream of a residual; symbols of groups that are not sent must be 0."""
    trained = residual_tables()
    blocks, coded = BlockContexts(*extents.shape[1:], trained), []
    flat_extents, flat_symbols = extents.reshape(3, -1), symbols.reshape(3, 64, -1)
    for part in blocks.passes():
        rows = blocks.rows(part)
        of_extents = part.group < 0
        values = flat_extents[part.channel] if of_extents else flat_symbols[part.channel][part.bands]
        coded.append((of_extents, rows, values := values[..., part.blocks]))
        blocks.put(part, values)
    writer = AnsEncoder(trained.tables)
    for of_extents, rows, values in reversed(coded):
        entries, low_bits = values, trained.low_bits[rows]
        if not of_extents:
            entries = (values >> low_bits) + MAX_BIN
            entries = np.where((entries < 0) | (entries >= ESCAPE), ESCAPE, entries).astype(np.int32)
            escaped, wide = entries == ESCAPE, (low_bits > 0) & (entries != ESCAPE)
            writer.write_uniform(values[escaped] + (1 << 15), np.full(escaped.sum(), 1 << 16, np.int32))
            writer.write_uniform(values[wide] & ((1 << low_bits[wide]) - 1), 1 << low_bits[wide])
        writer.write_bins(entries.ravel(), rows.ravel())
    return writer.stream()


def layers_of_file(file: File) -> dict[str, NDArray[Any]]:
    """Return what lies over a file's picture: `residual`, int16 (H, W, 3), and `overlay`, uint8 (H, W, 4)."""
    size, layout = (file.header.height, file.header.width), file.layout
    found: dict[str, NDArray[Any]] = {"residual": np.zeros((*size, 3), np.int16)} if layout.residual_step else {}
    found |= {"overlay": np.zeros((*size, 4), np.uint8)} if layout.overlay else {}
    for rows, columns, values, overlay in LayerReader(file).tiles():
        place = slice(*rows), slice(*columns)
        if values is not None:
            found["residual"][place] = reference.inverse_dct(values)[: rows[1] - rows[0], : columns[1] - columns[0]]
        if overlay is not None:
            found["overlay"][place] = overlay
    return found
