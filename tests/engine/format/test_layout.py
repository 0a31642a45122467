"""Layouts: spans of tiles, kinds of segments, and copies of parts into planes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtrt.engine.format.layout import (
    MIN_TILE,
    TILE_ALIGNMENT,
    Layout,
    max_tiles,
    overlapping,
    overlaps,
    paste,
    tile_spans,
)

LENGTHS = st.integers(1, 3000)


@given(LENGTHS, st.data())
def test_tile_spans_cover_the_side_in_multiples_of_4(length: int, data: st.DataObject) -> None:
    """The edges are those of docs/format.md; there are no gaps and no small tiles."""
    count = data.draw(st.integers(1, max_tiles(length)))
    spans = tile_spans(length, count)
    assert len(spans) == count
    assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans))
    assert [start for start, _ in spans[1:]] == [4 * (i * -(-length // 4) // count) for i in range(1, count)]
    assert all(start % TILE_ALIGNMENT == 0 for start, _ in spans)
    assert count == 1 or min(stop - start for start, stop in spans) > MIN_TILE - 2 * TILE_ALIGNMENT


@pytest.mark.parametrize(("length", "count"), [(1, 1), (31, 1), (63, 1), (64, 2), (95, 2), (96, 3)])
def test_max_tiles(length: int, count: int) -> None:
    assert max_tiles(length) == count
    assert Layout(1, count).fits(length, 9)
    assert Layout(count, 1).fits(9, length)
    assert not Layout(count + 1, 1).fits(9, length)
    assert not Layout(1, count + 1).fits(length, 9)


def test_segment_index_counts_kinds_then_tiles() -> None:
    """Indices run over the kinds, and within a kind over the tiles."""
    layout = Layout(3, 2, 4, alpha=True)
    assert (layout.num_tiles, layout.num_segments) == (6, 30)
    assert [layout.segment_index(kind, tile) for kind in range(5) for tile in range(6)] == list(range(30))


@pytest.mark.parametrize(
    ("layout", "kinds"),
    [
        (Layout(), ("latents",)),
        (Layout(levels=2), ("level 1", "level 2")),
        (Layout(residual_step=1), ("latents", "residual")),
        (Layout(overlay=True), ("latents", "overlay")),
        (Layout(3, 2, alpha=True, overlay=True, residual_step=9), ("latents", "overlay", "residual", "alpha")),
    ],
)
def test_kinds_of_layouts(layout: Layout, kinds: tuple[str, ...]) -> None:
    assert layout.kinds == kinds
    assert layout.num_segments == layout.num_tiles * len(kinds)
    for number, kind in enumerate(kinds):
        assert layout.segment_index(kind, 0) == layout.segment_index(number, 0) == layout.num_tiles * number


@pytest.mark.parametrize(
    ("first", "second", "do"),
    [((0, 4), (4, 8), False), ((0, 5), (4, 8), True), ((2, 3), (0, 9), True), ((5, 6), (0, 5), False)],
)
def test_overlaps(first: tuple[int, int], second: tuple[int, int], do: bool) -> None:
    assert overlaps(first, second) == overlaps(second, first) == do


@given(st.integers(1, 300), st.integers(1, 9), st.data())
def test_overlapping(length: int, count: int, data: st.DataObject) -> None:
    tiles = tile_spans(length, min(count, max_tiles(length)))
    first = data.draw(st.integers(0, length - 1))
    span = first, data.draw(st.integers(first + 1, length))
    assert [*overlapping(tiles, span)] == [n for n, tile in enumerate(tiles) if overlaps(tile, span)]


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 8), st.integers(1, 8))
def test_paste_crops_to_the_plane(top: int, left: int, height: int, width: int) -> None:
    plane, part = np.zeros((2, 5, 6), int), 1 + np.arange(2 * height * width).reshape(2, height, width)
    paste(plane, part, top, left)
    for y, x in np.ndindex(5, 6):
        inside = 0 <= y - top < height and 0 <= x - left < width
        expected = part[:, y - top, x - left] if inside else [0, 0]
        np.testing.assert_array_equal(plane[:, y, x], expected)
