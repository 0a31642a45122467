"""Regions and bands of rows equal the full image, to the bit. Previews approximate the downscaled image."""

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
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.layers.layer_reader import box_downscale
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.engine.part_options import Region
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
    """Return encoded files by name: small files, 2x2 coding tiles with alpha, and a strip of 2 network tiles."""
    codec = EngineCodec("tiny", threads=1)
    alpha = np.add.outer(np.arange(520), 3 * np.arange(600)).astype(np.uint8)
    grey = np.repeat(photo(45, 37)[:, :, :1], 3, axis=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_file, "TILE", 32)
        images = {
            "small": ImageData(photo(45, 37)),
            "grey": ImageData(grey, alpha[:37, :45], grey=True),
            "tiles": ImageData(photo(600, 520), alpha),
            "strip": ImageData(photo(1100, 72)),
        }
        encoded = {name: codec.encode(image, EncodeOptions(quality=95)) for name, image in images.items()}
        yield encoded | {"overlay": with_lines(encoded["strip"])}


def with_lines(data: bytes) -> bytes:
    """Return the file with an overlay of lines on all tiles but the second tile."""
    file = container.read(data)
    width, height = file.header.width, file.header.height
    lines = np.zeros((height, width, 4), np.uint8)
    lines[::9] = lines[:, ::31] = 20, 200, 90, 255
    tiles = [lines[slice(*rows), slice(*columns)] for rows, columns in pixel_tiles(width, height, 8, file.layout)]
    segments = [b"" if number == 1 else webp_lossless.encode_rgba(tile) for number, tile in enumerate(tiles)]
    return container.write(with_segments(file, "overlay", segments, overlay=True))


def sample_regions(width: int, height: int, count: int) -> list[Region]:
    """Return regions: two corners, the full image, a column and `count` random regions."""
    sampled = [(0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, 0, width, height), (width // 2, 0, 1, height)]
    for _ in range(count):
        (left, right), (top, bottom) = (np.sort(RNG.choice(side + 1, 2, replace=False)) for side in (width, height))
        sampled.append((int(left), int(top), int(right - left), int(bottom - top)))
    return sampled


def assert_is_crop(crop: ImageData, full: ImageData, region: Region) -> None:
    left, top, width, height = region
    index = np.s_[top : top + height, left : left + width]
    np.testing.assert_array_equal(crop.pixels, full.pixels[index])
    assert (crop.alpha is None) == (full.alpha is None)
    if crop.alpha is not None and full.alpha is not None:
        np.testing.assert_array_equal(crop.alpha, full.alpha[index])
    assert crop.grey == full.grey


@pytest.mark.parametrize(("name", "count"), [("small", 20), ("grey", 8), ("tiles", 3), ("overlay", 5)])
def test_decode_region_equals_the_crop_of_the_full_image(
    codec: EngineCodec, files: dict[str, bytes], name: str, count: int
) -> None:
    layout, full = container.read(files[name]).layout, codec.decode(files[name])
    assert layout.residual_step
    assert layout.overlay == (name == "overlay")
    height, width = full.pixels.shape[:2]
    for region in sample_regions(width, height, count):
        assert_is_crop(regions.decode_region(codec, files[name], region), full, region)
        assert_is_crop(regions.decode_region(codec, io.BytesIO(files[name]), region), full, region)


def test_decode_region_denoised_equals_the_crop_of_the_full_image(denoising: Bundle, files: dict[str, bytes]) -> None:
    codec = EngineCodec(denoising.folder, threads=1, tile=96, overlap=32)
    full = codec.decode(files["strip"], options=DecodeOptions(2))
    for region in ((0, 0, 1, 1), (533, 13, 99, 40)):
        assert_is_crop(regions.decode_region(codec, files["strip"], region, options=DecodeOptions(2)), full, region)


@pytest.mark.parametrize("region", [(0, 0, 46, 1), (-1, 0, 3, 3), (45, 0, 1, 1), (3, 3, 0, 1), (3, 36, 1, 2)])
def test_decode_region_outside_the_image_raises_value_error(
    codec: EngineCodec, files: dict[str, bytes], region: Region
) -> None:
    with pytest.raises(ValueError, match="within the image, which is 45x37"):
        regions.decode_region(codec, files["small"], region)


@pytest.mark.parametrize("region", [(0, 0, 1.5, 1), (0, 0, float("inf"), 1), ("0", "0", "1", "1")])
def test_decode_region_of_other_than_integers_raises_type_error(
    codec: EngineCodec, files: dict[str, bytes], region: Region
) -> None:
    with pytest.raises(TypeError, match=r"expected \(left, top, width, height\), four whole numbers"):
        regions.decode_region(codec, files["small"], region)


def damaged(data: bytes, level: int, tile: int) -> bytes:
    """Return the file with one bit changed in the middle of a segment."""
    file, changed = container.read(data), bytearray(data)
    number = file.layout.segment_index(level, tile)
    start = data.index(file.segments[0]) + sum(map(len, file.segments[:number]))
    changed[start + len(file.segments[number]) // 2] ^= 1
    return bytes(changed)


class CountingStream(io.BytesIO):
    """A stream that counts the bytes read."""

    bytes_read = 0

    def read(self, nbytes: int | None = -1) -> bytes:
        data = super().read(nbytes)
        self.bytes_read += len(data)
        return data


def test_decode_region_reads_only_the_segments_of_the_region(files: dict[str, bytes], tmp_path: Path) -> None:
    """Damage outside the region has no effect. Damage in the region raises `FormatError`."""
    codec, data = EngineCodec("tiny", threads=1), files["strip"]
    file = container.read(data)
    stream, region = CountingStream(data), (1000, 8, 20, 20)
    expected = regions.decode_region(codec, stream, region)
    unread_nbytes = sum(len(file.segment(kind, tile)) for kind in range(len(file.layout.kinds)) for tile in range(3))
    assert file.layout.columns == 4
    assert stream.bytes_read == container.MIN_FILE + len(data) - unread_nbytes - container.CHECKSUM_NBYTES
    (tmp_path / "a.sdt").write_bytes(data)
    with (tmp_path / "a.sdt").open("rb") as opened:
        assert_is_crop(regions.decode_region(codec, opened, region), expected, (0, 0, 20, 20))
    broken = damaged(data, 3, 0)
    assert_is_crop(regions.decode_region(codec, broken, region), expected, (0, 0, 20, 20))
    with pytest.raises(FormatError, match="segment 12"):
        regions.decode_region(codec, broken, (0, 0, 5, 5))


@pytest.mark.parametrize("name", ["small", "tiles", "overlay"])
def test_decode_rows_equals_the_full_image(codec: EngineCodec, files: dict[str, bytes], name: str) -> None:
    header, bands = regions.decode_rows(codec, files[name])
    full = codec.decode(files[name]).pixels
    assert (header.height, header.width) == full.shape[:2]
    np.testing.assert_array_equal(np.concatenate([*bands]), full)


def test_decode_rows_and_preview_denoised_equal_the_full_image(denoising: Bundle, files: dict[str, bytes]) -> None:
    """All three functions denoise as the bundle recommends."""
    codec = EngineCodec(denoising.folder, threads=1)
    coarse = codec.encode(codec.decode(files["small"]), EncodeOptions(quality=5))
    full = codec.decode(coarse).pixels
    assert (full != codec.decode(coarse, options=DecodeOptions(0)).pixels).any()
    np.testing.assert_array_equal(np.concatenate([*regions.decode_rows(codec, coarse)[1]]), full)
    fast = codec.decode(coarse, options=DecodeOptions(look="fast"))
    np.testing.assert_array_equal(regions.preview(codec, coarse, 2).pixels, box_downscale(fast.pixels, 2))


def test_preview_by_networks_has_the_fast_look(codec: EngineCodec, photo: Photo) -> None:
    data = codec.encode(ImageData(photo(45, 37)), EncodeOptions(layers=1))
    fast = codec.decode(data, options=DecodeOptions(look="fast"))
    small = regions.preview(codec, data, 3)
    np.testing.assert_array_equal(small.pixels, box_downscale(fast.pixels, 3))
    assert (small.look, regions.preview(codec, data, 1).look) == ("fast", "faithful")


def split_rows(pixels: np.ndarray, bands: str) -> Iterator[np.ndarray]:
    sizes = {"rows": [1] * len(pixels), "all": [len(pixels)], "odd": [7, 0, 1, 100, 33] * len(pixels)}[bands]
    top = 0
    for size in sizes:
        yield pixels[top : top + size]
        top += size


@pytest.mark.parametrize("bands", ["rows", "all", "odd"])
@pytest.mark.parametrize("size", [(1, 1), (45, 37), (40, 1103)])
def test_encode_rows_equals_encode(codec: EngineCodec, photo: Photo, size: tuple[int, int], bands: str) -> None:
    pixels, options = photo(*size), EncodeOptions(quality=30, effort=2)
    data = regions.encode_rows(codec, split_rows(pixels, bands), *size, options)
    assert data == codec.encode(ImageData(pixels), options)


@pytest.mark.parametrize("size", [(0, 0), (0, 1), (5, -1), ((1 << 24) + 1, 1)])
def test_encode_rows_invalid_size_raises_value_error(codec: EngineCodec, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to"):
        regions.encode_rows(codec, [], *size, EncodeOptions())


def test_encode_rows_grey_equals_encode(codec: EngineCodec, photo: Photo) -> None:
    pixels = np.repeat(photo(45, 37)[:, :, :1], 3, axis=2)
    data = regions.encode_rows(codec, [pixels], 45, 37, EncodeOptions(), grey=True)
    assert data == codec.encode(ImageData(pixels, grey=True), EncodeOptions())


def test_encode_rows_wrong_rows_or_options_raises_value_error(codec: EngineCodec, photo: Photo) -> None:
    pixels = photo(45, 37)
    for rows, message in (
        ([], "0 rows came, expected 37"),
        ([pixels[:36]], "36 rows came, expected 37"),
        ([pixels, pixels[:1]], "more than 37 rows came"),
        ([photo(45, 38)], "more than 37 rows came"),
        ([pixels[:, :44]], r"uint8 \(37, 44, 3\), expected uint8 \(n, 45, 3\)"),
        ([pixels[:, :, 0]], r"uint8 \(37, 45\), expected"),
        ([pixels.astype(np.float32)], "rows of float32"),
    ):
        with pytest.raises(ValueError, match=message):
            regions.encode_rows(codec, rows, 45, 37, EncodeOptions())
    for options in (EncodeOptions(max_bytes=900), EncodeOptions(target_psnr=30), EncodeOptions(bpp=1)):
        with pytest.raises(ValueError, match=r"size|PSNR"):
            regions.encode_rows(codec, [pixels], 45, 37, options)


@pytest.fixture
def codec_without_networks() -> EngineCodec:
    """Return a codec that fails if it runs a network."""
    codec = EngineCodec("tiny")
    codec.pipeline = None  # type: ignore[assignment]
    return codec


@pytest.mark.parametrize("scale", [8, 16, 40, 64, 1024])
@pytest.mark.parametrize("name", ["small", "grey", "tiles", "strip"])
def test_preview_has_the_size_and_channels_of_the_image(
    codec_without_networks: EngineCodec, files: dict[str, bytes], name: str, scale: int
) -> None:
    header = container.read(files[name]).header
    preview = regions.preview(codec_without_networks, files[name], scale)
    assert preview.pixels.shape == (-(-header.height // scale), -(-header.width // scale), 3)
    assert preview.grey == (name == "grey")
    assert (preview.alpha is None) == (name in {"small", "strip"})


@pytest.mark.parametrize("scale", [8, 24])
def test_preview_alpha_is_exact(codec_without_networks: EngineCodec, files: dict[str, bytes], scale: int) -> None:
    alpha = np.add.outer(np.arange(520), 3 * np.arange(600)).astype(np.uint8)
    np.testing.assert_array_equal(
        regions.preview(codec_without_networks, files["tiles"], scale).alpha, box_downscale(alpha, scale)
    )


@pytest.mark.parametrize(
    ("quality", "min_psnr", "max_loss"), [(10, 34, 2.5), (25, 37, 2.5), (50, 42, 2.5), (80, 44, 3.75)]
)
def test_preview_psnr_is_near_that_of_the_downscaled_image(
    codec_without_networks: EngineCodec, astronaut: np.ndarray, quality: int, min_psnr: float, max_loss: float
) -> None:
    """The preview is near the downscaled decoded image, and loses little PSNR against the original."""
    codec, original = EngineCodec("tiny", threads=1), astronaut[:400]
    data = codec.encode(ImageData(original), EncodeOptions(quality=quality, layers=1))
    downscaled = box_downscale(codec.decode(data).pixels, 8)
    preview = regions.preview(codec_without_networks, data).pixels
    assert psnr(preview, downscaled) > min_psnr
    assert psnr(preview, box_downscale(original, 8)) > psnr(downscaled, box_downscale(original, 8)) - max_loss


@pytest.mark.parametrize("scale", [1, 2, 12])
def test_preview_scale_not_multiple_of_8_downscales_the_full_image(
    codec: EngineCodec, files: dict[str, bytes], scale: int
) -> None:
    for name in ("small", "grey", "overlay"):
        full, preview = codec.decode(files[name]), regions.preview(codec, files[name], scale)
        np.testing.assert_array_equal(preview.pixels, box_downscale(full.pixels, scale))


def test_preview_does_not_read_the_finest_level(codec_without_networks: EngineCodec, files: dict[str, bytes]) -> None:
    file, stream = container.read(files["strip"]), CountingStream(files["strip"])
    expected = regions.preview(codec_without_networks, stream).pixels
    finest_nbytes = sum(len(file.segment(3, tile)) for tile in range(4))
    assert stream.bytes_read <= container.MIN_FILE + len(files["strip"]) - finest_nbytes
    np.testing.assert_array_equal(
        regions.preview(codec_without_networks, damaged(files["strip"], 3, 1)).pixels, expected
    )
    with pytest.raises(FormatError, match="segment 5"):
        regions.preview(codec_without_networks, damaged(files["strip"], 1, 1))


def test_preview_shows_the_overlay_but_not_the_residual(
    codec_without_networks: EngineCodec, files: dict[str, bytes]
) -> None:
    file, without_overlay = (
        container.read(files["overlay"]),
        regions.preview(codec_without_networks, files["strip"]).pixels,
    )
    preview, residual = (
        regions.preview(codec_without_networks, files["overlay"]).pixels,
        file.layout.kinds.index("residual"),
    )
    changed = (preview != without_overlay).any(2)
    assert changed[0, :32].all()
    assert not changed[:, 40:64].any()
    np.testing.assert_array_equal(
        regions.preview(codec_without_networks, damaged(files["overlay"], residual, 0)).pixels, preview
    )
    with pytest.raises(FormatError, match="segment 16"):
        regions.preview(codec_without_networks, damaged(files["overlay"], 4, 0))


@pytest.mark.parametrize("scale", [0, -8, 1025])
def test_preview_invalid_scale_raises_value_error(
    codec_without_networks: EngineCodec, files: dict[str, bytes], scale: int
) -> None:
    with pytest.raises(ValueError, match=r"scale is .*, expected a whole number from 1 to 1024"):
        regions.preview(codec_without_networks, files["small"], scale)


def test_limits_exceeded_raises_limit_error(codec_without_networks: EngineCodec, files: dict[str, bytes]) -> None:
    limits = Limits(max_pixels=45 * 37 - 1)
    for call in (
        lambda: regions.decode_region(codec_without_networks, files["small"], (0, 0, 1, 1), limits),
        lambda: regions.decode_rows(codec_without_networks, files["small"], limits),
        lambda: regions.preview(codec_without_networks, files["small"], 8, limits),
        lambda: salvage.salvage(codec_without_networks, files["small"][:-9], limits),
    ):
        with pytest.raises(LimitError, match="limit"):
            call()
