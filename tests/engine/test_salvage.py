"""What there is of files that are cut short or damaged, and that what is missing is told."""

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
    """A file of 3 tiles in 4 levels, with alpha and metadata."""
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
    """A file of 3 tiles with alpha, a residual and an overlay, each of which is in every tile."""
    alpha = np.add.outer(np.arange(72), np.arange(900)).astype(np.uint8)
    drawn = np.zeros((72, 900, 4), np.uint8)
    drawn[::9] = drawn[:, ::31] = 20, 200, 90, 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        file = container.read(codec.encode(ImageData(photo(900, 72), alpha), EncodeOptions(quality=95)))
    places = pixel_tiles(900, 72, 8, file.layout)
    segments = [webp_lossless.encode_rgba(drawn[slice(*rows), slice(*columns)]) for rows, columns in places]
    return container.write(with_segments(file, "overlay", segments, overlay=True))


def salvaged(codec: EngineCodec, data: bytes) -> tuple[ImageData, str]:
    """Return what there is, and what is said of it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = salvage.salvage(codec, data)
    assert all(warning.category is ImageWarning for warning in told)
    assert len(told) < 2
    return found, "".join(str(warning.message) for warning in told)


def assert_same(found: ImageData, expected: ImageData) -> None:
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    np.testing.assert_array_equal(found.alpha, expected.alpha)
    assert (found.grey, found.metadata) == (expected.grey, expected.metadata)


def test_whole_files(codec: EngineCodec, single: bytes, tiled: bytes, layered: bytes) -> None:
    for data in (single, tiled, layered):
        found, told = salvaged(codec, data)
        assert not told
        assert_same(found, codec.decode(data))


def test_prefixes_of_a_single_stream(codec: EngineCodec, single: bytes, photo: Photo) -> None:
    """More of a file is a nearer picture, within a little: a pass alone may mislead."""
    original = photo(93, 61)
    nearness = []
    for length in range(14, len(single) - 4, 5):
        found, told = salvaged(codec, single[:length])
        assert found.pixels.shape == original.shape
        assert told in {f"tiles: {n} of 1 missing, {1 - n} incomplete" for n in (0, 1)}
        nearness.append(psnr(found.pixels, original))
    assert nearness[-1] > nearness[0] + 8
    assert all(later > earlier - 1.5 for earlier, later in pairwise(nearness))


def test_a_single_stream_that_is_whole(codec: EngineCodec, single: bytes, photo: Photo) -> None:
    """Damage behind it costs no pixel."""
    named = codec.encode(ImageData(photo(93, 61), metadata=Metadata(xmp=b"<x/>")), EncodeOptions(quality=60, layers=1))
    whole = codec.decode(single)
    for data in (single[:-1] + b"?", named[:-1] + b"?", named[:-6] + b"?" + named[-5:], named[:-1], named[:-16]):
        found, told = salvaged(codec, data)
        assert told == "the checksum does not match: metadata is left out, and the image may be wrong"
        np.testing.assert_array_equal(found.pixels, whole.pixels)


def test_prefixes_of_several_tiles(codec: EngineCodec, tiled: bytes, photo: Photo) -> None:
    """The first level alone shows the whole picture, and each level more of it."""
    file, original = container.read(tiled), photo(900, 72)
    start = tiled.index(file.segments[0])
    ends = np.cumsum([0, *map(len, file.segments)]) + start
    nearness = []
    for level, words in (
        (1, "0 of 3 missing, 3 incomplete"),
        (2, "0 of 3 m"),
        (3, "0 of 3 m"),
        (4, "alpha of tiles: 3"),
    ):
        found, told = salvaged(codec, tiled[: ends[3 * level]])
        assert words in told
        assert "alpha of tiles: 3 of 3 missing" in told
        assert found.alpha is not None
        assert (found.alpha == 255).all()
        nearness.append(psnr(found.pixels, original))
    assert nearness == sorted(nearness)
    np.testing.assert_array_equal(found.pixels, codec.decode(tiled).pixels)
    found, told = salvaged(codec, tiled[: ends[1] + 3])
    assert told.startswith("tiles: 2 of 3 missing, 1 incomplete")
    found, told = salvaged(codec, tiled[: ends[-1]])
    assert told == "the checksum does not match: metadata is left out, and the image may be wrong"
    np.testing.assert_array_equal(found.alpha, codec.decode(tiled).alpha)
    assert not found.metadata.xmp


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("tile", range(3))
def test_damage_stays_where_it_is(codec: EngineCodec, tiled: bytes, level: int, tile: int) -> None:
    file, data, whole = container.read(tiled), bytearray(tiled), codec.decode(tiled)
    data[data.index(file.segment(level, tile)) + len(file.segment(level, tile)) // 2] ^= 0x10
    found, told = salvaged(codec, bytes(data))
    assert told == f"tiles: {'1 of 3 missing, 0' if level == 0 else '0 of 3 missing, 1'} incomplete"
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[tile]
    affected = np.zeros(900, bool)
    affected[max(left - REACH, 0) : right + REACH] = True
    np.testing.assert_array_equal(found.pixels[:, ~affected], whole.pixels[:, ~affected])
    assert (found.pixels[:, left:right] != whole.pixels[:, left:right]).any()
    np.testing.assert_array_equal(found.alpha, whole.alpha)


def test_damaged_alpha(codec: EngineCodec, tiled: bytes) -> None:
    file, data, whole = container.read(tiled), bytearray(tiled), codec.decode(tiled)
    data[data.index(file.segment(4, 1)) + 30] ^= 1
    found, told = salvaged(codec, bytes(data))
    assert told == "alpha of tiles: 1 of 3 missing"
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[1]
    assert found.alpha is not None
    assert whole.alpha is not None
    assert (found.alpha[:, left:right] == 255).all()
    np.testing.assert_array_equal(found.alpha[:, :left], whole.alpha[:, :left])
    np.testing.assert_array_equal(found.pixels, whole.pixels)


@pytest.mark.parametrize("kind", ["overlay", "residual"])
@pytest.mark.parametrize("tile", range(3))
def test_damaged_layers(codec: EngineCodec, layered: bytes, kind: str, tile: int) -> None:
    """The tile is shown without it, and others as ever."""
    file, data, whole = container.read(layered), bytearray(layered), codec.decode(layered)
    number = file.layout.segment_index(kind, tile)
    data[sum(map(len, file.segments[:number])) + layered.index(file.segments[0]) + 15] ^= 1
    found, told = salvaged(codec, bytes(data))
    assert told == f"{kind} of tiles: 1 of 3 missing"
    without = [b"" if n == number else segment for n, segment in enumerate(file.segments)]
    expected = codec.decode(container.write(replace(file, segments=without)))
    assert_same(found, expected)
    _, (left, right) = pixel_tiles(900, 72, 8, file.layout)[tile]
    changed = (found.pixels != whole.pixels).any((0, 2))
    assert changed[left:right].any()
    assert not changed[:left].any()
    assert not changed[right:].any()


def test_prefixes_of_layers(codec: EngineCodec, layered: bytes) -> None:
    """Overlays come before residuals, and those before alpha; as many tiles have them as are there."""
    file, start = container.read(layered), layered.index(container.read(layered).segments[0])
    ends = np.cumsum([0, *map(len, file.segments)]) + start
    bare = codec.reconstruct(file)
    for count in range(7):
        found, told = salvaged(codec, layered[: ends[12 + count]])
        missing = {"overlay": max(3 - count, 0), "residual": min(6 - count, 3), "alpha": 3}
        assert told == "; ".join(f"{kind} of tiles: {n} of 3 missing" for kind, n in missing.items() if n)
        whole = [n < 12 + count for n in range(len(file.segments))]
        np.testing.assert_array_equal(found.pixels, LayerReader(file, whole).apply(bare.copy()))
    np.testing.assert_array_equal(found.pixels, codec.decode(layered).pixels)


def test_damaged_metadata_is_told_of(codec: EngineCodec, tiled: bytes) -> None:
    data = bytearray(tiled)
    data[-9] ^= 1
    found, told = salvaged(codec, bytes(data))
    assert "metadata is left out" in told
    np.testing.assert_array_equal(found.pixels, codec.decode(tiled).pixels)


def test_metadata_that_is_none(codec: EngineCodec, tiled: bytes) -> None:
    """The checksum is right, and so is the picture."""
    data = container.write(replace(container.read(tiled), chunks={container.EXIF: b"not deflated"}))
    found, told = salvaged(codec, data)
    assert told.startswith("metadata is left out: ")
    assert found.missing == told
    np.testing.assert_array_equal(found.pixels, codec.decode(tiled).pixels)
    assert codec.decode(tiled).missing == ""


def test_damaged_heads(codec: EngineCodec, tiled: bytes, single: bytes) -> None:
    """An index has a check of its own, and nothing is believed of a file without it."""
    start = tiled.index(container.read(tiled).segments[0])
    for at in range(start):
        data = bytearray(tiled)
        data[at] ^= 0x04
        with pytest.raises(FormatError):
            salvage.salvage(codec, bytes(data))
        with pytest.raises(FormatError):
            salvage.salvage(codec, tiled[:at])
    for data in (b"", b"SDT", single[:13], b"PNG" + single[3:], b"SDT\x02" + single[4:]):
        with pytest.raises(FormatError):
            salvage.salvage(codec, data)


@pytest.mark.parametrize("name", ["x_left_over", "x_short_payload", "x_alignment", "x_swapped_tiles", "x_behind"])
def test_what_decode_refuses_is_not_passed_off_as_whole(codec: EngineCodec, name: str) -> None:
    """Checksums that fit, and streams that contradict themselves."""
    data = (VECTORS / name / "input.sdt").read_bytes()
    with pytest.raises(FormatError):
        codec.decode(data)
    assert salvaged(codec, data)[1]
