"""Layers: a part of them is that of the whole, each tile is decoded when it is needed, and what is damaged is told."""

import dataclasses
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.format import container, webp_lossless
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale
from sdtrt.errors import FormatError
from sdtrt.kernels import reference

VECTORS = Path(__file__).parents[2] / "vectors"
LAYERED = runpy.run_path(str(VECTORS / "layered.py"))
WIDTH, HEIGHT = 531, 518  # of 2x2 tiles, which meet at row and column 256
RNG = np.random.default_rng(6)


def bare(columns: int = 2, rows: int = 2) -> File:
    """Return a file without anything: layers do not look at latents."""
    return File(Header(WIDTH, HEIGHT, 1, 1, 2000), (b"",) * (columns * rows), Layout(columns, rows))


@pytest.fixture(scope="module")
def overlay() -> np.ndarray:
    return LAYERED["drawing"](WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def file(overlay: np.ndarray) -> File:
    """A file of 2x2 tiles with both layers, of which the last has no residual and the first no overlay."""
    drawn = overlay.copy()
    drawn[:256, :256] = 0
    return LAYERED["with_residual"](LAYERED["with_overlay"](bare(), drawn), 30, 5, missing=3)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """What networks are taken to have made: all levels, so that sums of some are beyond the last."""
    return RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The residuals that are decoded."""
    found: list[bytes] = []
    original = residual_codec.decode_residual

    def watched(segment: bytes, *rest: int) -> np.ndarray:
        found.append(segment)
        return original(segment, *rest)

    monkeypatch.setattr(residual_codec, "decode_residual", watched)
    return found


def test_what_is_put_over_pixels(file: File, pixels: np.ndarray) -> None:
    """The residual is added, within 0 to 255, and then hidden by the overlay, where that is."""
    layers = LAYERED["layers_of_file"](file)
    there = layers["overlay"][:, :, 3:] == 255
    expected = np.where(there, layers["overlay"][:, :, :3], np.clip(pixels + layers["residual"], 0, 255))
    assert not layers["residual"][256:, 256:].any()
    assert not there[:256, :256].any()
    assert {0, 255} <= {*(pixels + layers["residual"]).clip(0, 255).ravel()[:5000].tolist()}
    given = pixels.copy()
    found = LayerReader(file).apply(given)
    assert found is given
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["overlay", "residual"])
def test_one_alone(overlay: np.ndarray, pixels: np.ndarray, kind: str) -> None:
    file = LAYERED["with_overlay"](bare(), overlay) if kind == "overlay" else LAYERED["with_residual"](bare(), 30, 5)
    layers = LAYERED["layers_of_file"](file)
    assert layers.keys() == {kind}
    if kind == "overlay":
        np.testing.assert_array_equal(layers[kind], overlay)
        expected = np.where(overlay[:, :, 3:] == 255, overlay[:, :, :3], pixels)
    else:
        expected = np.clip(pixels + layers[kind], 0, 255)
    np.testing.assert_array_equal(LayerReader(file).apply(pixels.copy()), expected)


def test_nothing_over_pixels(pixels: np.ndarray) -> None:
    given = pixels.copy()
    layers = LayerReader(bare())
    assert layers.apply(given) is given
    assert layers.apply_to_preview(given, 1) is given
    assert not layers.missing_report()
    np.testing.assert_array_equal(given, pixels)
    layers.verify()


def test_parts_are_those_of_the_whole(file: File, pixels: np.ndarray) -> None:
    layers, whole = LayerReader(file), LayerReader(file).apply(pixels.copy())
    places = [((255, 257), (255, 257)), ((0, 1), (0, 1)), ((517, 518), (530, 531))]
    for _ in range(30):
        top, bottom = np.sort(RNG.choice(HEIGHT + 1, 2, replace=False)).tolist()
        left, right = np.sort(RNG.choice(WIDTH + 1, 2, replace=False)).tolist()
        places.append(((top, bottom), (left, right)))
    for rows, columns in places:
        within = np.s_[slice(*rows), slice(*columns)]
        np.testing.assert_array_equal(layers.apply(pixels[within].copy(), rows, columns), whole[within])


def test_bands_decode_each_tile_once(file: File, pixels: np.ndarray, decoded: list[bytes]) -> None:
    layers, bands = LayerReader(file), []
    for top in range(0, HEIGHT, 37):
        rows = (top, min(top + 37, HEIGHT))
        bands.append(layers.apply(pixels[slice(*rows)].copy(), rows))
    assert len(decoded) == 3
    np.testing.assert_array_equal(np.concatenate(bands), LayerReader(file).apply(pixels.copy()))


def test_only_tiles_that_are_touched_are_decoded(file: File, pixels: np.ndarray, decoded: list[bytes]) -> None:
    first = file.layout.segment("residual", 0)
    damaged = [*file.segments[: first + 1], b"\xff\xff\xff", *file.segments[first + 2 :]]
    layers = LayerReader(dataclasses.replace(file, segments=damaged))
    layers.apply(pixels[:256, :256].copy(), (0, 256), (0, 256))
    assert decoded == [file.segments[first]]
    with pytest.raises(FormatError, match="damaged residual"):
        layers.apply(pixels[:256, :257].copy(), (0, 256), (0, 257))


@pytest.mark.parametrize("scale", [8, 16, 7, 1024])
def test_reduced_pictures(overlay: np.ndarray, scale: int) -> None:
    """The mean of what is shown, if all of a block has the colour of its preview."""
    file = LAYERED["with_overlay"](bare(), overlay)
    size = -(-HEIGHT // scale), -(-WIDTH // scale)
    small = RNG.integers(0, 256, (*size, 3), np.uint8)
    whole = LayerReader(file).apply(small.repeat(scale, 0).repeat(scale, 1)[:HEIGHT, :WIDTH].copy())
    found = LayerReader(file).apply_to_preview(small.copy(), scale)
    assert abs(found.astype(int) - box_downscale(whole, scale)).max() <= 2


def test_reduced_pictures_under_a_whole_overlay(overlay: np.ndarray) -> None:
    covered = np.dstack([overlay[:, :, :3], np.full((HEIGHT, WIDTH), 255, np.uint8)])
    found = LayerReader(LAYERED["with_overlay"](bare(), covered)).apply_to_preview(np.zeros((65, 67, 3), np.uint8), 8)
    np.testing.assert_array_equal(found, box_downscale(covered[:, :, :3], 8))


def test_tiles_for_devices(file: File, pixels: np.ndarray) -> None:
    """What `parts` yields makes the same picture by the reference's arithmetic."""
    found = pixels.copy()
    for rows, columns, values, drawn in LayerReader(file).tiles():
        tile = found[slice(*rows), slice(*columns)]
        if values is not None:
            reference.add_residual(tile, values)
        if drawn is not None:
            reference.apply_overlay(tile, drawn)
    np.testing.assert_array_equal(found, LayerReader(file).apply(pixels.copy()))


@pytest.mark.parametrize(("kind", "tile"), [("overlay", 1), ("residual", 0), ("residual", 2)])
def test_what_is_not_whole_is_left_out_and_told(file: File, pixels: np.ndarray, kind: str, tile: int) -> None:
    whole = [True] * len(file.segments)
    assert not LayerReader(file, whole).missing_report()
    number = file.layout.segment(kind, tile)
    whole[number] = False
    layers = LayerReader(file, whole)
    assert layers.missing_report() == f"{kind} of tiles: 1 of 4 missing"
    without = [b"" if n == number else segment for n, segment in enumerate(file.segments)]
    expected = LayerReader(dataclasses.replace(file, segments=without)).apply(pixels.copy())
    np.testing.assert_array_equal(layers.apply(pixels.copy()), expected)
    assert (expected != LayerReader(file).apply(pixels.copy())).any()


def test_what_is_missing_of_both(file: File) -> None:
    whole = [n < 4 for n in range(len(file.segments))]
    assert (
        LayerReader(file, whole).missing_report()
        == "overlay of tiles: 4 of 4 missing; residual of tiles: 4 of 4 missing"
    )


@pytest.mark.parametrize("kind", ["overlay", "residual"])
@pytest.mark.parametrize("damage", [b"\xff\xff\xff", b"\0", bytes(40)])
def test_verify(file: File, kind: str, damage: bytes) -> None:
    LayerReader(file).verify()
    for tile in range(4):
        segments = list(file.segments)
        segments[file.layout.segment(kind, tile)] = damage
        with pytest.raises(FormatError, match=f"damaged {kind}"):
            LayerReader(dataclasses.replace(file, segments=segments)).verify()


@pytest.mark.parametrize("size", [(256, 274), (255, 275), (1, 1)])
def test_overlays_of_another_size(file: File, size: tuple[int, int]) -> None:
    segments = list(file.segments)
    segments[file.layout.segment("overlay", 1)] = webp_lossless.encode_rgba(np.full((*size, 4), 255, np.uint8))
    with pytest.raises(FormatError, match="damaged overlay"):
        LayerReader(dataclasses.replace(file, segments=segments)).verify()


@pytest.mark.parametrize("name", ["x_residual_left_over", "x_residual_extent", "x_overlay_half", "x_overlay_cut"])
def test_verify_of_files(name: str) -> None:
    """Nothing but the layer is wrong, and its check fits: `info` sees nothing, `verify` does."""
    data = (VECTORS / name / "input.sdt").read_bytes()
    assert sdtrt.info(data).bytes_by_section[name.split("_")[1]]
    with pytest.raises(FormatError, match="damaged"):
        sdtrt.verify(data)


def test_where_bytes_go() -> None:
    data = (VECTORS / "layers_tiles_alpha" / "input.sdt").read_bytes()
    file, about = container.read(data), sdtrt.info(data)
    assert [*about.bytes_by_section] == [
        "level 1",
        "level 2",
        "level 3",
        "level 4",
        "overlay",
        "residual",
        "alpha",
        "metadata",
        "head",
    ]
    assert sum(about.bytes_by_section.values()) == len(data)
    for kind in ("overlay", "residual", "alpha"):
        assert about.bytes_by_section[kind] == sum(len(file.segment(kind, tile)) for tile in range(4))
    assert about.channels == 4
