"""The Pillow plugin, by Pillow's own habits."""

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

import sdtrt
import sdtrt.pillow_plugin
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.profile import LatentProfile, pack

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture
def data(photo: Photo) -> bytes:
    return sdtrt.encode(photo(40, 30), quality=60)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def modes(photo: np.ndarray) -> list[Image.Image]:
    rgb = Image.fromarray(photo)
    images = [rgb, rgb.convert("L"), rgb.copy(), rgb.convert("L")]
    for image in images[2:]:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return images


def test_open_is_lazy(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdtrt.pillow_plugin, "codec_of", None)
    image = opened(data)
    assert (image.format, image.mode, image.size) == ("SDT", "RGB", (40, 30))
    assert image.get_format_mimetype() == "image/x-sdt"
    with pytest.raises(TypeError):
        image.load()


def test_pixels_are_those_of_decode(data: bytes) -> None:
    expected = sdtrt.decode(data)
    with opened(data) as image:
        assert image.tobytes() == expected.tobytes()
        assert image.getpixel((3, 4)) == expected.getpixel((3, 4))


def test_the_look_is_told_once_it_is_decoded(data: bytes) -> None:
    image = opened(data)
    assert b"sdtrt:Look" not in image.info["xmp"]
    image.load()
    assert b'sdtrt:Look="faithful"' in image.info["xmp"]
    changed = opened(data)
    changed.info["xmp"] = b"mine"
    changed.load()
    assert changed.info["xmp"] == b"mine"


def test_all_modes(photo: Photo) -> None:
    for image in modes(photo(40, 30)):
        stream = io.BytesIO()
        image.save(stream, "SDT")
        back = opened(stream.getvalue())
        assert back.mode == image.mode
        back.load()
        assert back.mode == back.copy().mode == image.mode
        if "A" in image.mode:
            assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes()


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_are_converted(mode: str, photo: Photo) -> None:
    rgb = Image.fromarray(photo(40, 30))
    stream = io.BytesIO()
    (rgb.convert(mode) if mode != "LAB" else Image.new("LAB", (40, 30))).save(stream, "SDT")
    assert opened(stream.getvalue()).size == (40, 30)


def test_options_of_save(photo: Photo, tmp_path: Path) -> None:
    image = Image.fromarray(photo(64, 48))
    path = tmp_path / "a.sdt"
    image.save(path, bytes=400)
    assert 250 < path.stat().st_size <= 400
    image.save(path, quality=20, effort=1)
    assert path.read_bytes() == sdtrt.encode(image, quality=20, effort=1)
    image.save(path, bits_per_pixel=1.0)
    assert path.stat().st_size <= 64 * 48 / 8
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    image.save(path, exif=exif, xmp=b"<x/>")
    with Image.open(path) as back:
        assert back.getexif()[0x013B] == "Ansel"
    assert not image.info
    image.save(path, exif=exif, strip=True)
    with Image.open(path) as back:
        assert set(back.info) == {"xmp"}


@pytest.mark.parametrize("options", [{"quality": 0}, {"quality": 101}, {"quality": 50, "bytes": 9}, {"bytes": 5}])
def test_wishes_that_cannot_be_granted(options: dict[str, int], photo: Photo, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"quality|bytes"):
        Image.fromarray(photo(40, 30)).save(tmp_path / "a.sdt", **options)
    assert not (tmp_path / "a.sdt").exists()


def test_text_survives_a_second_generation(photo: Photo) -> None:
    image = Image.fromarray(photo(16, 16))
    image.info["Title"] = "Moonrise"
    first, second = io.BytesIO(), io.BytesIO()
    image.save(first, "SDT")
    opened(first.getvalue()).save(second, "SDT")
    assert opened(second.getvalue()).text == {"Title": "Moonrise"}


def test_verify(data: bytes) -> None:
    opened(data).verify()
    image = opened(data)
    image.load()
    with pytest.raises(RuntimeError, match="directly after open"):
        image.verify()


def test_verify_finds_what_the_header_does_not_tell() -> None:
    image = opened((Path(__file__).parents[1] / "vectors" / "x_left_over" / "input.sdt").read_bytes())
    with pytest.raises(SyntaxError):
        image.verify()
    image = opened((Path(__file__).parents[1] / "vectors" / "x_left_over" / "input.sdt").read_bytes())
    with pytest.raises(OSError, match="cannot decode"):
        image.load()


def test_verify_has_limits_of_latents(inline_profile: Callable[..., LatentProfile]) -> None:
    """Pillow bounds pixels; a file's own profile may give each of them 255 latents."""
    segment = bytes(3 * 255) + b"\1"
    own = pack(inline_profile(255, downscale=1))
    vast = container.write(File(Header(8000, 8000, 0, 0, 2048, alignment=3), (segment,), profile=own))
    with pytest.raises(SyntaxError, match="limit"):
        opened(vast).verify()


def test_damage(data: bytes) -> None:
    for damaged in (data[:-1], data[:20], data[:3], data + b"\0", data[:30] + b"?" + data[31:]):
        with pytest.raises(UnidentifiedImageError):
            opened(damaged)


def test_truncated_images(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Pillow is to load them, what there is is shown, and what is missing is told."""
    data = sdtrt.encode(np.dstack([photo(40, 30), photo(40, 30)[:, :, 0]]))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for damaged in (data[:-1], data[:-100], data[:60], data + b"\0"):
        with pytest.warns(sdtrt.PictureWarning):
            expected = sdtrt.decode(damaged, partial=True)
        image = opened(damaged)
        assert (image.mode, image.size) == ("RGBA", (40, 30))
        assert image.draft(None, (2, 2)) is None
        with pytest.warns(sdtrt.PictureWarning):
            assert image.tobytes() == expected.tobytes()
        assert image.info["sdtrt:missing"] == expected.info["sdtrt:missing"]
    for damaged in (data[:9], b"SDT", data[:3] + b"\x02" + data[4:]):
        with pytest.raises(UnidentifiedImageError):
            opened(damaged)
    assert opened(data).tobytes() == sdtrt.decode(data).tobytes()  # whole ones are as ever, without a warning


@pytest.mark.parametrize(
    ("asked", "scale"),
    [((25, 12), 8), ((24, 12), 8), ((13, 7), 8), ((12, 6), 16), ((6, 3), 32), ((3, 1), 64), ((1, 1), 64), ((0, 0), 64)],
)
def test_draft(photo: Photo, asked: tuple[int, int], scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sdtrt.encode(photo(200, 101))
    expected = sdtrt.preview(data, scale=scale)
    monkeypatch.setattr(sdtrt.Codec, "decode", None)
    image = opened(data)
    assert image.draft("L", asked) == ("RGB", (0, 0, 200 / scale, 101 / scale))
    assert (image.mode, image.size) == ("RGB", expected.size)
    assert image.draft(None, (1, 1)) is None  # once only
    assert image.tobytes() == expected.tobytes()
    assert image.draft(None, (1, 1)) is None


def test_drafts_that_change_nothing(data: bytes) -> None:
    image = opened(data)
    for asked in (None, (40, 30), (6, 3), (5, 4), (400, 1)):  # an eighth is 5x4, of which the last row is cut off
        assert image.draft(None, asked) is None
    assert image.tobytes() == sdtrt.decode(data).tobytes()


@pytest.mark.parametrize("size", [(12, 12), (18, 18), (3, 3)])
def test_thumbnails_are_made_of_previews(photo: Photo, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for original in modes(photo(400, 300)):
        stream = io.BytesIO()
        original.save(stream, "SDT", quality=60)
        monkeypatch.setattr(sdtrt.pillow_plugin.Codec, "decode", None)
        image = opened(stream.getvalue())
        image.thumbnail(size)
        monkeypatch.undo()
        fair = opened(stream.getvalue()).copy()
        fair.thumbnail(size)
        assert (image.mode, image.size) == (fair.mode, fair.size)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(fair)).mean() < 4


def test_copies_and_pickles(data: bytes) -> None:
    expected = sdtrt.decode(data).tobytes()
    assert opened(data).copy().tobytes() == expected
    assert copy.deepcopy(opened(data)).tobytes() == expected
    again = pickle.loads(pickle.dumps(opened(data)))
    assert (again.tobytes(), again.size) == (expected, (40, 30))


def test_closed_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.sdt"
    path.write_bytes(data)
    with path.open("rb") as file:
        image = Image.open(file)
    assert image.getpixel((0, 0))  # all was read at once
    with Image.open(path) as image:
        pass
    path.unlink()
    with path.open("wb") as file:
        Image.new("RGB", (9, 9)).save(file, "SDT")
    assert Image.open(path).resize((3, 3)).size == (3, 3)


def test_many_threads(data: bytes) -> None:
    expected = sdtrt.decode(data).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: opened(data).tobytes(), range(24))) == {expected}


def test_too_large_for_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(Image.DecompressionBombError):
        opened(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        opened(data)


def test_what_others_do_with_images(data: bytes) -> None:
    assert opened(data).convert("L").size == (40, 30)
    assert opened(data).crop((0, 0, 5, 5)).size == (5, 5)
    assert ImageOps.exif_transpose(opened(data)).size == (40, 30)
    assert np.asarray(opened(data)).shape == (30, 40, 3)
    image = opened(data)
    image.thumbnail((10, 10))
    assert max(image.size) == 10
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    assert parser.close().tobytes() == sdtrt.decode(data).tobytes()
