"""The latent reader: crops, the tiles that a crop decodes, coarse channels and the report of missing tiles."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.latent_file import TileCodingOptions, encode_latents_to_file
from sdtrt.engine.coding.latent_reader import (
    CACHED_TILE_ROWS,
    LatentReader,
    attach_recon_offsets,
    load_prior,
    num_levels,
)
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.coding.streams.decoded import DecodedStream
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.format.profile import LatentProfile, shipped_profile
from sdtrt.errors import FormatError, LimitError

HEIGHT, WIDTH = 170, 100  # 5 rows and 3 columns of tiles


def encoded_file(profile: LatentProfile, height: int = HEIGHT, width: int = WIDTH) -> File:
    shape = (profile.channels, height, width)
    plane = np.random.default_rng(2).laplace(0, 1, shape).astype(np.float32) * profile.std[:, None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        return encode_latents_to_file(plane, 8 * width - 3, 8 * height - 3, profile, 2100, TileCodingOptions(effort=1))


@pytest.fixture(scope="module", params=["sd1", "inline"])
def file(request: pytest.FixtureRequest, inline_profile: Callable[..., LatentProfile]) -> File:
    return encoded_file(shipped_profile(2) if request.param == "sd1" else inline_profile(3))


@pytest.fixture
def decoded_shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that collects the shapes (C, h, w) of decoded streams."""
    shapes: list[tuple[int, ...]] = []

    def recording_decode_stream(
        stream: bytes, shape: tuple[int, int, int], *rest: Any, **options: Any
    ) -> DecodedStream:
        shapes.append(shape)
        return original(stream, shape, *rest, **options)

    original = stream_codec.decode_stream
    monkeypatch.setattr(stream_codec, "decode_stream", recording_decode_stream)
    return shapes


def test_crop_equals_the_slice_of_all_latents(file: File) -> None:
    assert (file.layout.columns, file.layout.rows) == (3, 5)
    latents = LatentReader(file).read().dequantize()
    assert latents.shape[1:] == (HEIGHT, WIDTH)
    reader, rng = LatentReader(file), np.random.default_rng(3)
    for _ in range(30):
        (top, bottom), (left, right) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (HEIGHT, WIDTH))
        crop = reader.crop((top, bottom), (left, right)).dequantize()
        np.testing.assert_array_equal(crop, latents[:, top:bottom, left:right])


def test_crop_decodes_only_overlapping_tiles(file: File, decoded_shapes: list[tuple[int, ...]]) -> None:
    reader = LatentReader(file)
    reader.crop((0, 1), (0, 1))
    assert len(decoded_shapes) == 1
    reader.crop((0, 36), (0, 36))  # tiles end at multiples of 4, so at 32 or 36
    assert 2 <= len(decoded_shapes) <= 4
    count = len(decoded_shapes)
    reader.crop((0, 30), (0, 20))
    assert len(decoded_shapes) == count  # the tile is cached


def test_crops_from_top_to_bottom_decode_each_tile_once(file: File, decoded_shapes: list[tuple[int, ...]]) -> None:
    reader = LatentReader(file)
    for top in range(0, HEIGHT - 40, 10):
        reader.crop((top, top + 40), (0, WIDTH))
    reader.crop((HEIGHT - 40, HEIGHT), (0, WIDTH))
    assert len(decoded_shapes) == file.layout.num_tiles
    assert len(reader._tiles) <= CACHED_TILE_ROWS * file.layout.columns
    reader.crop((0, 1), (0, 1))
    assert len(decoded_shapes) == file.layout.num_tiles + 1  # the first tile has left the cache


def test_read_channels_equals_the_channels_of_all_latents(file: File) -> None:
    latents = LatentReader(file).read().dequantize()
    for channels in ((0,), (2, 0)):
        np.testing.assert_array_equal(LatentReader(file).read_channels(channels).dequantize(), latents[list(channels)])


@pytest.mark.parametrize(
    ("channels", "levels"), [([], 1), ([28], 2), ([0, 28, 34], 2), ([2, 0], 3), ([3], 3), ([6], 4)]
)
def test_read_channels_coarse_channels_do_not_read_later_levels(channels: list[int], levels: int) -> None:
    file = encoded_file(shipped_profile(1), 70, 70)
    latents = LatentReader(file).read().dequantize()
    data, later = bytearray(container.write(file)), b"".join(file.segments[levels * file.layout.num_tiles :])
    start = data.index(later) if later else len(data)
    data[start : start + len(later)] = bytes(byte ^ 0xFF for byte in later)
    coarse = LatentReader(container.read_from(io.BytesIO(data)))
    np.testing.assert_array_equal(coarse.read_channels(channels).dequantize(), latents[channels])
    if levels < 4:
        with pytest.raises(FormatError, match="differs from its length or CRC"):
            coarse.read_channels(range(40))


@pytest.mark.parametrize("shift", [-4, 4, 8])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_read_level_with_shifted_end_raises_format_error(level: int, shift: int) -> None:
    file = encoded_file(shipped_profile(1), 70, 70)
    tiles, segments = file.layout.num_tiles, [*file.segments]
    number = level * tiles + 1
    both_levels, end = segments[number] + segments[number + tiles], len(segments[number]) + shift
    segments[number], segments[number + tiles] = both_levels[:end], both_levels[end:]
    reader = LatentReader(File(file.header, segments, file.layout))
    with pytest.raises(FormatError, match="damaged stream: a level"):
        reader.read()
    with pytest.raises(FormatError, match="damaged stream: a level"):
        reader.read_channels((0, 3))


def test_read_channels_stream_with_wrong_start_or_end_raises_format_error() -> None:
    file = encoded_file(shipped_profile(1), 70, 70)
    misaligned = replace(file, header=replace(file.header, alignment=(file.header.alignment + 1) % 4))
    with pytest.raises(FormatError, match="alignment"):
        LatentReader(misaligned).read_channels((0,))
    short = [segment[:-1] if n == file.layout.num_tiles else segment for n, segment in enumerate(file.segments)]
    with pytest.raises(FormatError, match="no multiple of 4 bytes"):
        LatentReader(replace(file, segments=short)).read_channels((0,))
    padded = [b"\0" + segment if n == 1 else segment for n, segment in enumerate(file.segments)]
    with pytest.raises(FormatError, match="zero byte"):
        LatentReader(replace(file, segments=padded)).read_channels((0,))


def test_missing_report_counts_missing_and_incomplete_tiles() -> None:
    file = encoded_file(shipped_profile(2))
    tiles, intact = file.layout.num_tiles, [True] * len(file.segments)
    intact[0] = intact[tiles + 1] = intact[2 * tiles + 2] = False
    segments = [segment if is_intact else b"" for segment, is_intact in zip(file.segments, intact, strict=True)]
    reader = LatentReader(File(file.header, segments, file.layout), intact_segments=intact)
    assert not reader.missing_report()  # no tile has been read
    reader.crop((HEIGHT - 1, HEIGHT), (0, 1))
    assert not reader.missing_report()
    reader.read()
    assert reader.missing_report() == "tiles: 1 of 15 missing, 2 incomplete"


def test_latent_reader_invalid_layout_limits_or_prior_raises(inline_profile: Callable[..., LatentProfile]) -> None:
    header = Header(8 * WIDTH, 8 * HEIGHT, 2, 2, 2048)
    for layout, message in (
        (Layout(4, 1, 1), "4x1 tiles of 100x170"),
        (Layout(1, 6, 3), "1x6 tiles"),
        (Layout(1, 1, 2), "2 levels"),
    ):
        with pytest.raises(FormatError, match=message):
            LatentReader(File(header, [b""] * layout.num_segments, layout))
    with pytest.raises(LimitError, match="values"):
        LatentReader(encoded_file(shipped_profile(2)), Limits(max_pixels=4 * HEIGHT * WIDTH - 1))
    with pytest.raises(FormatError, match="prior 77"):
        load_prior(77, inline_profile(4))


def test_num_levels_of_each_prior() -> None:
    tiny, sd1 = shipped_profile(1), shipped_profile(2)
    assert [num_levels(load_prior(n, profile)) for n, profile in ((0, sd1), (1, tiny), (2, sd1))] == [3, 4, 3]


def test_attach_recon_offsets_large_offsets_and_extreme_symbols_keep_latents() -> None:
    """Offsets of many steps move to other symbols, within int16. The latents do not change."""
    symbols = np.array([[[-32768, -32768, -32768, -4, 0, 3, 32767, 32767, 32767]]], np.int16)
    recon_offsets = np.array([[[-128, 0, 6400, 300, -33, 32, -6400, 0, 127]]], np.int32)
    one = np.ones(1, np.float32)
    decoded = DecodedStream(symbols, recon_offsets)
    latents = attach_recon_offsets(decoded, 0 * one, one, 0 * one).dequantize()
    np.testing.assert_array_equal(latents, symbols + recon_offsets / np.float32(64))
