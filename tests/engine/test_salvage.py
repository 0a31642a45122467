"""Salvage of truncated and damaged files, and its report of missing parts."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sdtrt.engine import salvage
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.encoder import with_segments
from sdtrt.engine.format import container, webp_lossless
from sdtrt.engine.format.layout import pixel_tiles
from sdtrt.engine.format.metadata import Metadata
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.errors import FormatError, ImageWarning

Photo = Callable[[int, int], np.ndarray]
REACH = 8 * (find_bundle("tiny").receptive_radius or 0)
VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="module")
def codec() -> EngineCodec:
    return EngineCodec("tiny", threads=1, precision="fp32")


@pytest.fixture(scope="module")
def tiled(codec: EngineCodec, photo: Photo) -> Iterator[bytes]:
    """Yield a file of 3 tiles in 4 levels, with alpha and metadata."""
    alpha = np.add.outer(np.arange(72), np.arange(900)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        yield codec.encode(
            ImageData(photo(900, 72), alpha, metadata=Metadata(xmp=b"<x/>")), EncodeOptions(quality=60, layers=1)
        )


@pytest.fixture(scope="module")
def single(codec: EngineCodec, photo: Photo) -> bytes:
    return codec.encode(ImageData(photo(93, 61)), EncodeOptions(quality=60, layers=1))


@pytest.fixture(scope="module")
def layered(codec: EngineCodec, photo: Photo) -> bytes:
    """Return a file of 3 tiles with alpha, a residual and an overlay in every tile."""
    alpha = np.add.outer(np.arange(72), np.arange(900)).astype(np.uint8)
    lines = np.zeros((72, 900, 4), np.uint8)
    lines[::9] = lines[:, ::31] = 20, 200, 90, 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        file = container.read(codec.encode(ImageData(photo(900, 72), alpha), EncodeOptions(quality=95)))
    slices = pixel_tiles(900, 72, 8, file.layout)
    segments = [webp_lossless.encode_rgba(lines[slice(*rows), slice(*columns)]) for rows, columns in slices]
    return container.write(with_segments(file, "overlay", segments, overlay=True))


def salvage_with_report(codec: EngineCodec, data: bytes) -> tuple[ImageData, str]:
    """Return the salvaged image and the text of its warning, "" if there is none."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        image = salvage.salvage(codec, data)
    assert all(warning.category is ImageWarning for warning in messages)
    assert len(messages) < 2
    return image, "".join(str(warning.message) for warning in messages)


def assert_same(actual: ImageData, expected: ImageData) -> None:
    np.testing.assert_array_equal(actual.pixels, expected.pixels)
    np.testing.assert_array_equal(actual.alpha, expected.alpha)
    assert (actual.grey, actual.metadata) == (expected.grey, expected.metadata)


def test_salvage_intact_file_equals_decode(codec: EngineCodec, single: bytes, tiled: bytes, layered: bytes) -> None:
    for data in (single, tiled, layered):
        image, report = salvage_with_report(codec, data)
        assert not report
        assert_same(image, codec.decode(data))


def test_salvage_longer_prefix_of_one_stream_raises_psnr(codec: EngineCodec, single: bytes, photo: Photo) -> None:
    """The PSNR rises with the prefix. A single pass may lower it by up to 1.5 dB."""
    original = photo(93, 61)
    psnrs = []
    for length in range(14, len(single) - 4, 5):
        image, report = salvage_with_report(codec, single[:length])
        assert image.pixels.shape == original.shape
        assert report in {f"tiles: {n} of 1 missing, {1 - n} incomplete" for n in (0, 1)}
        psnrs.append(psnr(image.pixels, original))
    assert psnrs[-1] > psnrs[0] + 8
    assert all(later > earlier - 1.5 for earlier, later in pairwise(psnrs))


def test_salvage_damage_after_the_stream_keeps_all_pixels(codec: EngineCodec, single: bytes, photo: Photo) -> None:
    """Damaged or missing metadata and checksums do not change the pixels."""
    with_metadata = codec.encode(
        ImageData(photo(93, 61), metadata=Metadata(xmp=b"<x/>")), EncodeOptions(quality=60, layers=1)
    )
    intact_image = codec.decode(single)
    for data in (
        single[:-1] + b"?",
        with_metadata[:-1] + b"?",
        with_metadata[:-6] + b"?" + with_metadata[-5:],
        with_metadata[:-1],
        with_metadata[:-16],
    ):
        image, report = salvage_with_report(codec, data)
        assert report == "the checksum does not match: metadata is left out, and the image may be wrong"
        np.testing.assert_array_equal(image.pixels, intact_image.pixels)


def test_salvage_prefix_of_tiles_shows_all_tiles_at_the_complete_levels(
    codec: EngineCodec, tiled: bytes, photo: Photo
) -> None:
    """The first level shows the full image, and each level raises the PSNR."""
    file, original = container.read(tiled), photo(900, 72)
    start = tiled.index(file.segments[0])
    ends = np.cumsum([0, *map(len, file.segments)]) + start
    psnrs = []
    for level, message in (
        (1, "0 of 3 missing, 3 incomplete"),
        (2, "0 of 3 m"),
        (3, "0 of 3 m"),
        (4, "alpha of tiles: 3"),
    ):
        image, report = salvage_with_report(codec, tiled[: ends[3 * level]])
        assert message in report
        assert "alpha of tiles: 3 of 3 missing" in report
        assert image.alpha is not None
        assert (image.alpha == 255).all()
        psnrs.append(psnr(image.pixels, original))
    assert psnrs == sorted(psnrs)
    np.testing.assert_array_equal(image.pixels, codec.decode(tiled).pixels)
    image, report = salvage_with_report(codec, tiled[: ends[1] + 3])
    assert report.startswith("tiles: 2 of 3 missing, 1 incomplete")
    image, report = salvage_with_report(codec, tiled[: ends[-1]])
    assert report == "the checksum does not match: metadata is left out, and the image may be wrong"
    np.testing.assert_array_equal(image.alpha, codec.decode(tiled).alpha)
    assert not image.metadata.xmp


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("tile", range(3))
def test_salvage_damaged_level_changes_only_pixels_near_its_tile(
    codec: EngineCodec, tiled: bytes, level: int, tile: int
) -> None:
    file, data, intact_image = container.read(tiled), bytearray(tiled), codec.decode(tiled)
    data[data.index(file.segment(level, tile)) + len(file.segment(level, tile)) // 2] ^= 0x10
    image, report = salvage_with_report(codec, bytes(data))
    assert report == f"tiles: {'1 of 3 missing, 0' if level == 0 else '0 of 3 missing, 1'} incomplete"
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[tile]
    affected = np.zeros(900, bool)
    affected[max(left - REACH, 0) : right + REACH] = True
    np.testing.assert_array_equal(image.pixels[:, ~affected], intact_image.pixels[:, ~affected])
    assert (image.pixels[:, left:right] != intact_image.pixels[:, left:right]).any()
    np.testing.assert_array_equal(image.alpha, intact_image.alpha)


def test_salvage_damaged_alpha_makes_its_tile_opaque(codec: EngineCodec, tiled: bytes) -> None:
    file, data, intact_image = container.read(tiled), bytearray(tiled), codec.decode(tiled)
    data[data.index(file.segment(4, 1)) + 30] ^= 1
    image, report = salvage_with_report(codec, bytes(data))
    assert report == "alpha of tiles: 1 of 3 missing"
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[1]
    assert image.alpha is not None
    assert intact_image.alpha is not None
    assert (image.alpha[:, left:right] == 255).all()
    np.testing.assert_array_equal(image.alpha[:, :left], intact_image.alpha[:, :left])
    np.testing.assert_array_equal(image.pixels, intact_image.pixels)


@pytest.mark.parametrize("kind", ["overlay", "residual"])
@pytest.mark.parametrize("tile", range(3))
def test_salvage_damaged_layer_is_left_out_of_its_tile(
    codec: EngineCodec, layered: bytes, kind: str, tile: int
) -> None:
    """Pixels of other tiles do not change."""
    file, data, intact_image = container.read(layered), bytearray(layered), codec.decode(layered)
    number = file.layout.segment_index(kind, tile)
    data[sum(map(len, file.segments[:number])) + layered.index(file.segments[0]) + 15] ^= 1
    image, report = salvage_with_report(codec, bytes(data))
    assert report == f"{kind} of tiles: 1 of 3 missing"
    without = [b"" if n == number else segment for n, segment in enumerate(file.segments)]
    expected = codec.decode(container.write(replace(file, segments=without)))
    assert_same(image, expected)
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[tile]
    changed = (image.pixels != intact_image.pixels).any((0, 2))
    assert changed[left:right].any()
    assert not changed[:left].any()
    assert not changed[right:].any()


def test_salvage_prefix_of_layers_applies_the_complete_segments(codec: EngineCodec, layered: bytes) -> None:
    """Segments of overlays come first, then segments of residuals, then alpha."""
    file, start = container.read(layered), layered.index(container.read(layered).segments[0])
    ends = np.cumsum([0, *map(len, file.segments)]) + start
    without_layers = codec.reconstruct(file)
    for count in range(7):
        image, report = salvage_with_report(codec, layered[: ends[12 + count]])
        missing = {"overlay": max(3 - count, 0), "residual": min(6 - count, 3), "alpha": 3}
        assert report == "; ".join(f"{kind} of tiles: {n} of 3 missing" for kind, n in missing.items() if n)
        intact = [n < 12 + count for n in range(len(file.segments))]
        np.testing.assert_array_equal(image.pixels, LayerReader(file, intact).apply(without_layers.copy()))
    np.testing.assert_array_equal(image.pixels, codec.decode(layered).pixels)


def test_salvage_damaged_metadata_is_left_out_and_reported(codec: EngineCodec, tiled: bytes) -> None:
    data = bytearray(tiled)
    data[-9] ^= 1
    image, report = salvage_with_report(codec, bytes(data))
    assert "metadata is left out" in report
    np.testing.assert_array_equal(image.pixels, codec.decode(tiled).pixels)


def test_salvage_invalid_exif_is_left_out_and_reported(codec: EngineCodec, tiled: bytes) -> None:
    """The checksum matches, so the pixels equal the decoded pixels."""
    data = container.write(replace(container.read(tiled), chunks={container.EXIF: b"not deflated"}))
    image, report = salvage_with_report(codec, data)
    assert report.startswith("metadata is left out: ")
    assert image.missing == report
    np.testing.assert_array_equal(image.pixels, codec.decode(tiled).pixels)
    assert codec.decode(tiled).missing == ""


def test_salvage_damaged_header_or_index_raises_format_error(codec: EngineCodec, tiled: bytes, single: bytes) -> None:
    """The index has its own checksum, and salvage needs an intact index."""
    start = tiled.index(container.read(tiled).segments[0])
    for position in range(start):
        data = bytearray(tiled)
        data[position] ^= 0x04
        with pytest.raises(FormatError):
            salvage.salvage(codec, bytes(data))
        with pytest.raises(FormatError):
            salvage.salvage(codec, tiled[:position])
    for data in (b"", b"SDT", single[:13], b"PNG" + single[3:], b"SDT\x02" + single[4:]):
        with pytest.raises(FormatError):
            salvage.salvage(codec, data)


@pytest.mark.parametrize("name", ["x_left_over", "x_short_payload", "x_alignment", "x_swapped_tiles", "x_behind"])
def test_salvage_of_files_that_decode_refuses_warns(codec: EngineCodec, name: str) -> None:
    """The checksums match, but the streams are invalid."""
    data = (VECTORS / name / "input.sdt").read_bytes()
    with pytest.raises(FormatError):
        codec.decode(data)
    assert salvage_with_report(codec, data)[1]
