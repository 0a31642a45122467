"""The method of 2022, kept as a baseline: latents as 8-bit values, a palette of 256, dithering, deflate.

M. Bühlmann, "Stable Diffusion Based Image Compression", 2022: The latents of Stable Diffusion 1.4 become bytes.
libimagequant reduces them to a palette of 256 colours with Floyd-Steinberg dithering. Palette and indices are deflated.
Here k-means finds the palette in all four dimensions, while libimagequant takes the fourth one for opacity.
"""

import zlib

import numpy as np

from sdtrt._arrays import F32Array, F64Array, IndexArray, U8Array
from sdtrt.engine.coding.quantized_latents import QuantizedLatents
from sdtrt.engine.format.inflate import inflate
from sdtrt.errors import FormatError

STEP = 0.18215**2  # distance of two byte values, in latents at unit scale
MIDDLE = 127.5  # the byte of latent 0
CHANNELS, COLOURS = 4, 256
ROUNDS = 20  # of k-means
SHARES = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))  # Floyd & Steinberg, 1976


def encode_palette(latents: F32Array) -> bytes:
    """Encode latents, float32 (C, h, w) at unit scale; values beyond +-4.23 are clamped."""
    scaled = np.clip(latents.astype(np.float64) / STEP + MIDDLE, 0, 255)
    colours = np.rint(find_colours(np.rint(scaled).reshape(len(latents), -1).T)).astype(np.uint8)
    return zlib.compress(colours.tobytes() + dither_floyd_steinberg(scaled, colours).tobytes(), 9)


def decode_palette(payload: bytes, shape: tuple[int, int, int]) -> QuantizedLatents:
    """Decode a payload.

    A colour c stands for the latent (c - 127.5) * STEP. In `QuantizedLatents` its symbol is c - 128, with a
    reconstruction offset of half a step, which gives the same float32.

    Arguments:
        payload: bytes, as `encode_palette` returns them.
        shape: (channels, rows, columns) of the latents.

    Raises:
        FormatError: if this is not a payload of that shape.
    """
    channels, height, width = shape
    nbytes = COLOURS * channels + height * width
    data = inflate(payload, nbytes, "payload")
    if len(data) != nbytes:
        raise FormatError(f"damaged payload: it does not hold the {nbytes} bytes of a palette and its indices")
    colours = np.frombuffer(data, np.uint8, COLOURS * channels).reshape(COLOURS, channels)
    indices = np.frombuffer(data, np.uint8, offset=colours.size).reshape(height, width)
    symbols = np.ascontiguousarray(colours[indices].transpose(2, 0, 1)).astype(np.int16) - np.int16(128)
    steps = np.full(channels, STEP, np.float32)
    return QuantizedLatents(symbols, np.zeros(channels, np.float32), steps, np.full(shape, 32, np.int8))


def find_colours(points: F64Array) -> F64Array:
    """Find a palette, float64 (COLOURS, C), for points (n, C) by k-means with a fixed random seed."""
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
    """Choose the palette index of each position, uint8 (h, w), by Floyd-Steinberg error diffusion."""
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
    """Return the nearest colour of each point, and its squared distance."""
    squares = np.square(colours).sum(1) - 2 * points @ colours.T
    nearest = squares.argmin(1)
    return nearest, squares[np.arange(len(points)), nearest] + np.square(points).sum(1)
