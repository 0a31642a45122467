"""Alpha segments: round trips, tiles, regions and damage."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sdtrt.engine.coding.latent_file import alpha_segments, encode_latents_to_file
from sdtrt.engine.format import alpha
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import pixel_tiles
from sdtrt.engine.format.profile import shipped_profile
from sdtrt.errors import FormatError

PLANE = np.arange(35, dtype=np.uint8).reshape(5, 7)
SD1 = shipped_profile(2)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_encode_alpha_round_trip(plane: np.ndarray) -> None:
    np.testing.assert_array_equal(alpha.decode_alpha(alpha.encode_alpha(plane), *plane.shape), plane)


def test_encode_alpha_of_flat_plane_is_small() -> None:
    assert len(alpha.encode_alpha(np.full((512, 512), 128, np.uint8))) < 100


DATA = alpha.encode_alpha(PLANE)


def image_file(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PLANE).convert("RGB").save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        DATA[:-1],
        DATA[:-20],
        DATA + b"\0",
        DATA + DATA,
        b"\0" + DATA,
        image_file("PNG"),
        image_file("JPEG"),
    ],
)
def test_decode_alpha_of_damaged_segment_raises(data: bytes) -> None:
    with pytest.raises(FormatError, match="damaged alpha"):
        alpha.decode_alpha(data, 5, 7)


def test_decode_alpha_of_animated_or_transparent_webp_raises() -> None:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(FormatError, match="damaged alpha"):
        alpha.decode_alpha(stream.getvalue(), 5, 7)
    stream = io.BytesIO()
    Image.new("RGBA", (7, 5), (1, 2, 3, 4)).save(stream, "WEBP", lossless=True)
    with pytest.raises(FormatError, match="damaged alpha"):
        alpha.decode_alpha(stream.getvalue(), 5, 7)


def test_decode_alpha_with_flipped_bit_decodes_or_raises_format_error() -> None:
    plane = (4 * np.hypot(*np.mgrid[:64, :64])).clip(0, 255).astype(np.uint8)
    data = alpha.encode_alpha(plane)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(FormatError):
            alpha.decode_alpha(bytes(damaged), 64, 64)


@pytest.mark.parametrize(("height", "width"), [(7, 4), (6, 7), (5, 6), (1, 1)])
def test_decode_alpha_of_another_size_raises(height: int, width: int) -> None:
    with pytest.raises(FormatError):
        alpha.decode_alpha(DATA, height, width)


@given(st.binary(max_size=60))
def test_decode_alpha_of_random_data_raises(data: bytes) -> None:
    with pytest.raises(FormatError):
        alpha.decode_alpha(data, 5, 7)


@pytest.fixture(scope="module")
def tiled() -> tuple[np.ndarray, File]:
    plane = np.random.default_rng(0).integers(0, 256, (1600, 1701), np.uint8)
    plane[::2] = 7
    latents = np.zeros(SD1.grid(1701, 1600), np.float32)
    return plane, encode_latents_to_file(latents, 1701, 1600, SD1, 2048, alpha=alpha_segments(plane, SD1))


def test_read_alpha_of_tiles_returns_plane(tiled: tuple[np.ndarray, File]) -> None:
    plane, file = tiled
    assert file.layout.num_tiles == 4
    np.testing.assert_array_equal(alpha.read_alpha(file), plane)


@pytest.mark.parametrize("rows", [(0, 1600), (3, 4), (700, 901), (1500, 1600)])
@pytest.mark.parametrize("columns", [(0, 1701), (0, 1), (600, 700), (1700, 1701)])
def test_read_alpha_of_region_returns_crop(
    tiled: tuple[np.ndarray, File], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    plane, file = tiled
    np.testing.assert_array_equal(alpha.read_alpha(file, rows, columns), plane[slice(*rows), slice(*columns)])


def test_read_alpha_of_missing_tile_is_opaque(tiled: tuple[np.ndarray, File]) -> None:
    plane, file = tiled
    whole = [True] * len(file.segments)
    whole[-1] = False
    decoded = alpha.read_alpha(file, intact_segments=whole)
    (rows, columns) = pixel_tiles(1701, 1600, 8, file.layout)[-1]
    assert decoded is not None
    assert (decoded[slice(*rows), slice(*columns)] == 255).all()
    decoded[slice(*rows), slice(*columns)] = plane[slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(decoded, plane)
