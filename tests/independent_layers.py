"""The second decoder's layers: residuals, overlays and alpha, written from docs/format.md alone and only for tests."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Ints = np.ndarray[Any, np.dtype[np.int64]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
PRIOR = Path(__file__).parents[1] / "engine" / "data" / "priors" / "residual-1.npz"
BANDS = sorted(((u, v) for u in range(8) for v in range(8)), key=lambda band: (sum(band), band))
GROUPS = [*zip([0, 1, 3, 6, 10, 21, 36, 49], [1, 3, 6, 10, 21, 36, 49, 64], strict=True)]
M = np.array([min(((1 + n) ** 32).bit_length() // 2, 127) for n in range(256)], np.int64)  # 16 log2(1 + n), rounded
RAW = [range(0, 2**24 + 1, 2 ** (24 - n)) for n in range(17)]
BESIDE, CORNERS = [(0, -1), (0, 1), (-1, 0), (1, 0)], [(-1, -1), (-1, 1), (1, -1), (1, 1)]
K = np.array(
    [
        [1448, 1448, 1448, 1448, 1448, 1448, 1448, 1448],
        [2009, 1703, 1138, 400, -400, -1138, -1703, -2009],
        [1892, 784, -784, -1892, -1892, -784, 784, 1892],
        [1703, -400, -2009, -1138, 1138, 2009, 400, -1703],
        [1448, -1448, -1448, 1448, 1448, -1448, -1448, 1448],
        [1138, -2009, 400, 1703, -1703, -400, 2009, -1138],
        [784, -1892, 1892, -784, -784, 1892, -1892, 784],
        [400, -1138, 1703, -2009, 2009, -1703, 1138, -400],
    ],
    np.int64,
)
AXES = np.array([[2365, 2896, -1672], [2365, 0, 3344], [2365, -2896, -1672]], np.int64)  # rows: red, green, blue


def around(plane: Ints, offsets: list[tuple[int, int]]) -> Ints:  # sums over neighbours, 0 beyond the tile
    padded = np.pad(plane, 1)
    height, width = plane.shape
    return np.sum([padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in offsets], 0)


def extents_of(coder: Any, rows: int, columns: int) -> Ints:
    found = np.zeros((3, rows, columns), np.int64)
    y, x = np.indices((rows, columns))
    thirds = [(y % 2 == 0) & (x % 2 == 0), (y % 2 == 1) & (x % 2 == 1), (y + x) % 2 == 1]
    for c in range(3):
        for third, (part, near) in enumerate(zip(thirds, [[], CORNERS, BESIDE], strict=True)):
            mean = np.zeros_like(y)
            if near:
                k = np.maximum(around(np.ones_like(y), near), 1)
                mean = (around(found[c], near) + k // 2) // k
            below = found[c - 1] if c else np.zeros_like(y)
            tables = ((3 * c + third) * 9 + mean) * 9 + below
            found[c][part] = coder.entries(tables[part].tolist())
            if found.max(initial=0) > 8:
                raise ValueError("an extent above 8")
    return found


def values_of(
    coder: Any, arrays: dict[str, Ints], step: int, height: int, width: int
) -> Ints:  # (3, 64, rows, columns)
    rows, columns = -(-height // 8), -(-width // 8)
    extents, symbols = extents_of(coder, rows, columns), np.zeros((3, 64, rows, columns), np.int64)
    sums, values = np.zeros((3, 8, rows, columns), np.int64), np.zeros_like(symbols)
    parity = np.indices((rows, columns)).sum(0) % 2
    for c, g, p in np.ndindex(3, 8, 2):
        part, (first, last) = (parity == p) & (extents[c] > g), GROUPS[g]
        common = np.array(features(sums, extents, c, g, p))[:, part]
        for_all = [M[np.minimum(abs(symbols[0, band][part]), 255)] * (c > 0) for band in range(first, last)]
        weights = arrays["weights"][c, g, p]
        scores = [
            arrays["offsets"][c, p, band] + weights[:11] @ common + weights[11] * same
            for band, same in zip(range(first, last), for_all, strict=True)
        ]
        tables = 729 + (8 * c + g) * 24 + (np.array(scores) // 1024).clip(0, 23)
        found, inside = read_pass(coder, arrays, tables.ravel().tolist())
        symbols[c, first:last, part] = found.reshape(tables.shape).T
        frequencies = np.array([sum(band) for band in BANDS[first:last]])
        weights = np.repeat((16 + frequencies) * (2, 3, 2)[c], part.sum())
        at = (64 * found + inside) * step * weights + 1024
        values[c, first:last, part] = (at // 2048).clip(-(2**16), 2**16).reshape(tables.shape).T
        sums[c, g] = np.minimum(abs(symbols[c, first:last]).sum(0), 255)
    return values


def read_pass(coder: Any, arrays: dict[str, Ints], tables: list[int]) -> tuple[Ints, Ints]:  # symbols, points
    entries = coder.entries(tables)
    bits = arrays["low_bits"][tables].tolist()
    low = [coder.entry(RAW[b]) if b and e < 15 else 0 for e, b in zip(entries, bits, strict=True)]
    found = [((e - 7) << b) + n for e, b, n in zip(entries, bits, low, strict=True)]
    found = [coder.entry(RAW[16]) - 2**15 if e == 15 else s for e, s in zip(entries, found, strict=True)]
    return np.array(found, np.int64), arrays["points"][tables, entries]


def features(sums: Ints, extents: Ints, c: int, g: int, p: int) -> list[Ints]:  # all but the last
    none, known = np.zeros_like(extents[0]), sums[c, : g + 1] if p else sums[c, :g]

    def m(plane: Ints) -> Ints:
        return M[np.minimum(plane, 255)]

    return [
        m(sums[c, g - 1]) if g > 0 else none,
        m(sums[c, g - 2]) if g > 1 else none,
        m(sums[c, :g].sum(0)),
        m(around(sums[c, g], BESIDE)) if p else none,
        m(around(sums[c, g - 1], BESIDE)) if g > 0 else none,
        m(around(sums[c, g - 1], CORNERS)) if g > 0 else none,
        m(around(known.sum(0), BESIDE)),
        m(sums[0, g]) if c > 0 else none,
        m(sums[1, g]) if c == 2 else none,
        16 * extents[c],
        4 * around(extents[c], BESIDE),
    ]


def divided(sums: Ints) -> Ints:
    return ((sums + 2048) // 4096).clip(-(2**16), 2**16)


def residual_of(coder: Any, arrays: dict[str, Ints], step: int, height: int, width: int) -> Ints:  # (H, W, 3)
    values = values_of(coder, arrays, step, height, width)
    _, _, rows, columns = values.shape
    blocks = np.zeros((3, rows, columns, 8, 8), np.int64)
    for band, (u, v) in enumerate(BANDS):
        blocks[:, :, :, u, v] = values[:, band]
    pixels = divided(divided(K.T @ blocks) @ K)  # 3, rows, columns, y, x
    planes = pixels.transpose(1, 3, 2, 4, 0).reshape(8 * rows, 8 * columns, 3)[:height, :width]
    return (planes @ AXES.T + 2**15) // 2**16


def need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def webp(segment: bytes, height: int, width: int, modes: set[str]) -> Pixels:
    need(segment[:4] + segment[8:16] == b"RIFFWEBPVP8L", "not a WebP file of a single VP8L chunk")
    whole, chunk = (int.from_bytes(segment[at : at + 4], "little") for at in (4, 16))
    need(whole + 8 == len(segment) == 20 + chunk + chunk % 2, "another length than a WebP file says")
    try:
        with Image.open(io.BytesIO(segment), formats=["WEBP"]) as image:
            need(image.mode in modes and image.size == (width, height), "another picture than the tile has")
            return np.array(image.convert("RGBA"))
    except OSError as error:
        raise ValueError("a damaged WebP file") from error


def overlay_of(segment: bytes, height: int, width: int) -> Pixels:
    found = webp(segment, height, width, {"RGB", "RGBA"}) if segment else np.zeros((height, width, 4), np.uint8)
    need({*np.unique(found[:, :, 3]).tolist()} <= {0, 255}, "an overlay that is neither there nor not")
    return np.where(found[:, :, 3:] == 255, found, np.uint8(0))


def layers_of(
    segments: dict[str, list[bytes]], step: int, down: list[int], across: list[int], coder: Callable[..., Any]
) -> dict[str, Any]:
    """Return what lies over a picture, of tiles with such edges in pixels; `coder` opens a stream with its arrays."""
    with np.load(PRIOR) as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    shapes = {"residual": (3, np.int16), "overlay": (4, np.uint8), "alpha": (1, np.uint8)}
    found = {
        kind: np.zeros((down[-1], across[-1], channels), form)
        for kind, (channels, form) in shapes.items()
        if segments[kind]
    }
    for tile, (y, x) in enumerate(np.ndindex(len(down) - 1, len(across) - 1)):
        place = np.s_[down[y] : down[y + 1], across[x] : across[x + 1]]
        size = (down[y + 1] - down[y], across[x + 1] - across[x])
        if "residual" in found and segments["residual"][tile]:
            stream = coder(segments["residual"][tile], arrays)
            found["residual"][place] = residual_of(stream, arrays, step, *size)
            need(stream.state == 0 and not stream.stack, "a residual does not end with its symbols")
        if "overlay" in found:
            found["overlay"][place] = overlay_of(segments["overlay"][tile], *size)
        if "alpha" in found:
            found["alpha"][place] = webp(segments["alpha"][tile], *size, {"RGB"})[:, :, :1]
    return found
