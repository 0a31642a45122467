"""Stored latents: parts of them are parts of the whole, only what is needed is decoded, and what is missing is told."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdtrt.engine.coding import latent_file, stream_codec
from sdtrt.engine.coding.latent_file import TileCodingOptions, encode_latents_to_file
from sdtrt.engine.coding.latent_reader import (
    CACHED_TILE_ROWS,
    LatentReader,
    attach_recon_offsets,
    load_prior,
    num_levels,
)
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.format.profile import LatentProfile, shipped_profile
from sdtrt.errors import FormatError, LimitError

HEIGHT, WIDTH = 170, 100  # of 5x3 tiles


def stored_file(profile: LatentProfile, height: int = HEIGHT, width: int = WIDTH) -> File:
    shape = (profile.channels, height, width)
    plane = np.random.default_rng(2).laplace(0, 1, shape).astype(np.float32) * profile.std[:, None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        return encode_latents_to_file(plane, 8 * width - 3, 8 * height - 3, profile, 2100, TileCodingOptions(effort=1))


@pytest.fixture(scope="module", params=["sd1", "own"])
def file(request: pytest.FixtureRequest, inline_profile: Callable[..., LatentProfile]) -> File:
    return stored_file(shipped_profile(2) if request.param == "sd1" else inline_profile(3))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the streams that are decoded."""
    found: list[tuple[int, ...]] = []

    def watched(stream: bytes, shape: tuple[int, int, int], *rest: Any, **options: Any) -> stream_codec.DecodedStream:
        found.append(shape)
        return original(stream, shape, *rest, **options)

    original = stream_codec.decode_stream
    monkeypatch.setattr(stream_codec, "decode_stream", watched)
    return found


def test_parts_are_those_of_the_whole(file: File) -> None:
    assert (file.layout.columns, file.layout.rows) == (3, 5)
    whole = LatentReader(file).read().dequantize()
    assert whole.shape[1:] == (HEIGHT, WIDTH)
    stored, rng = LatentReader(file), np.random.default_rng(3)
    for _ in range(30):
        (top, bottom), (left, right) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (HEIGHT, WIDTH))
        part = stored.crop((top, bottom), (left, right)).dequantize()
        np.testing.assert_array_equal(part, whole[:, top:bottom, left:right])


def test_only_tiles_that_are_touched_are_decoded(file: File, decoded: list[tuple[int, ...]]) -> None:
    stored = LatentReader(file)
    stored.crop((0, 1), (0, 1))
    assert len(decoded) == 1
    stored.crop((0, 36), (0, 36))  # which end at multiples of 4: 32 or 36
    assert 2 <= len(decoded) <= 4
    count = len(decoded)
    stored.crop((0, 30), (0, 20))
    assert len(decoded) == count  # it is kept


def test_from_top_to_bottom_each_tile_is_decoded_once(file: File, decoded: list[tuple[int, ...]]) -> None:
    stored = LatentReader(file)
    for top in range(0, HEIGHT - 40, 10):
        stored.crop((top, top + 40), (0, WIDTH))
    stored.crop((HEIGHT - 40, HEIGHT), (0, WIDTH))
    assert len(decoded) == file.layout.num_tiles
    assert len(stored._tiles) <= CACHED_TILE_ROWS * file.layout.columns
    stored.crop((0, 1), (0, 1))
    assert len(decoded) == file.layout.num_tiles + 1  # forgotten


def test_some_channels(file: File) -> None:
    whole = LatentReader(file).read().dequantize()
    for channels in ((0,), (2, 0)):
        np.testing.assert_array_equal(LatentReader(file).read_channels(channels).dequantize(), whole[list(channels)])


@pytest.mark.parametrize(
    ("channels", "levels"), [([], 1), ([28], 2), ([0, 28, 34], 2), ([2, 0], 3), ([3], 3), ([6], 4)]
)
def test_coarse_channels_do_without_later_levels(channels: list[int], levels: int) -> None:
    file = stored_file(shipped_profile(1), 70, 70)
    whole = LatentReader(file).read().dequantize()
    data, later = bytearray(container.write(file)), b"".join(file.segments[levels * file.layout.num_tiles :])
    start = data.index(later) if later else len(data)
    data[start : start + len(later)] = bytes(byte ^ 0xFF for byte in later)
    coarse = LatentReader(container.read_from(io.BytesIO(data)))
    np.testing.assert_array_equal(coarse.read_channels(channels).dequantize(), whole[channels])
    if levels < 4:
        with pytest.raises(FormatError, match="differs from its length or CRC"):
            coarse.read_channels(range(40))


@pytest.mark.parametrize("moved", [-4, 4, 8])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_end_where_their_last_pass_does(level: int, moved: int) -> None:
    file = stored_file(shipped_profile(1), 70, 70)
    tiles, segments = file.layout.num_tiles, [*file.segments]
    number = level * tiles + 1
    both, end = segments[number] + segments[number + tiles], len(segments[number]) + moved
    segments[number], segments[number + tiles] = both[:end], both[end:]
    wrong = LatentReader(File(file.header, segments, file.layout))
    with pytest.raises(FormatError, match="damaged stream: a level"):
        wrong.read()
    with pytest.raises(FormatError, match="damaged stream: a level"):
        wrong.read_channels((0, 3))


def test_some_channels_of_a_stream_that_starts_or_ends_elsewhere() -> None:
    file = stored_file(shipped_profile(1), 70, 70)
    wrong = replace(file, header=replace(file.header, alignment=(file.header.alignment + 1) % 4))
    with pytest.raises(FormatError, match="alignment"):
        LatentReader(wrong).read_channels((0,))
    short = [segment[:-1] if n == file.layout.num_tiles else segment for n, segment in enumerate(file.segments)]
    with pytest.raises(FormatError, match="no multiple of 4 bytes"):
        LatentReader(replace(file, segments=short)).read_channels((0,))
    zero = [b"\0" + segment if n == 1 else segment for n, segment in enumerate(file.segments)]
    with pytest.raises(FormatError, match="zero byte"):
        LatentReader(replace(file, segments=zero)).read_channels((0,))


def test_what_is_missing_is_counted() -> None:
    file = stored_file(shipped_profile(2))
    tiles, whole = file.layout.num_tiles, [True] * len(file.segments)
    whole[0] = whole[tiles + 1] = whole[2 * tiles + 2] = False
    segments = [segment if there else b"" for segment, there in zip(file.segments, whole, strict=True)]
    stored = LatentReader(File(file.header, segments, file.layout), intact_segments=whole)
    assert not stored.missing_report()  # nothing has been asked for
    stored.crop((HEIGHT - 1, HEIGHT), (0, 1))
    assert not stored.missing_report()
    stored.read()
    assert stored.missing_report() == "tiles: 1 of 15 missing, 2 incomplete"


def test_contradictions(inline_profile: Callable[..., LatentProfile]) -> None:
    header = Header(8 * WIDTH, 8 * HEIGHT, 2, 2, 2048)
    for layout, words in (
        (Layout(4, 1, 1), "4x1 tiles of 100x170"),
        (Layout(1, 6, 3), "1x6 tiles"),
        (Layout(1, 1, 2), "2 levels"),
    ):
        with pytest.raises(FormatError, match=words):
            LatentReader(File(header, [b""] * layout.num_segments, layout))
    with pytest.raises(LimitError, match="values"):
        LatentReader(stored_file(shipped_profile(2)), Limits(max_pixels=4 * HEIGHT * WIDTH - 1))
    with pytest.raises(FormatError, match="prior 77"):
        load_prior(77, inline_profile(4))


def test_levels() -> None:
    tiny, sd1 = shipped_profile(1), shipped_profile(2)
    assert [num_levels(load_prior(n, profile)) for n, profile in ((0, sd1), (1, tiny), (2, sd1))] == [3, 4, 3]


def test_points_of_many_steps_and_symbols_at_the_ends() -> None:
    """Latents stay where they are, whatever symbol is nearest: 16 bits have one for each."""
    symbols = np.array([[[-32768, -32768, -32768, -4, 0, 3, 32767, 32767, 32767]]], np.int16)
    points = np.array([[[-128, 0, 6400, 300, -33, 32, -6400, 0, 127]]], np.int32)
    one = np.ones(1, np.float32)
    decoded = stream_codec.DecodedStream(symbols, points)
    found = attach_recon_offsets(decoded, 0 * one, one, 0 * one).dequantize()
    np.testing.assert_array_equal(found, symbols + points / np.float32(64))
