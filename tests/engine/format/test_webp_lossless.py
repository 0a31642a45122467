"""Lossless WebP: round trips, stable bytes and damage."""

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sdtrt.engine.format import alpha, webp_lossless
from sdtrt.errors import FormatError

SIMPLE = b"WEBPVP8L"


def overlay(height: int = 40, width: int = 56) -> np.ndarray:
    """Return an overlay, uint8 (height, width, 4), of a few colours with a hole."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows // 8 * 40, columns // 8 * 30, rows * 0 + 7, rows * 0 + 255], axis=2).astype(np.uint8)
    pixels[8:16, 16:32] = 0
    return pixels


def file_of(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", **options)
    return stream.getvalue()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.data())
def test_encode_rgba_round_trip(plane, data):
    is_visible = data.draw(hnp.arrays(np.bool_, plane.shape))
    pixels = np.dstack([plane, plane[::-1], 255 - plane, np.where(is_visible, 255, 0).astype(np.uint8)])
    segment = webp_lossless.encode_rgba(pixels)
    assert segment[8:16] == SIMPLE
    decoded = webp_lossless.decode_rgba(segment, *plane.shape, "overlay")
    assert np.array_equal(decoded[:, :, 3], pixels[:, :, 3])
    assert np.array_equal(decoded[is_visible], pixels[is_visible])


def test_encode_rgba_of_opaque_overlay_has_no_alpha():
    pixels = overlay()
    pixels[:, :, 3] = 255
    segment = webp_lossless.encode_rgba(pixels)
    assert np.array_equal(webp_lossless.decode_rgb(segment, 40, 56, "overlay"), pixels[:, :, :3])
    assert np.array_equal(webp_lossless.decode_rgba(segment, 40, 56, "overlay"), pixels)


def test_encode_rgba_drops_colours_under_alpha_0():
    pixels = overlay()
    noisy = pixels.copy()
    hidden = pixels[:, :, 3] == 0
    noisy[hidden, :3] = np.random.default_rng(1).integers(0, 256, (hidden.sum(), 3))
    assert webp_lossless.encode_rgba(noisy) == webp_lossless.encode_rgba(pixels)


def test_encode_rgb_gives_the_bytes_of_pillow():
    plane = overlay()[:, :, 0]
    assert alpha.encode_alpha(plane) == file_of(np.dstack([plane] * 3), lossless=True, quality=100)


def test_decode_rgba_with_partial_alpha_raises():
    pixels = overlay()
    pixels[3, 4, 3] = 128
    with pytest.raises(FormatError, match="damaged overlay: it has alpha values other than 0 and 255"):
        webp_lossless.decode_rgba(file_of(pixels, lossless=True), 40, 56, "overlay")


def animation() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGBA", (56, 40), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return stream.getvalue()


SEGMENT = webp_lossless.encode_rgba(overlay())
OTHERS = {
    "nothing": b"",
    "junk": b"junk",
    "short": SEGMENT[:-2],
    "long": SEGMENT + b"\0\0",
    "twice": SEGMENT + SEGMENT,
    "lossy": file_of(overlay()[:, :, :3]),
    "lossy with alpha": file_of(overlay()),
    "with metadata": file_of(overlay(), lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "animated": animation(),
    "with a chunk behind": b"RIFF" + struct.pack("<I", len(SEGMENT)) + SEGMENT[8:] + b"EXIF\0\0\0\0",
    "of another version": SEGMENT[:24] + bytes([SEGMENT[24] | 0x20]) + SEGMENT[25:],
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_decode_rgba_of_damaged_segment_raises(data):
    with pytest.raises(FormatError, match="damaged overlay"):
        webp_lossless.decode_rgba(data, 40, 56, "overlay")


@pytest.mark.parametrize(("height", "width"), [(56, 40), (41, 56), (40, 55), (1, 1)])
def test_decode_rgba_of_another_size_raises(height, width):
    with pytest.raises(FormatError):
        webp_lossless.decode_rgba(SEGMENT, height, width, "overlay")


def test_decode_rgba_with_flipped_bit_decodes_or_raises_format_error():
    for bit in range(8 * len(SEGMENT)):
        damaged = bytearray(SEGMENT)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(FormatError):
            decoded = webp_lossless.decode_rgba(bytes(damaged), 40, 56, "overlay")
            assert set(np.unique(decoded[:, :, 3])) <= {0, 255}


@given(st.binary(max_size=60))
def test_decode_rgba_of_random_data_raises(data):
    with pytest.raises(FormatError):
        webp_lossless.decode_rgba(data, 40, 56, "overlay")
