"""The layer reader: regions, previews, decoding on access, salvage and damage."""

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
LAYERED = runpy.run_path(str(VECTORS / "layer_streams.py"))
WIDTH, HEIGHT = 531, 518  # of 2x2 tiles, which meet at row and column 256
RNG = np.random.default_rng(6)


def bare(columns: int = 2, rows: int = 2) -> File:
    """Return a file without layers; its latents are empty, since a layer reader does not use them."""
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
    """Output of the networks: all 8-bit values, so that sums with the residual exceed 0 to 255."""
    return RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The segments of residuals that are decoded."""
    segments: list[bytes] = []
    original = residual_codec.decode_residual

    def watched(segment: bytes, *rest: int) -> np.ndarray:
        segments.append(segment)
        return original(segment, *rest)

    monkeypatch.setattr(residual_codec, "decode_residual", watched)
    return segments


def test_apply_adds_residual_then_overlay(file: File, pixels: np.ndarray) -> None:
    layers = LAYERED["layers_of_file"](file)
    is_covered = layers["overlay"][:, :, 3:] == 255
    expected = np.where(is_covered, layers["overlay"][:, :, :3], np.clip(pixels + layers["residual"], 0, 255))
    assert not layers["residual"][256:, 256:].any()
    assert not is_covered[:256, :256].any()
    assert {0, 255} <= {*(pixels + layers["residual"]).clip(0, 255).ravel()[:5000].tolist()}
    given = pixels.copy()
    composed = LayerReader(file).apply(given)
    assert composed is given
    np.testing.assert_array_equal(composed, expected)


@pytest.mark.parametrize("kind", ["overlay", "residual"])
def test_apply_of_a_single_layer(overlay: np.ndarray, pixels: np.ndarray, kind: str) -> None:
    file = LAYERED["with_overlay"](bare(), overlay) if kind == "overlay" else LAYERED["with_residual"](bare(), 30, 5)
    layers = LAYERED["layers_of_file"](file)
    assert layers.keys() == {kind}
    if kind == "overlay":
        np.testing.assert_array_equal(layers[kind], overlay)
        expected = np.where(overlay[:, :, 3:] == 255, overlay[:, :, :3], pixels)
    else:
        expected = np.clip(pixels + layers[kind], 0, 255)
    np.testing.assert_array_equal(LayerReader(file).apply(pixels.copy()), expected)


def test_apply_without_layers_changes_nothing(pixels: np.ndarray) -> None:
    given = pixels.copy()
    layers = LayerReader(bare())
    assert layers.apply(given) is given
    assert layers.apply_to_preview(given, 1) is given
    assert not layers.missing_report()
    np.testing.assert_array_equal(given, pixels)
    layers.verify()


def test_apply_to_region_is_crop_of_the_image(file: File, pixels: np.ndarray) -> None:
    layers, whole = LayerReader(file), LayerReader(file).apply(pixels.copy())
    places = [((255, 257), (255, 257)), ((0, 1), (0, 1)), ((517, 518), (530, 531))]
    for _ in range(30):
        top, bottom = np.sort(RNG.choice(HEIGHT + 1, 2, replace=False)).tolist()
        left, right = np.sort(RNG.choice(WIDTH + 1, 2, replace=False)).tolist()
        places.append(((top, bottom), (left, right)))
    for rows, columns in places:
        within = np.s_[slice(*rows), slice(*columns)]
        np.testing.assert_array_equal(layers.apply(pixels[within].copy(), rows, columns), whole[within])


def test_apply_to_bands_decodes_each_tile_once(file: File, pixels: np.ndarray, decoded: list[bytes]) -> None:
    layers, bands = LayerReader(file), []
    for top in range(0, HEIGHT, 37):
        rows = (top, min(top + 37, HEIGHT))
        bands.append(layers.apply(pixels[slice(*rows)].copy(), rows))
    assert len(decoded) == 3
    np.testing.assert_array_equal(np.concatenate(bands), LayerReader(file).apply(pixels.copy()))


def test_apply_decodes_overlapping_tiles_only(file: File, pixels: np.ndarray, decoded: list[bytes]) -> None:
    first = file.layout.segment_index("residual", 0)
    damaged = [*file.segments[: first + 1], b"\xff\xff\xff", *file.segments[first + 2 :]]
    layers = LayerReader(dataclasses.replace(file, segments=damaged))
    layers.apply(pixels[:256, :256].copy(), (0, 256), (0, 256))
    assert decoded == [file.segments[first]]
    with pytest.raises(FormatError, match="damaged residual"):
        layers.apply(pixels[:256, :257].copy(), (0, 256), (0, 257))


@pytest.mark.parametrize("scale", [8, 16, 7, 1024])
def test_apply_to_preview_is_mean_of_blocks(overlay: np.ndarray, scale: int) -> None:
    """A preview of flat blocks equals the downscaled full image, but for rounding."""
    file = LAYERED["with_overlay"](bare(), overlay)
    size = -(-HEIGHT // scale), -(-WIDTH // scale)
    small = RNG.integers(0, 256, (*size, 3), np.uint8)
    whole = LayerReader(file).apply(small.repeat(scale, 0).repeat(scale, 1)[:HEIGHT, :WIDTH].copy())
    preview = LayerReader(file).apply_to_preview(small.copy(), scale)
    assert abs(preview.astype(int) - box_downscale(whole, scale)).max() <= 2


def test_apply_to_preview_under_full_overlay_is_the_overlay(overlay: np.ndarray) -> None:
    covered = np.dstack([overlay[:, :, :3], np.full((HEIGHT, WIDTH), 255, np.uint8)])
    preview = LayerReader(LAYERED["with_overlay"](bare(), covered)).apply_to_preview(np.zeros((65, 67, 3), np.uint8), 8)
    np.testing.assert_array_equal(preview, box_downscale(covered[:, :, :3], 8))


def test_tiles_give_the_pixels_of_apply(file: File, pixels: np.ndarray) -> None:
    composed = pixels.copy()
    for rows, columns, values, drawn in LayerReader(file).tiles():
        tile = composed[slice(*rows), slice(*columns)]
        if values is not None:
            reference.add_residual(tile, values)
        if drawn is not None:
            reference.apply_overlay(tile, drawn)
    np.testing.assert_array_equal(composed, LayerReader(file).apply(pixels.copy()))


@pytest.mark.parametrize(("kind", "tile"), [("overlay", 1), ("residual", 0), ("residual", 2)])
def test_apply_to_salvaged_file_ignores_missing_segment(file: File, pixels: np.ndarray, kind: str, tile: int) -> None:
    whole = [True] * len(file.segments)
    assert not LayerReader(file, whole).missing_report()
    number = file.layout.segment_index(kind, tile)
    whole[number] = False
    layers = LayerReader(file, whole)
    assert layers.missing_report() == f"{kind} of tiles: 1 of 4 missing"
    without = [b"" if n == number else segment for n, segment in enumerate(file.segments)]
    expected = LayerReader(dataclasses.replace(file, segments=without)).apply(pixels.copy())
    np.testing.assert_array_equal(layers.apply(pixels.copy()), expected)
    assert (expected != LayerReader(file).apply(pixels.copy())).any()


def test_missing_report_of_both_layers(file: File) -> None:
    whole = [n < 4 for n in range(len(file.segments))]
    assert (
        LayerReader(file, whole).missing_report()
        == "overlay of tiles: 4 of 4 missing; residual of tiles: 4 of 4 missing"
    )


@pytest.mark.parametrize("kind", ["overlay", "residual"])
@pytest.mark.parametrize("damage", [b"\xff\xff\xff", b"\0", bytes(40)])
def test_verify_of_damaged_segment_raises(file: File, kind: str, damage: bytes) -> None:
    LayerReader(file).verify()
    for tile in range(4):
        segments = list(file.segments)
        segments[file.layout.segment_index(kind, tile)] = damage
        with pytest.raises(FormatError, match=f"damaged {kind}"):
            LayerReader(dataclasses.replace(file, segments=segments)).verify()


@pytest.mark.parametrize("size", [(256, 274), (255, 275), (1, 1)])
def test_verify_of_overlay_of_another_size_raises(file: File, size: tuple[int, int]) -> None:
    segments = list(file.segments)
    segments[file.layout.segment_index("overlay", 1)] = webp_lossless.encode_rgba(np.full((*size, 4), 255, np.uint8))
    with pytest.raises(FormatError, match="damaged overlay"):
        LayerReader(dataclasses.replace(file, segments=segments)).verify()


@pytest.mark.parametrize("name", ["x_residual_left_over", "x_residual_extent", "x_overlay_half", "x_overlay_cut"])
def test_verify_of_forged_files_raises(name: str) -> None:
    """The CRC is valid and the layer is malformed: `info` does not notice it, `verify` does."""
    data = (VECTORS / name / "input.sdt").read_bytes()
    assert sdtrt.info(data).bytes_by_section[name.split("_")[1]]
    with pytest.raises(FormatError, match="damaged"):
        sdtrt.verify(data)


def test_info_counts_bytes_of_layers() -> None:
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
