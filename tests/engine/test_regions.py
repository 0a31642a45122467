"""Parts of pictures: regions and bands of rows are those of the whole, to the bit; previews are near it."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sdtrt.engine import regions, salvage
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.encoder import with_segments
from sdtrt.engine.format import container, webp_lossless
from sdtrt.engine.format.layout import pixel_tiles
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.image import ImageData, Region, psnr
from sdtrt.engine.layers.preview import box_downscale
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.errors import FormatError, LimitError

Photo = Callable[[int, int], np.ndarray]
MIN_TILE = 3 * 2 * (find_bundle("tiny").receptive_radius or 0) * 8
OPTIONS = {"cut": {"tile": MIN_TILE}, "faded": {"tile": 96, "overlap": 32}}
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module", params=OPTIONS)
def codec(request: pytest.FixtureRequest) -> EngineCodec:
    return EngineCodec("tiny", threads=1, **OPTIONS[request.param])


@pytest.fixture(scope="module")
def files(photo: Photo) -> Iterator[dict[str, bytes]]:
    """Small ones, one of 2x2 coding tiles with alpha, one that is two tiles to the networks, too."""
    codec = EngineCodec("tiny", threads=1)
    alpha = np.add.outer(np.arange(520), 3 * np.arange(600)).astype(np.uint8)
    grey = np.repeat(photo(45, 37)[:, :, :1], 3, axis=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        pictures = {
            "small": ImageData(photo(45, 37)),
            "grey": ImageData(grey, alpha[:37, :45], grey=True),
            "tiles": ImageData(photo(600, 520), alpha),
            "strip": ImageData(photo(1100, 72)),
        }
        found = {name: codec.encode(picture, EncodeOptions(quality=95)) for name, picture in pictures.items()}
        yield found | {"drawn": with_lines(found["strip"])}


def with_lines(data: bytes) -> bytes:
    """Return a file with lines over its picture, but not over its second tile."""
    file = container.read(data)
    width, height = file.header.width, file.header.height
    drawn = np.zeros((height, width, 4), np.uint8)
    drawn[::9] = drawn[:, ::31] = 20, 200, 90, 255
    parts = [drawn[slice(*rows), slice(*columns)] for rows, columns in pixel_tiles(width, height, 8, file.layout)]
    segments = [b"" if tile == 1 else webp_lossless.encode_rgba(part) for tile, part in enumerate(parts)]
    return container.write(with_segments(file, "overlay", segments, overlay=True))


def places(width: int, height: int, count: int) -> list[Region]:
    """Return regions: the corners, all, and some."""
    found = [(0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, 0, width, height), (width // 2, 0, 1, height)]
    for _ in range(count):
        (left, right), (top, bottom) = (np.sort(RNG.choice(side + 1, 2, replace=False)) for side in (width, height))
        found.append((int(left), int(top), int(right - left), int(bottom - top)))
    return found


def assert_is_crop(found: ImageData, whole: ImageData, region: Region) -> None:
    left, top, width, height = region
    within = np.s_[top : top + height, left : left + width]
    np.testing.assert_array_equal(found.pixels, whole.pixels[within])
    assert (found.alpha is None) == (whole.alpha is None)
    if found.alpha is not None and whole.alpha is not None:
        np.testing.assert_array_equal(found.alpha, whole.alpha[within])
    assert found.grey == whole.grey


@pytest.mark.parametrize(("name", "count"), [("small", 20), ("grey", 8), ("tiles", 3), ("drawn", 5)])
def test_regions_are_crops(codec: EngineCodec, files: dict[str, bytes], name: str, count: int) -> None:
    layout, whole = container.read(files[name]).layout, codec.decode(files[name])
    assert layout.residual_step
    assert layout.overlay == (name == "drawn")
    height, width = whole.pixels.shape[:2]
    for region in places(width, height, count):
        assert_is_crop(regions.decode_region(codec, files[name], region), whole, region)
        assert_is_crop(regions.decode_region(codec, io.BytesIO(files[name]), region), whole, region)


def test_denoised_regions_are_crops(denoising: Bundle, files: dict[str, bytes]) -> None:
    codec = EngineCodec(denoising.folder, threads=1, tile=96, overlap=32)
    whole = codec.decode(files["strip"], options=DecodeOptions(2))
    for region in ((0, 0, 1, 1), (533, 13, 99, 40)):
        assert_is_crop(regions.decode_region(codec, files["strip"], region, options=DecodeOptions(2)), whole, region)


@pytest.mark.parametrize("region", [(0, 0, 46, 1), (-1, 0, 3, 3), (45, 0, 1, 1), (3, 3, 0, 1), (3, 36, 1, 2)])
def test_regions_outside(codec: EngineCodec, files: dict[str, bytes], region: Region) -> None:
    with pytest.raises(ValueError, match="within the picture, which is 45x37"):
        regions.decode_region(codec, files["small"], region)


@pytest.mark.parametrize("region", [(0, 0, 1.5, 1), (0, 0, float("inf"), 1), ("0", "0", "1", "1")])
def test_regions_of_no_whole_pixels(codec: EngineCodec, files: dict[str, bytes], region: Region) -> None:
    with pytest.raises(TypeError, match=r"expected \(left, top, width, height\), four whole numbers"):
        regions.decode_region(codec, files["small"], region)


def damaged(data: bytes, level: int, tile: int) -> bytes:
    """Return a file with a bit changed in the middle of a segment."""
    file, changed = container.read(data), bytearray(data)
    number = file.layout.segment_index(level, tile)
    before = data.index(file.segments[0]) + sum(map(len, file.segments[:number]))
    changed[before + len(file.segments[number]) // 2] ^= 1
    return bytes(changed)


class Watched(io.BytesIO):
    """Counts what is read."""

    taken = 0

    def read(self, nbytes: int | None = -1) -> bytes:
        data = super().read(nbytes)
        self.taken += len(data)
        return data


def test_only_what_is_needed_is_read(files: dict[str, bytes], tmp_path: Path) -> None:
    """Of a file that is damaged elsewhere, too; not so if what is damaged is needed."""
    codec, data = EngineCodec("tiny", threads=1), files["strip"]
    file = container.read(data)
    stream, region = Watched(data), (1000, 8, 20, 20)
    expected = regions.decode_region(codec, stream, region)
    others = sum(len(file.segment(kind, tile)) for kind in range(len(file.layout.kinds)) for tile in range(3))
    assert file.layout.columns == 4
    assert stream.taken == container.MIN_FILE + len(data) - others - container.CHECKSUM_NBYTES
    (tmp_path / "a.sdt").write_bytes(data)
    with (tmp_path / "a.sdt").open("rb") as opened:
        assert_is_crop(regions.decode_region(codec, opened, region), expected, (0, 0, 20, 20))
    broken = damaged(data, 3, 0)
    assert_is_crop(regions.decode_region(codec, broken, region), expected, (0, 0, 20, 20))
    with pytest.raises(FormatError, match="segment 12"):
        regions.decode_region(codec, broken, (0, 0, 5, 5))


@pytest.mark.parametrize("name", ["small", "tiles", "drawn"])
def test_rows_out(codec: EngineCodec, files: dict[str, bytes], name: str) -> None:
    header, bands = regions.decode_rows(codec, files[name])
    whole = codec.decode(files[name]).pixels
    assert (header.height, header.width) == whole.shape[:2]
    np.testing.assert_array_equal(np.concatenate([*bands]), whole)


def test_denoised_rows_out(denoising: Bundle, files: dict[str, bytes]) -> None:
    """As the bundle recommends, which `decode` follows, too."""
    codec = EngineCodec(denoising.folder, threads=1)
    coarse = codec.encode(codec.decode(files["small"]), EncodeOptions(quality=5))
    whole = codec.decode(coarse).pixels
    assert (whole != codec.decode(coarse, options=DecodeOptions(0)).pixels).any()
    np.testing.assert_array_equal(np.concatenate([*regions.decode_rows(codec, coarse)[1]]), whole)
    np.testing.assert_array_equal(regions.preview(codec, coarse, 2).pixels, box_downscale(whole, 2))


def banded(pixels: np.ndarray, bands: str) -> Iterator[np.ndarray]:
    sizes = {"rows": [1] * len(pixels), "whole": [len(pixels)], "odd": [7, 0, 1, 100, 33] * len(pixels)}[bands]
    top = 0
    for size in sizes:
        yield pixels[top : top + size]
        top += size


@pytest.mark.parametrize("bands", ["rows", "whole", "odd"])
@pytest.mark.parametrize("size", [(1, 1), (45, 37), (40, 1103)])
def test_rows_in(codec: EngineCodec, photo: Photo, size: tuple[int, int], bands: str) -> None:
    pixels, options = photo(*size), EncodeOptions(quality=30, effort=2)
    data = regions.encode_rows(codec, banded(pixels, bands), *size, options)
    assert data == codec.encode(ImageData(pixels), options)


@pytest.mark.parametrize("size", [(0, 0), (0, 1), (5, -1), ((1 << 24) + 1, 1)])
def test_rows_of_no_size(codec: EngineCodec, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to"):
        regions.encode_rows(codec, [], *size, EncodeOptions())


def test_grey_rows(codec: EngineCodec, photo: Photo) -> None:
    pixels = np.repeat(photo(45, 37)[:, :, :1], 3, axis=2)
    data = regions.encode_rows(codec, [pixels], 45, 37, EncodeOptions(), grey=True)
    assert data == codec.encode(ImageData(pixels, grey=True), EncodeOptions())


def test_rows_that_do_not_make_up_the_picture(codec: EngineCodec, photo: Photo) -> None:
    pixels = photo(45, 37)
    for rows, words in (
        ([], "0 rows came, expected 37"),
        ([pixels[:36]], "36 rows came, expected 37"),
        ([pixels, pixels[:1]], "more than 37 rows came"),
        ([photo(45, 38)], "more than 37 rows came"),
        ([pixels[:, :44]], r"uint8 \(37, 44, 3\), expected uint8 \(n, 45, 3\)"),
        ([pixels[:, :, 0]], r"uint8 \(37, 45\), expected"),
        ([pixels.astype(np.float32)], "rows of float32"),
    ):
        with pytest.raises(ValueError, match=words):
            regions.encode_rows(codec, rows, 45, 37, EncodeOptions())
    for options in (EncodeOptions(max_bytes=900), EncodeOptions(target_psnr=30), EncodeOptions(bpp=1)):
        with pytest.raises(ValueError, match=r"size|PSNR"):
            regions.encode_rows(codec, [pixels], 45, 37, options)


@pytest.fixture
def blind() -> EngineCodec:
    """A codec that must not use its networks."""
    codec = EngineCodec("tiny")
    codec.pipeline = None  # type: ignore[assignment]
    return codec


@pytest.mark.parametrize("scale", [8, 16, 40, 64, 1024])
@pytest.mark.parametrize("name", ["small", "grey", "tiles", "strip"])
def test_sizes_of_previews(blind: EngineCodec, files: dict[str, bytes], name: str, scale: int) -> None:
    header = container.read(files[name]).header
    found = regions.preview(blind, files[name], scale)
    assert found.pixels.shape == (-(-header.height // scale), -(-header.width // scale), 3)
    assert found.grey == (name == "grey")
    assert (found.alpha is None) == (name in {"small", "strip"})


@pytest.mark.parametrize("scale", [8, 24])
def test_alpha_of_previews(blind: EngineCodec, files: dict[str, bytes], scale: int) -> None:
    alpha = np.add.outer(np.arange(520), 3 * np.arange(600)).astype(np.uint8)
    np.testing.assert_array_equal(regions.preview(blind, files["tiles"], scale).alpha, box_downscale(alpha, scale))


@pytest.mark.parametrize(("quality", "nearness", "loss"), [(10, 34, 2.5), (25, 37, 2.5), (50, 42, 2.5), (80, 44, 3.75)])
def test_previews_are_near_the_picture(
    blind: EngineCodec, astronaut: np.ndarray, quality: int, nearness: float, loss: float
) -> None:
    """Near the reduced picture, and not much farther from the truth; the more so, the better the picture is."""
    codec, original = EngineCodec("tiny", threads=1), astronaut[:400]
    data = codec.encode(ImageData(original), EncodeOptions(quality=quality, layers=1))
    small = box_downscale(codec.decode(data).pixels, 8)
    found = regions.preview(blind, data).pixels
    assert psnr(found, small) > nearness
    assert psnr(found, box_downscale(original, 8)) > psnr(small, box_downscale(original, 8)) - loss


@pytest.mark.parametrize("scale", [1, 2, 12])
def test_other_scales_are_made_from_the_whole(codec: EngineCodec, files: dict[str, bytes], scale: int) -> None:
    for name in ("small", "grey", "drawn"):
        whole, found = codec.decode(files[name]), regions.preview(codec, files[name], scale)
        np.testing.assert_array_equal(found.pixels, box_downscale(whole.pixels, scale))


def test_previews_do_not_read_the_finest_level(blind: EngineCodec, files: dict[str, bytes]) -> None:
    file, stream = container.read(files["strip"]), Watched(files["strip"])
    expected = regions.preview(blind, stream).pixels
    finest = sum(len(file.segment(3, tile)) for tile in range(4))
    assert stream.taken <= container.MIN_FILE + len(files["strip"]) - finest
    np.testing.assert_array_equal(regions.preview(blind, damaged(files["strip"], 3, 1)).pixels, expected)
    with pytest.raises(FormatError, match="segment 5"):
        regions.preview(blind, damaged(files["strip"], 1, 1))


def test_previews_have_the_overlay_and_not_the_residual(blind: EngineCodec, files: dict[str, bytes]) -> None:
    file, bare = container.read(files["drawn"]), regions.preview(blind, files["strip"]).pixels
    found, residual = regions.preview(blind, files["drawn"]).pixels, file.layout.kinds.index("residual")
    shown = (found != bare).any(2)
    assert shown[0, :32].all()
    assert not shown[:, 40:64].any()
    np.testing.assert_array_equal(regions.preview(blind, damaged(files["drawn"], residual, 0)).pixels, found)
    with pytest.raises(FormatError, match="segment 16"):
        regions.preview(blind, damaged(files["drawn"], 4, 0))


@pytest.mark.parametrize("scale", [0, -8, 1025])
def test_scales_that_are_none(blind: EngineCodec, files: dict[str, bytes], scale: int) -> None:
    with pytest.raises(ValueError, match=r"scale is .*, expected a whole number from 1 to 1024"):
        regions.preview(blind, files["small"], scale)


def test_limits(blind: EngineCodec, files: dict[str, bytes]) -> None:
    limits = Limits(max_pixels=45 * 37 - 1)
    for call in (
        lambda: regions.decode_region(blind, files["small"], (0, 0, 1, 1), limits),
        lambda: regions.decode_rows(blind, files["small"], limits),
        lambda: regions.preview(blind, files["small"], 8, limits),
        lambda: salvage.salvage(blind, files["small"][:-9], limits),
    ):
        with pytest.raises(LimitError):
            call()
