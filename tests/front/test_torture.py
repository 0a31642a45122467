"""Odd and broken image files, by way of an .sdt file and back, and compared: the right picture, or a clear refusal.

Some are made here. Where `SDTRT_TORTURE` names a folder of more, with a README.tsv of columns `file` and `expected`
(`decode…`, `first…`: must work; `clean error`: must not; all else: either), those are tried, too.
"""

import csv
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sdtrt import cli
from sdtrt.engine.image import psnr

MIN_PSNR = 15  # dB at quality 90, from afar: enough to tell a wrong picture, colour or orientation from a right one
FOLDER = Path(os.environ["SDTRT_TORTURE"]) if "SDTRT_TORTURE" in os.environ else None
LISTED = list(csv.DictReader((FOLDER / "README.tsv").read_text().splitlines(), delimiter="\t")) if FOLDER else []
Photo = Callable[[int, int], np.ndarray]


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def good_files(photo: np.ndarray) -> dict[str, bytes]:
    rgb = Image.fromarray(photo)
    grey, red = rgb.convert("L"), Image.new("RGB", rgb.size, "red")
    ramp = Image.linear_gradient("L").resize(rgb.size)
    translucent, grey_alpha = rgb.copy(), grey.copy()
    translucent.putalpha(ramp)
    grey_alpha.putalpha(ramp)
    turned = Image.Exif()
    turned[0x0112] = 5
    return {
        "rgb.png": stored(rgb, "PNG"),
        "rgba.png": stored(translucent, "PNG"),
        "grey.jpg": stored(grey, "JPEG"),
        "grey_alpha.png": stored(grey_alpha, "PNG"),
        "one bit.tiff": stored(rgb.convert("1"), "TIFF", compression="group4"),
        "palette.gif": stored(rgb.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
        "transparent_index.png": stored(rgb.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=3),
        "cmyk.jpg": stored(rgb.convert("CMYK"), "JPEG", quality=95),
        "cmyk.tiff": stored(rgb.convert("CMYK"), "TIFF"),
        "ycbcr.tiff": stored(rgb.convert("YCbCr"), "TIFF"),
        "16 bits.png": stored(Image.fromarray(photo[:, :, 0].astype(np.uint16) * 257), "PNG"),
        "float.tiff": stored(Image.fromarray(photo[:, :, 0].astype(np.float32) / 255), "TIFF"),
        "progressive.jpg": stored(rgb, "JPEG", progressive=True, quality=95),
        "turned.jpg": stored(rgb, "JPEG", exif=turned, quality=95),
        os.fsdecode("Füße and spaces.webp".encode()): stored(rgb, "WEBP", lossless=True),
        "animated.gif": stored(rgb, "GIF", save_all=True, append_images=[red]),
        "animated.webp": stored(rgb, "WEBP", save_all=True, append_images=[red], lossless=True),
        "pages.tiff": stored(rgb, "TIFF", save_all=True, append_images=[red]),
        "wrong_suffix.jpg": stored(rgb, "PNG"),
        "one_pixel.bmp": stored(Image.new("RGB", (1, 1), "green"), "BMP"),
        "a_line.png": stored(rgb.resize((300, 1)), "PNG"),
        "a_column.avif": stored(rgb.resize((1, 300)), "AVIF", quality=95),
    }


def bad_files(photo: np.ndarray) -> dict[str, bytes]:
    rgb = Image.fromarray(photo)
    png, jpeg = stored(rgb, "PNG"), stored(rgb, "JPEG")
    vast = bytearray(png)
    vast[16:24] = (65536).to_bytes(4, "big") * 2
    return {
        "empty.png": b"",
        "one_byte.jpg": b"\xff",
        "text.png": b"not a picture",
        "noise.jpg": np.random.default_rng(1).bytes(999),
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "header_only.jpg": jpeg[:40],
        "wrong_checksum.png": png[:40] + bytes([png[40] ^ 1]) + png[41:],
        "vast.png": bytes(vast),
        "minus_one.tiff": stored(Image.fromarray(photo[:, :, 0].astype(np.float32) - 300), "TIFF"),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    }


def made(kind: Callable[[np.ndarray], dict[str, bytes]]) -> list[str]:
    return sorted(kind(np.zeros((48, 72, 3), np.uint8)))


@pytest.mark.parametrize("name", made(good_files))
def test_odd_image_file_is_encoded(name: str, photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(good_files(photo(72, 48))[name])
    require_right(tmp_path / name, tmp_path, capsys)


@pytest.mark.parametrize("name", made(bad_files))
def test_broken_image_file_is_refused(
    name: str, photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(bad_files(photo(72, 48))[name])
    require_refused(tmp_path / name, tmp_path, capsys)


@pytest.mark.parametrize("row", LISTED, ids=[row["file"] for row in LISTED])
def test_image_files_of_the_torture_set_behave_as_listed(
    row: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FOLDER is not None
    path = FOLDER / row["file"]
    if row["expected"] in {"decode", "first frame", "first page"} or encoded(path, tmp_path) == 0:
        require_right(path, tmp_path, capsys)
    else:
        capsys.readouterr()
        require_refused(path, tmp_path, capsys)


def encoded(path: Path, folder: Path) -> int:
    return cli.main(["encode", str(path), "-q", "90", "-f", "-o", str(folder / "packed.sdt")])


def compared(path: Path, folder: Path) -> int:
    return cli.main(["compare", str(path), "-f", "-o", str(folder / "report.html")])


def require_right(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encoded(path, folder) == 0
    assert cli.main(["decode", str(folder / "packed.sdt"), "-f", "-o", str(folder / "back.png")]) == 0
    assert compared(path, folder) == 0
    assert "Traceback" not in capsys.readouterr().err
    with warnings.catch_warnings(), Image.open(path) as image, Image.open(folder / "back.png") as back:
        warnings.simplefilter("ignore")
        expected = in_8_bits(ImageOps.exif_transpose(image))
        assert back.size == expected.size
        assert back.mode.startswith("L") == (expected.mode in {"1", "L", "LA"})
        opaque = np.asarray(expected.convert("RGBA"))[:, :, 3]
        np.testing.assert_array_equal(np.asarray(back.convert("RGBA"))[:, :, 3], opaque)
        if "icc_profile" not in image.info:
            assert psnr(from_afar(expected), from_afar(back)) > MIN_PSNR


def from_afar(image: Image.Image) -> np.ndarray:
    """Return an image on grey, each 8x8 pixels one: noise and fine patterns, which the model cannot hold, are gone."""
    grey = Image.new("RGBA", image.size, "grey")
    return np.asarray(Image.alpha_composite(grey, image.convert("RGBA")).convert("RGB").reduce(8))


def in_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        return Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    if image.mode.startswith("I"):
        narrow = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
        if isinstance(level := image.info.get("transparency"), int):
            narrow.putalpha(Image.fromarray(np.where(np.asarray(image) == level, 0, 255).astype(np.uint8)))
        return narrow
    return image


def require_refused(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encoded(path, folder) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"sdtrt: {path}: ")
    assert len(told) > len(f"sdtrt: {path}: ") + 5
    assert compared(path, folder) == 1
    assert not [name for name in ("packed.sdt", "report.html") if (folder / name).exists()]
