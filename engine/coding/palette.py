"""The method that sdtrt grew from, as a baseline: latents to 8 bits, 256 colours, error diffusion, deflate.

M. Bühlmann, "Stable Diffusion Based Image Compression", 2022: latents of Stable Diffusion 1.4 as bytes, reduced by
libimagequant to a palette of 256 with Floyd-Steinberg dithering, the palette and the indices deflated. Here the
palette is found by k-means in all four dimensions, where libimagequant takes the fourth for opacity.
"""

import zlib

import numpy as np

from sdtrt._arrays import F32Array, F64Array, IndexArray, U8Array
from sdtrt.engine.format.inflate import inflate
from sdtrt.errors import FormatError

STEP = 0.18215**2  # of the bytes, in latents at unit scale: 0.18215 in those of the encoder
MIDDLE = 127.5  # the byte of latent 0
CHANNELS, COLOURS = 4, 256
ROUNDS = 20  # of k-means
SHARES = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))  # Floyd & Steinberg, 1976


def encode_palette(latents: F32Array) -> bytes:
    """Return the payload of latents, float32 (C, h, w) at unit scale; what exceeds +-4.23 is clamped."""
    scaled = np.clip(latents.astype(np.float64) / STEP + MIDDLE, 0, 255)
    colours = np.rint(find_colours(np.rint(scaled).reshape(len(latents), -1).T)).astype(np.uint8)
    return zlib.compress(colours.tobytes() + dither_floyd_steinberg(scaled, colours).tobytes(), 9)


def decode_palette(payload: bytes, shape: tuple[int, int, int]) -> F32Array:
    """Return a payload's latents, float32 `shape` = (C, h, w); `FormatError` if it is not one of that shape."""
    channels, height, width = shape
    nbytes = COLOURS * channels + height * width
    data = inflate(payload, nbytes, "payload")
    if len(data) != nbytes:
        raise FormatError(f"damaged payload: it does not hold the {nbytes} bytes of a palette and its indices")
    colours = np.frombuffer(data, np.uint8, COLOURS * channels).reshape(COLOURS, channels)
    indices = np.frombuffer(data, np.uint8, offset=colours.size).reshape(height, width)
    return ((colours[indices] - np.float32(MIDDLE)) * np.float32(STEP)).transpose(2, 0, 1)


def find_colours(points: F64Array) -> F64Array:
    """Return the palette, float64 (COLOURS, C), that k-means finds for points (n, C); always the same."""
    rng = np.random.default_rng(0)
    colours = points[rng.integers(len(points), size=COLOURS)] + rng.uniform(-0.5, 0.5, (COLOURS, points.shape[1]))
    for _ in range(ROUNDS):
        nearest, distance = _nearest(points, colours)
        counts = np.bincount(nearest, minlength=COLOURS)
        sums = np.stack([np.bincount(nearest, column, COLOURS) for column in points.T], axis=1)
        colours = sums / np.maximum(counts, 1)[:, None]
        unused = np.flatnonzero(counts == 0)
        farthest = np.argsort(-distance, kind="stable")[: len(unused)]
        colours[unused[: len(farthest)]] = points[farthest]
    return colours


def dither_floyd_steinberg(scaled: F64Array, colours: U8Array) -> U8Array:
    """Return the index of each position's colour, uint8 (h, w): errors are passed on to what comes later."""
    channels, height, width = scaled.shape
    target = np.zeros((height + 1, width + 2, channels))
    target[:-1, 1:-1] = scaled.transpose(1, 2, 0)
    palette = colours.astype(np.float64)
    indices = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            point = target[y, x + 1]
            index = np.square(palette - point).sum(1).argmin()
            indices[y, x] = index
            error = point - palette[index]
            for dy, dx, share in SHARES:
                target[y + dy, x + 1 + dx] += error * share
    return indices


def _nearest(points: F64Array, colours: F64Array) -> tuple[IndexArray, F64Array]:
    """Return each point's nearest colour and its squared distance."""
    squares = np.square(colours).sum(1) - 2 * points @ colours.T
    nearest = squares.argmin(1)
    return nearest, squares[np.arange(len(points)), nearest] + np.square(points).sum(1)
