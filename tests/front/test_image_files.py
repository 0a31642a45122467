"""Image files that are written: one quality everywhere, and an option for another."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.images.files import LOSSY_QUALITY, image_file, image_file_of_type
from sdtrt.images.media_types import NAMES, SUFFIXES
from sdtrt.images.web_formats import KINDS

Photo = Callable[[int, int], np.ndarray]
LOSSY = [kind for kind in KINDS if kind != "image/png"]


@pytest.fixture
def packed(photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one .sdt file."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.sdt").write_bytes(sdtrt.encode(photo(64, 48)))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [None, 30])
def test_command_dataset_and_service_write_the_same_file(packed: Path, kind: str, quality: int | None) -> None:
    needs("dataset")
    suffix = SUFFIXES[kind]
    if kind == "image/png" and quality:
        return
    options = ["--output-quality", str(quality)] if quality else []
    assert cli.main(["decode", "in/a.sdt", "-o", f"a.{suffix}", *options]) == 0
    assert cli.main(["dataset", "decode", "in", "out", "--format", suffix, "--workers", "1", *options]) == 0
    expected = image_file_of_type(sdtrt.decode("in/a.sdt"), kind, quality)  # as `sdtrt serve` answers
    assert Path(f"a.{suffix}").read_bytes() == Path(f"out/a.{suffix}").read_bytes() == expected


@pytest.mark.parametrize("kind", LOSSY)
def test_default_is_quality_90(photo: Photo, kind: str) -> None:
    image = Image.fromarray(photo(64, 48))
    assert image_file_of_type(image, kind) == image_file_of_type(image, kind, LOSSY_QUALITY)
    sizes = [len(image_file_of_type(image, kind, quality)) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))
    stream = io.BytesIO()
    image.save(stream, NAMES[kind], quality=90)
    assert np.array_equal(
        np.asarray(Image.open(stream)), np.asarray(Image.open(io.BytesIO(image_file_of_type(image, kind))))
    )


@pytest.mark.parametrize("quality", ["0", "101", "-1", "high", "5.5", ""])
def test_output_quality_out_of_range_is_wrong_usage(packed: Path, quality: str) -> None:
    for command in (["decode", "in/a.sdt"], ["dataset", "decode", "in", "out"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*command, "--format", "jpg", f"--output-quality={quality}"])
    assert sorted(path.name for path in packed.rglob("*")) == ["a.sdt", "in"]


@pytest.mark.parametrize(
    "command",
    [
        ["decode", "in/a.sdt"],
        ["decode", "in/a.sdt", "-o", "a.gif"],
        ["decode", "in/a.sdt", "-o", "a.tif"],
        ["decode", "in/a.sdt", "--to-latents"],
        ["dataset", "decode", "in", "out"],
    ],
)
def test_output_quality_of_formats_without_one_is_wrong_usage(
    packed: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--output-quality", "80"]) == 2
    assert "output quality" in capsys.readouterr().err.replace("-", " ")
    assert sorted(path.name for path in packed.rglob("*")) == ["a.sdt", "in"]


@pytest.mark.parametrize("quality", [True, 50.0, "50", 0, 101])
def test_quality_that_is_no_whole_number_from_1_to_100_is_a_value_error(quality: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to 100"):
        image_file(Image.new("RGB", (4, 4)), "JPEG", quality)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_jpeg_of_an_image_with_alpha_lies_on_white_with_a_warning(packed: Path, mode: str) -> None:
    image = Image.new(mode, (8, 8), (0,) * len(mode))
    image.info["Title"] = "Moonrise"
    with pytest.warns(sdtrt.ImageWarning, match="the alpha channel is dropped: JPEG has none"):
        back = Image.open(io.BytesIO(image_file(image, "JPEG")))
    assert back.mode == ("L" if mode == "LA" else "RGB")
    assert np.asarray(back).min() == 255
    assert back.info["comment"] == b"Moonrise"


def test_decode_of_alpha_to_jpeg_warns_and_works(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/a.sdt").write_bytes(sdtrt.encode(np.zeros((16, 16, 4), np.uint8)))
    assert cli.main(["decode", "in/a.sdt", "-o", "a.jpg", "--json"]) == 0
    assert "alpha channel is dropped" in json.loads(capsys.readouterr().out)[0]["warnings"][0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_resolution_is_written(kind: str) -> None:
    image = Image.new("RGB", (8, 8))
    image.info["dpi"] = (300.0, 150.0)
    x, y = Image.open(io.BytesIO(image_file(image, kind))).info["dpi"]
    assert (round(x), round(y)) == (300, 150)


def test_png_level(packed: Path, tmp_path: Path) -> None:
    """All levels give the same pixels."""
    sizes, pixels = [], []
    for level in ("0", "1", "9"):
        path = tmp_path / f"{level}.png"
        assert cli.main(["decode", "in/a.sdt", "-o", str(path), "--png-level", level]) == 0
        sizes.append(path.stat().st_size)
        with Image.open(path) as image:
            pixels.append(image.convert("RGB").tobytes())
    assert pixels[0] == pixels[1] == pixels[2]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("level", ["-1", "10", "high"])
def test_png_level_out_of_range_is_wrong_usage(packed: Path, level: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["decode", "in/a.sdt", f"--png-level={level}"])
