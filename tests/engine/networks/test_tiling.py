"""Tilings: spans, weights, bands, and images with tiles beside the same images without tiles."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from extras import needs

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.format.layout import Span
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.engine.networks.tiling import BLEND_OVERLAP, BLEND_TILE, CUT_TILE, Tiling, choose_tiling

MIN_TILE = 3 * 2 * (find_bundle("tiny").receptive_radius or 0) * 8
TILINGS = [
    Tiling(8, 2),
    Tiling(8, 2, True),
    Tiling(12, 3, True),
    Tiling(9, 3),
    Tiling(7, 0),
    Tiling(1, 0),
    Tiling(48, 16, True),
]


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("multiple", [1, 2, 8])
def test_tiling_spans_cover_the_side(tiling: Tiling, multiple: int) -> None:
    for length in range(multiple, 200, multiple):
        spans = tiling.spans(length, multiple)
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert len({stop - start for start, stop in spans}) == 1
        size = spans[0][1] - spans[0][0]
        assert size <= max(tiling.tile + multiple - 1, 3 * (tiling.overlap + multiple - 1))
        assert not any(edge % multiple for span in spans for edge in span)
        for (_, stop), (start, _) in pairwise(spans):
            assert stop - start >= tiling.overlap
        if length > tiling.tile and multiple == 1:
            assert len(spans) > 1


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("scale", [1, 8])
def test_blend_windows_add_up_to_one(tiling: Tiling, scale: int) -> None:
    for length in (1, 5, 9, 17, 50, 121, 200):
        spans = tiling.spans(length)
        total = np.zeros(length * scale)
        for (start, stop), window in zip(spans, tiling.blend_windows(spans, scale), strict=True):
            total[start * scale : stop * scale] += window
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_blend_windows_of_cut_tiles_end_mid_overlap() -> None:
    tiling = Tiling(30, 10, cut=True)
    windows = tiling.blend_windows(tiling.spans(70), 2)
    assert len(windows) == 3
    for n, window in enumerate(windows):
        assert set(window.tolist()) <= {0, 1}
        assert (window[:10] == 0).all() == (n > 0)
        assert (window[-10:] == 0).all() == (n < len(windows) - 1)


def test_tiling_blend_of_cut_tiles_widens_the_overlap() -> None:
    assert Tiling(48, 2, cut=True).blend(16) == Tiling(48, 16)
    assert Tiling(120, 40, cut=True).blend(16) == Tiling(120, 40)
    assert Tiling(12, 0, cut=True).blend(16) == Tiling(12, 4)
    assert Tiling(48, 2).blend(16) == Tiling(48, 2)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (40, 7), (7, 40), (33, 41)])
@pytest.mark.parametrize("tiling", [Tiling(12, 4), Tiling(12, 4, cut=True), Tiling(9, 2)])
def test_tiling_bands_restore_the_planes(tiling: Tiling, height: int, width: int) -> None:
    planes = np.random.default_rng(1).random((2, height * 4, width * 4)).astype(np.float32)

    def work(rows: Span, columns: Span) -> np.ndarray:
        return planes[:, 4 * rows[0] : 4 * rows[1], 4 * columns[0] : 4 * columns[1]]

    bands = list(tiling.bands(height, width, work, scale=4))
    tops = np.cumsum([0, *(band.shape[1] for _, band in bands)])
    assert [top for top, _ in bands] == tops[:-1].tolist()
    result = np.concatenate([band for _, band in bands], axis=1)
    np.testing.assert_allclose(result, planes, rtol=1e-6)
    if tiling.cut:
        np.testing.assert_array_equal(result, planes)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 3), (0, 0), (8, -1), (-8, 0)])
def test_tiling_with_small_tile_raises(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="must be three times as large"):
        Tiling(tile, overlap)


@pytest.mark.parametrize(("backend", "levels"), [("ort", 0), ("openvino", 1)])
def test_cut_tiles_give_the_image_without_tiles(
    photo: Callable[[int, int], np.ndarray], backend: str, levels: int
) -> None:
    """On some processors the sums of OpenVINO depend on the shape of planes: a few values may differ by 1."""
    if backend == "openvino":
        needs("openvino")
    untiled, tiled = (EngineCodec("tiny", tile=tile, backend=backend) for tile in (0, MIN_TILE))
    pixels = photo(MIN_TILE + 131, 90)
    for turned in (pixels, pixels.swapaxes(0, 1)):
        np.testing.assert_array_equal(tiled.analyse(turned), untiled.analyse(turned))
        data = untiled.encode(ImageData(turned), EncodeOptions(quality=30))
        assert tiled.encode(ImageData(turned), EncodeOptions(quality=30)) == data
        off = np.abs(tiled.decode(data).pixels.astype(int) - untiled.decode(data).pixels)
        assert off.max() <= levels
        assert np.count_nonzero(off) <= off.size / 10_000


def test_blended_tiles_are_close_to_the_image_without_tiles(photo: Callable[[int, int], np.ndarray]) -> None:
    pixels = photo(200, 50)
    untiled, tiled = EngineCodec("tiny", tile=0), EngineCodec("tiny", tile=96, overlap=32)
    data = tiled.encode(ImageData(pixels), EncodeOptions(quality=30))
    first, second = untiled.decode(data).pixels, tiled.decode(data).pixels
    assert 0 < np.abs(first.astype(int) - second).max() < 10


def test_denoised_tiles_are_close_to_the_image_without_tiles(
    denoising: Bundle, photo: Callable[[int, int], np.ndarray]
) -> None:
    codec = EngineCodec(denoising.folder, tile=96, overlap=32)
    data = codec.encode(ImageData(photo(203, 121)), EncodeOptions(quality=10))
    untiled = EngineCodec(denoising.folder, tile=0).decode(data, options=DecodeOptions(2))
    assert codec.decode(data, options=DecodeOptions(2)).pixels.shape == (121, 203, 3)
    assert psnr(codec.decode(data, options=DecodeOptions(2)).pixels, untiled.pixels) > 40


def test_choose_tiling_depends_on_receptive_radius() -> None:
    tiny = find_bundle("tiny")
    assert tiny.receptive_radius
    assert choose_tiling(tiny) == Tiling(CUT_TILE // 8, 2 * tiny.receptive_radius, cut=True)
    assert choose_tiling(tiny, 1000, 100) == Tiling(125, 13)
    assert choose_tiling(replace(tiny, receptive_radius=None)) == Tiling(BLEND_TILE // 8, BLEND_OVERLAP // 8)
    assert choose_tiling(tiny, 0).spans(1 << 20) == [(0, 1 << 20)]
    for tile, overlap in ((-1, 0), (300, 101), (7, 0), (100, -1)):
        with pytest.raises(
            ValueError, match=rf"tiles of {tile} pixels that overlap by {overlap}|(tile|overlap) is -1, expected"
        ):
            choose_tiling(tiny, tile, overlap)
