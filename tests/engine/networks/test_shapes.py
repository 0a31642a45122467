"""Shape ranges: their texts, and the shapes of their planes."""

import pytest

from sdtrt.engine.networks.backends.shapes import ShapeRange


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("512x256", [(1, 512, 256)] * 3),
        ("512x256*8", [(8, 512, 256)] * 3),
        ("64x64..512x256..1024x1024", [(1, 64, 64), (1, 512, 256), (1, 1024, 1024)]),
        ("64x64..512x256..1024x1024*4", [(1, 64, 64), (1, 512, 256), (4, 1024, 1024)]),
    ],
)
def test_shape_range_parse_and_str_round_trip(text: str, sizes: list[tuple[int, int, int]]) -> None:
    shapes = ShapeRange.parse(text)
    assert [shapes.min, shapes.opt, shapes.max] == sizes
    assert str(shapes) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "512",
        "512x",
        "0x512",
        "512x512*0",
        "512x512..256x256..1024x1024",
        "64x64..128x128",
        "512x512x3",
        "-1x5",
        "8x8*",
        "16392x8",
    ],
)
def test_shape_range_parse_of_malformed_text_raises(text: str) -> None:
    with pytest.raises(ValueError, match="shapes"):
        ShapeRange.parse(text)


def test_shape_range_planes_have_divided_sides() -> None:
    assert ShapeRange.parse("64x128*2").planes(4, 8) == [(2, 4, 16, 8)] * 3
    with pytest.raises(ValueError, match="multiples of 8"):
        ShapeRange.parse("60x64").planes(4, 8)
