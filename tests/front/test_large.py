"""Images too large to be held whole, by rows: the same files and pictures. What is large is made small here."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.cli import large
from sdtrt.engine.image import luma
from sdtrt.errors import DeviceError
from sdtrt.images import rows

Photo = Callable[[int, int], np.ndarray]
LIMIT = 1 << 12


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, large):
        monkeypatch.setattr(module, "LARGE", LIMIT)
    monkeypatch.setattr(rows, "BAND", 37)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing large go any other way than by rows."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("held whole")

    monkeypatch.setattr(sdtrt.Codec, "encode", refuse)
    monkeypatch.setattr(sdtrt.Codec, "decode", refuse)


def saved(path: Path, pixels: np.ndarray, **options: object) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(("suffix", "mode"), [("png", "RGB"), ("png", "L"), ("tif", "RGB"), ("webp", "RGB")])
def test_commands_large_image_by_rows_round_trips(
    photo: Photo, tmp_path: Path, suffix: str, mode: str, codec: sdtrt.Codec
) -> None:
    pixels = photo(150, 90) if mode == "RGB" else np.ascontiguousarray(photo(150, 90)[:, :, 0])
    options = {"lossless": True} if suffix == "webp" else {}
    source = saved(tmp_path / f"a.{suffix}", pixels, **options)
    assert cli.main(["encode", source, "-q", "40", "-o", str(tmp_path / "a.sdt")]) == 0
    packed = (tmp_path / "a.sdt").read_bytes()
    assert sdtrt.info(packed).channels == (3 if mode == "RGB" else 1)
    assert cli.main(["decode", str(tmp_path / "a.sdt"), "-o", str(tmp_path / "b.png")]) == 0
    with Image.open(tmp_path / "b.png") as back:
        assert back.mode == mode
        expected = np.concatenate([*codec.decode_rows(packed)])
        found = np.asarray(back.convert("RGB"))
        np.testing.assert_array_equal(found, expected if mode == "RGB" else luma(expected)[:, :, None].repeat(3, 2))


def test_encode_by_rows_equals_encode_of_the_whole_image(photo: Photo, tmp_path: Path, codec: sdtrt.Codec) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    source = saved(tmp_path / "a.jpg", photo(150, 90), exif=exif, comment=b"said")
    assert cli.main(["encode", source, "-q", "40", "-o", str(tmp_path / "a.sdt")]) == 0
    with Image.open(source) as image:
        assert codec.encode(image, quality=40) == (tmp_path / "a.sdt").read_bytes()
    assert cli.main(["encode", "--strip", "-f", source, "-q", "40", "-o", str(tmp_path / "a.sdt")]) == 0
    assert codec.encode(source, quality=40, strip=True) == (tmp_path / "a.sdt").read_bytes()


@pytest.mark.parametrize("words", [["--max-bytes", "900"], ["--roi", "20x20+3+3"], ["--target-psnr", "20"]])
def test_encode_options_that_need_the_whole_image_are_not_by_rows(
    photo: Photo, tmp_path: Path, words: list[str]
) -> None:
    source = saved(tmp_path / "a.png", photo(150, 90))
    assert cli.main(["encode", source, *words, "-o", str(tmp_path / "a.sdt")]) == 0
    assert sdtrt.info(tmp_path / "a.sdt").width == 150


def test_rows_of_file_turned_deep_or_transparent_image_is_none(photo: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = photo(150, 90)
    alpha = np.dstack([pixels, pixels[:, :, :1]])
    deep = pixels[:, :, 0].astype(np.uint16) * 257
    for path in (
        saved(tmp_path / "turned.jpg", pixels, exif=exif),
        saved(tmp_path / "alpha.png", alpha),
        saved(tmp_path / "deep.png", deep),
        saved(tmp_path / "small.png", pixels[:20, :20]),
    ):
        assert rows.rows_of_file(Path(path)) is None


def same_as_whole(path: Path, codec: sdtrt.Codec) -> bool:
    """Return whether the shell makes of an image, by rows or not, the file that `encode` makes."""
    assert cli.main(["encode", str(path), "-q", "40", "-f", "-o", str(path.with_suffix(".sdt"))]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sdtrt.ImageWarning)
        return codec.encode(path, quality=40) == path.with_suffix(".sdt").read_bytes()


def test_colours_of_16_bits_and_channels_without_meaning(photo: Photo, tmp_path: Path, codec: sdtrt.Codec) -> None:
    """To Pillow these are RGB."""
    pixels = photo(150, 90)
    with (tmp_path / "deep.png").open("wb") as stream:
        png.Writer(150, 90, greyscale=False, bitdepth=16).write(stream, pixels.astype(np.uint16).reshape(90, -1) * 257)
    Image.fromarray(pixels).convert("RGBX").save(tmp_path / "x.tif")
    for name in ("deep.png", "x.tif"):
        assert same_as_whole(tmp_path / name, codec)


def test_formats_that_libvips_does_not_know(
    photo: Photo, tmp_path: Path, codec: sdtrt.Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "a.bmp", photo(150, 90))
    assert same_as_whole(tmp_path / "a.bmp", codec)
    assert "held whole in memory: libvips does not read it" in capsys.readouterr().err


@pytest.mark.usefixtures("whole")
def test_encode_by_rows_tiff_pages_give_a_warning_and_tags_are_left_out(
    photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Image.fromarray(photo(150, 90))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    assert cli.main(["encode", str(tmp_path / "a.tif"), "-o", str(tmp_path / "a.sdt")]) == 0
    assert "one of 2 frames is taken" in capsys.readouterr().err
    assert not sdtrt.info(tmp_path / "a.sdt").bytes_by_section["metadata"]


def test_encode_by_rows_above_max_pixels_is_refused(
    photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "a.png", photo(150, 90))
    assert cli.main(["encode", source, "--max-pixels", "13499", "-o", str(tmp_path / "a.sdt")]) == 1
    assert "the limit is 13499" in capsys.readouterr().err
    assert not (tmp_path / "a.sdt").exists()


def test_encode_by_rows_damaged_image_is_refused(
    photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(saved(tmp_path / "a.png", photo(150, 90)))
    source.write_bytes(source.read_bytes()[:4000])
    assert cli.main(["encode", str(source), "-o", str(tmp_path / "a.sdt")]) == 1
    assert "damaged image" in capsys.readouterr().err
    assert not (tmp_path / "a.sdt").exists()


def test_decode_by_rows_damaged_file_leaves_no_output(photo: Photo, tmp_path: Path, codec: sdtrt.Codec) -> None:
    data = bytearray(codec.encode(photo(150, 90)))
    data[-30] ^= 1
    (tmp_path / "a.sdt").write_bytes(data)
    assert cli.main(["decode", str(tmp_path / "a.sdt"), "-o", str(tmp_path / "b.png")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.sdt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_decode_by_rows_pipe_is_written_through(photo: Photo, tmp_path: Path, codec: sdtrt.Codec) -> None:
    source, pipe = tmp_path / "a.sdt", tmp_path / "b.png"
    source.write_bytes(codec.encode(photo(150, 90)))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli.main(["decode", str(source), "-f", "-o", str(pipe)]) == 0
        assert os.read(reader, 4) == b"\x89PNG"
    finally:
        os.close(reader)


@pytest.mark.parametrize("library", ["pyvips", "png"])
def test_commands_large_image_without_libraries_is_held_whole_with_a_warning(
    photo: Photo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    library: str,
) -> None:
    """It is told, and done the usual way."""
    monkeypatch.setitem(sys.modules, library, None)
    source = saved(tmp_path / "a.png", photo(150, 90))
    assert cli.main(["encode", source, "-o", str(tmp_path / "a.sdt")]) == 0
    assert cli.main(["decode", str(tmp_path / "a.sdt"), "-o", str(tmp_path / "b.png")]) == 0
    assert "held whole in memory: libraries for large images are missing" in capsys.readouterr().err
    with Image.open(tmp_path / "b.png") as back:
        assert back.size == (150, 90)


def test_rows_of_file_without_libraries_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, photo: Photo, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(DeviceError, match=r"\[large\]"):
        rows.rows_of_file(Path(saved(tmp_path / "a.png", photo(150, 90))))
