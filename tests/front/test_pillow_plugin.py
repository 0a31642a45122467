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
from PIL.PngImagePlugin import PngInfo

import sdtrt
import sdtrt.pillow_plugin
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.profile import LatentProfile, pack_profile
from sdtrt.images.convert import to_engine_image

Photo = Callable[[int, int], np.ndarray]
ARTIST, ORIENTATION = 0x013B, 0x0112
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="here"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


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
    monkeypatch.setattr(sdtrt.pillow_plugin.api, "decode", None)
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


def test_load_adds_the_look_to_xmp(data: bytes) -> None:
    image = opened(data)
    assert b"sdtrt:Look" not in image.info["xmp"]
    image.load()
    assert b'sdtrt:Look="faithful"' in image.info["xmp"]
    changed = opened(data)
    changed.info["xmp"] = b"mine"
    changed.load()
    assert changed.info["xmp"] == b"mine"


def test_save_of_every_mode_keeps_mode_and_pixels(photo: Photo) -> None:
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
    image.save(path, max_bytes=400)
    assert 250 < path.stat().st_size <= 400
    image.save(path, quality=20, effort=1)
    assert path.read_bytes() == sdtrt.encode(image, quality=20, effort=1)
    image.save(path, bpp=1.0)
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


@pytest.mark.parametrize(
    "options", [{"quality": 0}, {"quality": 101}, {"quality": 50, "max_bytes": 9}, {"max_bytes": 5}]
)
def test_save_with_options_that_cannot_be_met_raises_value_error(
    options: dict[str, int], photo: Photo, tmp_path: Path
) -> None:
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


def test_verify_works_directly_after_open_only(data: bytes) -> None:
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
    own = pack_profile(inline_profile(255, downscale=1))
    vast = container.write(File(Header(8000, 8000, 0, 0, 2048, alignment=3), (segment,), profile=own))
    with pytest.raises(SyntaxError, match="limit"):
        opened(vast).verify()


def test_open_damaged_file_is_unidentified(data: bytes) -> None:
    for damaged in (data[:-1], data[:20], data[:3], data + b"\0", data[:30] + b"?" + data[31:]):
        with pytest.raises(UnidentifiedImageError):
            opened(damaged)


def test_load_truncated_image_warns_and_names_the_missing_parts(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Pillow is to load them, what there is is shown, and what is missing is told."""
    data = sdtrt.encode(np.dstack([photo(40, 30), photo(40, 30)[:, :, 0]]))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for damaged in (data[:-1], data[:-100], data[:60], data + b"\0"):
        with pytest.warns(sdtrt.ImageWarning):
            expected = sdtrt.decode(damaged, partial=True)
        image = opened(damaged)
        assert (image.mode, image.size) == ("RGBA", (40, 30))
        assert image.draft(None, (2, 2)) is None
        with pytest.warns(sdtrt.ImageWarning):
            assert image.tobytes() == expected.tobytes()
        assert image.info["sdtrt:missing"] == expected.info["sdtrt:missing"]
    for damaged in (data[:9], b"SDT", data[:3] + b"\x02" + data[4:]):
        with pytest.raises(UnidentifiedImageError):
            opened(damaged)
    assert opened(data).tobytes() == sdtrt.decode(data).tobytes()  # whole ones are as ever, without a warning


@pytest.mark.parametrize(
    ("asked", "scale"),
    [
        *[((100, 50), 2), ((51, 26), 2), ((50, 25), 4), ((26, 13), 4), ((25, 12), 8), ((24, 12), 8), ((13, 7), 8)],
        *[((12, 6), 16), ((6, 3), 32), ((3, 1), 64), ((1, 1), 64), ((0, 0), 64)],
    ],
)
def test_draft_decodes_a_preview(
    photo: Photo, asked: tuple[int, int], scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sdtrt.encode(photo(200, 101))
    expected = sdtrt.preview(data, scale=scale)
    monkeypatch.setattr(sdtrt.Codec, "decode", None)
    image = opened(data)
    assert image.draft("L", asked) == ("RGB", (0, 0, 200 / scale, 101 / scale))
    assert (image.mode, image.size) == ("RGB", expected.size)
    assert image.draft(None, (1, 1)) is None  # once only
    assert image.tobytes() == expected.tobytes()
    assert image.draft(None, (1, 1)) is None


def test_draft_without_a_smaller_preview_changes_nothing(data: bytes) -> None:
    image = opened(data)
    for asked in (None, (40, 30), (21, 3), (3, 16), (400, 1)):
        assert image.draft(None, asked) is None
    assert image.tobytes() == sdtrt.decode(data).tobytes()


@pytest.mark.parametrize("size", [(12, 12), (18, 18), (3, 3)])
def test_thumbnails_are_made_of_previews(photo: Photo, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for original in modes(photo(400, 300)):
        stream = io.BytesIO()
        original.save(stream, "SDT", quality=60)
        monkeypatch.setattr(sdtrt.pillow_plugin.api, "decode", None)
        image = opened(stream.getvalue())
        image.thumbnail(size)
        monkeypatch.undo()
        fair = opened(stream.getvalue()).copy()
        fair.thumbnail(size)
        assert (image.mode, image.size) == (fair.mode, fair.size)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(fair)).mean() < 4


def pickled(image: Image.Image) -> Image.Image:
    return pickle.loads(pickle.dumps(image))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, Image.Image.copy, pickled])
@pytest.mark.parametrize("kind", ["decoded", "opened", "loaded", "drafted"])
def test_copies_and_pickles_keep_pixels_mode_and_info(
    photo: Photo, duplicate: Callable[[Image.Image], Image.Image], kind: str
) -> None:
    for original in modes(photo(40, 30))[::3]:
        stream = io.BytesIO()
        described(original).save(stream, "SDT", effort=1)
        data = stream.getvalue()
        image = sdtrt.decode(data) if kind == "decoded" else opened(data)
        if kind == "loaded":
            image.load()
        if kind == "drafted":
            image.draft(None, (4, 3))
        again = duplicate(image)
        image.load()
        assert (again.size, again.mode, again.info) == (image.size, image.mode, image.info)
        assert again.tobytes() == image.tobytes()
        assert dict(again.getexif()) == dict(image.getexif())
        if kind != "decoded" and duplicate in {copy.deepcopy, pickled}:
            assert (again.format, again.text) == ("SDT", {"Title": "Moonrise"})
            assert again.convert("L").size == again.size
        assert to_engine_image(again).metadata == to_engine_image(image).metadata


def described(image: Image.Image) -> Image.Image:
    """Return an image with text, EXIF and XMP."""
    exif = Image.Exif()
    exif[ARTIST] = "Ansel"
    image.info |= {"Title": "Moonrise", "exif": exif.tobytes(), "xmp": b"<x/>"}
    return image


def saved(image: Image.Image, kind: str = "SDT", **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, **({"effort": 1, "layers": 1} if kind == "SDT" else {}), **options)
    return Image.open(stream)


def exif_of(orientation: int | None) -> Image.Exif:
    exif = Image.Exif()
    exif[ARTIST] = "Ansel"
    if orientation:
        exif[ORIENTATION] = orientation
    return exif


def shown_size(image: Image.Image) -> tuple[int, int]:
    return ImageOps.exif_transpose(image).size


CHANGES = {
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "upright": ImageOps.exif_transpose,
    "cropped": lambda image: image.crop((0, 0, 30, 20)),
    "resized": lambda image: image.resize((20, 14)),
    "copied": lambda image: image.copy(),
    "grey": lambda image: image.convert("L"),
    "pasted": lambda image: Image.merge("RGB", image.split()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("source", ["JPEG", "PNG"])
def test_changed_image_is_shown_as_by_other_formats(photo: Photo, source: str, change: str, orientation: int) -> None:
    file = saved(Image.fromarray(photo(40, 30)), source, exif=exif_of(orientation))
    changed = CHANGES[change](file)
    ours = saved(changed)
    assert shown_size(ours) == shown_size(saved(changed, "PNG")) == changed.size
    assert ours.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("own", [None, 6])
@pytest.mark.parametrize("given", [None, 1, 6])
@pytest.mark.parametrize("fresh", [True, False])
def test_orientation_of_given_exif_is_that_of_other_formats(
    photo: Photo, own: int | None, given: int | None, fresh: bool
) -> None:
    file = saved(Image.fromarray(photo(40, 30)), "JPEG", exif=exif_of(own))
    image = file if fresh else file.copy()
    for exif in (exif_of(given), exif_of(given).tobytes(), exif_of(given).tobytes()[6:]):
        ours, theirs = saved(image, exif=exif), saved(image, "PNG", exif=exif)
        assert shown_size(ours) == shown_size(theirs)
        assert ours.getexif()[ARTIST] == "Ansel"


def test_fresh_image_is_turned_and_what_is_removed_stays_removed(photo: Photo) -> None:
    original = described(Image.fromarray(photo(40, 30)))
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        options = {"exif": exif_of(6)} | ({"xmp": b"<x/>"} if kind in {"JPEG", "WEBP"} else {})
        assert saved(saved(original, kind, **options)).size == (30, 40)
        for nothing in (None, b""):
            back = saved(saved(original, kind, **options), exif=nothing, xmp=nothing, comment=nothing, text=nothing)
            assert back.size == (30, 40)
            assert "exif" not in back.info
            assert b"<x/>" not in back.info["xmp"]
            assert not back.text


@pytest.mark.parametrize("keys", [("xmp",), ("XML:com.adobe.xmp",), ("xmp", "XML:com.adobe.xmp")])
def test_save_xmp_under_either_key_is_kept_unless_one_is_empty(photo: Photo, keys: tuple[str, ...]) -> None:
    image = Image.fromarray(photo(16, 16))
    for packet in (XMP, XMP.decode()):
        image.info = dict.fromkeys(keys, packet)
        assert b"here" in saved(image).info["xmp"]
    for nothing in (None, "", b""):
        for key in keys:
            image.info = dict.fromkeys(keys, XMP) | {key: nothing}
            assert b"here" not in saved(image).info["xmp"]
        image.info = dict.fromkeys(keys, XMP)
        assert b"here" in saved(image).info["xmp"]
        assert b"here" not in saved(image, xmp=nothing).info["xmp"]
        assert saved(image, exif=nothing).info["xmp"] == saved(image).info["xmp"]


def test_text_that_is_removed_from_info_is_removed_from_a_png(photo: Photo) -> None:
    text = PngInfo()
    text.add_text("Title", "Moonrise")
    text.add_text("Author", "Ansel")
    image = saved(Image.fromarray(photo(16, 16)), "PNG", pnginfo=text)
    image.load()
    del image.info["Title"]
    image.info["Author"] = "Adams"
    assert saved(image).text == {"Author": "Adams"}


def test_comment_and_text_replace_those_of_the_image(photo: Photo) -> None:
    image = saved(Image.fromarray(photo(16, 16)), "JPEG", comment=b"before")
    assert saved(image).text == {"Comment": "before"}
    assert saved(image, comment="after").text == {"Comment": "after"}
    assert saved(image, comment="f\xfc\xdfe".encode("latin-1")).text == {"Comment": "f\xfc\xdfe"}
    assert saved(image, text={"Title": "after"}).text == {"Title": "after"}
    assert saved(image, text={"Title": "after"}, comment="too").text == {"Title": "after", "Comment": "too"}
    assert image.info["comment"] == b"before"


def test_load_closes_the_file_that_pillow_opened(data: bytes, tmp_path: Path) -> None:
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


def test_load_in_many_threads_gives_equal_pixels(data: bytes) -> None:
    expected = sdtrt.decode(data).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: opened(data).tobytes(), range(24))) == {expected}


def test_open_above_max_image_pixels_raises_pillows_error(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(Image.DecompressionBombError):
        opened(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        opened(data)


def test_opened_image_works_with_other_functions_of_pillow(data: bytes) -> None:
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
