"""Pillow images, arrays and files to pictures: orientation, colour, depth, transparency."""

import contextlib
import errno
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from PIL import Image, ImageCms

from sdtrt.engine.format.container import Limits
from sdtrt.engine.image import ImageData
from sdtrt.errors import ImageWarning, LimitError
from sdtrt.images import rows
from sdtrt.images.convert import to_engine_image, to_pil

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    """Return an image as it comes back from a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(stream)


def test_to_engine_image_arrays_keep_their_pixels() -> None:
    picture = to_engine_image(RGB)
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert (picture.alpha, picture.grey) == (None, False)
    picture = to_engine_image(RGB[:, :, 0])
    np.testing.assert_array_equal(picture.pixels, np.repeat(RGB[:, :, :1], 3, axis=2))
    assert picture.grey
    alpha = RGB[:, :, 2]
    picture = to_engine_image(np.dstack([RGB, alpha]))
    np.testing.assert_array_equal(picture.alpha, alpha)
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_to_engine_image_strided_array_keeps_its_pixels() -> None:
    np.testing.assert_array_equal(to_engine_image(RGB[::-1, ::2]).pixels, RGB[::-1, ::2])


@pytest.mark.parametrize("shape", [(4,), (4, 6, 2), (4, 6, 1), (4, 6, 5), (1, 4, 6, 3), (0, 6, 3), (4, 0), ()])
def test_array_shapes_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        to_engine_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8, np.bool_, object])
def test_array_types_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_engine_image(np.zeros((4, 6, 3), dtype))


@pytest.mark.parametrize("thing", [None, 7, b"bytes", [[1, 2]]])
def test_to_engine_image_other_types_raise_type_error(thing: object) -> None:
    with pytest.raises(TypeError, match=type(thing).__name__):
        to_engine_image(thing)


def test_to_engine_image_path_gives_the_pixels_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(to_engine_image(path).pixels, RGB)
    np.testing.assert_array_equal(to_engine_image(str(path)).pixels, RGB)
    with pytest.raises(FileNotFoundError):
        to_engine_image(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (6, np.rot90(RGB, -1)),
        (8, np.rot90(RGB)),
        (5, RGB.swapaxes(0, 1)),
    ],
)
def test_exif_orientation(orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = to_engine_image(stored(Image.fromarray(RGB), exif=exif))
    np.testing.assert_array_equal(picture.pixels, turned)


@pytest.mark.parametrize("exif", [b"junk" * 9, b"Exif\0\0junk" + bytes(20)])
def test_to_engine_image_damaged_exif_is_dropped_with_a_warning(exif: bytes) -> None:
    image = Image.fromarray(RGB)
    image.info["exif"] = exif
    with pytest.warns(ImageWarning, match="EXIF data is damaged"):
        np.testing.assert_array_equal(to_engine_image(image).pixels, RGB)


def swapped_profile() -> bytes:
    """Return the sRGB profile with the primaries of red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    places = {bytes(data[n : n + 4]): n for n in range(132, 132 + 12 * count, 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_icc_profile_is_applied(mode: str) -> None:
    colour = (250, 20, 30, 77)[: len(mode)]
    picture = to_engine_image(stored(Image.new(mode, (5, 4), colour), icc_profile=swapped_profile()))
    assert np.abs(picture.pixels.astype(int) - [20, 250, 30]).max() <= 3
    if mode == "RGBA":
        assert (picture.alpha == 77).all()


def test_srgb_profile_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = to_engine_image(stored(Image.fromarray(RGB), icc_profile=srgb))
    assert np.abs(picture.pixels.astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("profile", [b"junk" * 50, None, swapped_profile()[:200]])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA"])
def test_icc_profile_that_is_damaged_is_warned_of(profile: bytes | None, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.info["icc_profile"] = profile
    with pytest.warns(ImageWarning, match="ICC profile is damaged"):
        pixels = to_engine_image(image).pixels
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_icc_profile_that_is_empty_is_none() -> None:
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = b""
    np.testing.assert_array_equal(to_engine_image(image).pixels, RGB)


@pytest.mark.parametrize("mode", ["L", "LA", "CMYK"])
def test_icc_profile_of_the_mode_before_a_conversion_is_left_out(mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.info["icc_profile"] = swapped_profile()
    assert to_engine_image(image).grey == mode.startswith("L")
    np.testing.assert_array_equal(to_engine_image(image).pixels, np.asarray(image.convert("RGB")))


def test_icc_profile_of_another_mode_in_a_file_is_warned_of() -> None:
    image = stored(Image.fromarray(RGB[:, :, 0]), icc_profile=swapped_profile())
    with pytest.warns(ImageWarning, match="ICC profile is of RGB, the image of GRAY"):
        picture = to_engine_image(image)
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels[:, :, 0], RGB[:, :, 0])


def png_of_16_bits(width: int, height: int, level: int) -> bytes:
    """Return an RGB PNG, which Pillow cannot write with 16 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + struct.pack(">H", level) * 3 * width) * height
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SIXTEEN = np.array([[0, 128, 129, 257], [32768, 40000, 65406, 65535]], np.uint16)
EIGHT = [[0, 0, 1, 1], [128, 156, 254, 255]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_to_engine_image_grey_16_bits_become_8_with_a_warning(dtype: str) -> None:
    image = Image.fromarray(SIXTEEN)
    if dtype == ">u2":
        image = Image.frombytes("I;16B", (4, 2), SIXTEEN.astype(dtype).tobytes())
    with pytest.warns(ImageWarning, match="16 bits are reduced to 8"):
        picture = to_engine_image(image)
    assert picture.grey
    assert picture.pixels[:, :, 1].tolist() == EIGHT


def test_16_bits_with_a_transparent_level() -> None:
    with pytest.warns(ImageWarning, match="16 bits are reduced to 8"):
        picture = to_engine_image(stored(Image.fromarray(SIXTEEN), transparency=40000))
    assert picture.grey
    assert picture.alpha.tolist() == [[255] * 4, [255, 0, 255, 255]]
    seen = picture.alpha > 0
    assert picture.pixels[seen][:, 0].tolist() == np.array(EIGHT)[seen].tolist()


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    picture = to_engine_image(stored(image, transparency=b"\x40\xff"))
    assert picture.pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert picture.alpha.tolist() == [[0x40, 0xFF]]
    picture = to_engine_image(stored(image))
    assert picture.alpha is None
    assert picture.pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_level_of_grey() -> None:
    picture = to_engine_image(stored(Image.fromarray(np.array([[7, 8]], np.uint8)), transparency=7))
    assert picture.grey
    assert picture.alpha.tolist() == [[0, 255]]


def test_opaque_alpha_is_dropped() -> None:
    assert to_engine_image(Image.new("RGBA", (3, 3), (1, 2, 3, 255))).alpha is None
    assert to_engine_image(Image.new("LA", (3, 3), (1, 254))).alpha is not None
    assert to_engine_image(Image.new("LA", (3, 3), (1, 254)).convert("La")).alpha is not None


def test_to_engine_image_mode_1_becomes_grey() -> None:
    picture = to_engine_image(Image.fromarray(np.array([[True, False]])))
    assert picture.grey
    assert picture.pixels.tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(("ink", "seen"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0)])
def test_to_engine_image_cmyk_becomes_rgb(ink: tuple[int, ...], seen: int) -> None:
    picture = to_engine_image(Image.new("CMYK", (3, 2), ink))
    assert (picture.pixels == seen).all()
    assert not picture.grey


@pytest.mark.parametrize(("mode", "value"), [("F", float("nan")), ("F", -1.0), ("I", -1), ("I", 65536), ("F", 7e4)])
def test_values_without_a_range_refused(mode: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"mode {mode} with values outside 0 to 65535"):
        to_engine_image(Image.new(mode, (3, 3), value))


@pytest.mark.parametrize(
    ("array", "levels"),
    [
        (np.array([[0, 0.25, 1]], np.float32), [0, 64, 255]),
        (np.array([[0, 257, 65535]], np.float32), [0, 1, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
    ],
)
def test_to_engine_image_grey_32_bits_become_8_with_a_warning(array: np.ndarray, levels: list[int]) -> None:
    with pytest.warns(ImageWarning, match="32 bits are reduced to 8"):
        picture = to_engine_image(Image.fromarray(array))
    assert picture.grey
    assert picture.pixels[0, :, 0].tolist() == levels


def test_to_engine_image_rgb_16_bits_become_8_with_a_warning() -> None:
    stream = io.BytesIO(png_of_16_bits(5, 4, 40000))
    with pytest.warns(ImageWarning, match="16 bits are reduced to 8"):
        assert (to_engine_image(Image.open(stream)).pixels == 40000 >> 8).all()


def test_to_engine_image_damaged_png_raises_value_error() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(stream, "PNG")
    data = stream.getvalue()
    heads = [n for n in range(len(data)) if data[n : n + 4] in {b"IDAT", b"IEND"}]
    for at in [*range(33, len(data), 397), *(n + k for n in heads for k in range(-4, 4))]:
        damaged = bytearray(data)
        damaged[at] ^= 0xA5
        with contextlib.suppress(OSError, ValueError):
            to_engine_image(Image.open(io.BytesIO(bytes(damaged))))


@pytest.mark.parametrize(("grey", "alpha", "mode"), [(0, 0, "RGB"), (0, 1, "RGBA"), (1, 0, "L"), (1, 1, "LA")])
def test_to_pil_gives_the_mode_of_the_channels(grey: int, alpha: int, mode: str) -> None:
    pixels = np.repeat(RGB[:, :, :1], 3, axis=2) if grey else RGB
    image = to_pil(ImageData(pixels, RGB[:, :, 1] if alpha else None, bool(grey)))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
    if alpha:
        np.testing.assert_array_equal(np.asarray(image.getchannel("A")), RGB[:, :, 1])


def test_to_pil_grey_equals_pillows_conversion() -> None:
    levels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    levels[0] = np.arange(192).reshape(64, 3)
    grey = to_pil(ImageData(levels, grey=True))
    assert grey.mode == "L"
    assert grey.tobytes() == Image.fromarray(levels).convert("L").tobytes()


def test_to_engine_image_wide_gamut_gives_a_warning() -> None:
    image = Image.new("RGB", (3, 3), (255, 0, 0))
    image.info["icc_profile"] = stretched_profile()
    with pytest.warns(ImageWarning, match="colours beyond sRGB are clipped"):
        to_engine_image(image)


def test_rows_of_file_wide_gamut_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("large")
    monkeypatch.setattr(rows, "LARGE", 0)
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png", icc_profile=stretched_profile())
    with pytest.warns(ImageWarning, match="colours beyond sRGB are clipped"):
        assert rows.rows_of_file(tmp_path / "a.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "b.png", icc_profile=b"junk")
    assert rows.rows_of_file(tmp_path / "b.png")


def stretched_profile() -> bytes:
    """Return sRGB's profile with a green primary farther out."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {bytes(data[n : n + 4]): struct.unpack_from(">I", data, n + 4)[0] for n in range(132, 132 + 12 * count, 12)}
    struct.pack_into(">3i", data, tags[b"gXYZ"] + 8, *(round(v * 65536) for v in (0.2, 0.72, 0.02)))
    return bytes(data)


def test_to_engine_image_several_frames_give_a_warning() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    image = stored(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(ImageWarning, match="one of 2 frames is taken"):
        assert to_engine_image(image).pixels[0, 0].tolist() == [255, 0, 0]
    image.seek(1)
    with pytest.warns(ImageWarning, match="one of 2 frames is taken"):
        assert to_engine_image(image).pixels[0, 0].tolist() == [0, 0, 255]


def test_to_engine_image_above_limits_raises_limit_error() -> None:
    image = Image.new("L", (5, 4))
    assert to_engine_image(image, limits=Limits(max_pixels=20)).grey
    with pytest.raises(LimitError, match=r"5x4 pixels; the limit is 19 \(--max-pixels\)"):
        to_engine_image(image, limits=Limits(max_pixels=19))
    with pytest.raises(LimitError):
        to_engine_image(np.zeros((4, 5), np.uint8), limits=Limits(max_pixels=19))


def test_colour_under_transparency_continues_what_is_seen() -> None:
    pixels = np.full((37, 50, 3), (200, 100, 50), np.uint8)
    alpha = np.zeros((37, 50), np.uint8)
    alpha[10:20, 10:40] = 255
    alpha[12, 12] = 1
    pixels[alpha == 0] = np.random.default_rng(1).integers(0, 256, (np.count_nonzero(alpha == 0), 3))
    picture = to_engine_image(np.dstack([pixels, alpha]))
    assert (picture.pixels == (200, 100, 50)).all()
    np.testing.assert_array_equal(picture.alpha, alpha)


def test_colour_under_transparency_is_near() -> None:
    pixels = np.zeros((16, 64, 3), np.uint8)
    pixels[:, :8], pixels[:, 56:] = (255, 0, 0), (0, 0, 255)
    alpha = np.zeros((16, 64), np.uint8)
    alpha[:, :8] = alpha[:, 56:] = 255
    found = to_engine_image(np.dstack([pixels, alpha])).pixels
    assert (found[:, :16] == (255, 0, 0)).all()
    assert (found[:, 48:] == (0, 0, 255)).all()


def test_to_engine_image_fully_transparent_image_becomes_black() -> None:
    picture = to_engine_image(np.zeros((9, 3, 4), np.uint8) + np.array([9, 8, 7, 0], np.uint8))
    assert (picture.pixels == 0).all()
    assert (picture.alpha == 0).all()


def test_damage_that_pillow_answers_with_whatever_it_stumbles_over(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB.repeat(8, 0).repeat(8, 1)).save(stream, "AVIF")
    (tmp_path / "a.avif").write_bytes(stream.getvalue().replace(b"pitm", b"none"))
    with pytest.raises(ValueError, match="damaged image"):
        to_engine_image(tmp_path / "a.avif")


def test_to_engine_image_exif_that_pillow_cannot_read_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out, and the picture is taken as it lies."""
    image = stored(Image.fromarray(RGB), "PNG")
    for error in (AttributeError, IndexError, OverflowError, SyntaxError, struct.error):

        def stumble(*_: object, error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr(Image.Image, "getexif", stumble)
        picture = to_engine_image(image)
        np.testing.assert_array_equal(picture.pixels, RGB)
        assert picture.metadata.exif == b""


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_to_engine_image_without_pixels_raises_value_error(size: tuple[int, int], mode: str) -> None:
    with pytest.raises(ValueError, match=f"has {size[0]}x{size[1]} pixels"):
        to_engine_image(Image.new(mode, size))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG2000"])
def test_image_whose_file_cannot_be_read_again_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "image"
    Image.new("L", (9, 7), 80).save(path, kind)

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "denied", str(self))

    with Image.open(path) as image:
        image.load()
        monkeypatch.setattr(Path, "open", refuse)
        assert to_engine_image(image).pixels.shape == (7, 9, 3)
