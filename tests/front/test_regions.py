"""Parts of pictures and regions of interest, from Python and from the shell."""

import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.engine.networks.bundle import find_bundle

Photo = Callable[[int, int], np.ndarray]
REGION = (10, 3, 30, 25)


@pytest.fixture
def folder(tmp_path: Path, photo: Photo, real_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo(160, 120)).save("photo.png")
    mask = np.zeros((120, 160), np.uint8)
    mask[10:50, 20:90] = 255
    Image.fromarray(mask).save("mask.png")
    for name, data in real_files.items():
        Path(f"{name}.sdt").write_bytes(data)
    Path("cut.sdt").write_bytes(sdtrt.encode("photo.png")[:-40])
    return tmp_path


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def main(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)


def sources(data: bytes, folder: Path) -> list[object]:
    path = folder / "any.sdt"
    path.write_bytes(data)
    return [data, bytearray(data), memoryview(data), path, str(path), io.BytesIO(data)]


@pytest.mark.parametrize("name", ["colour", "grey", "alpha"])
def test_decode_region_and_preview_take_every_source(
    codec: sdtrt.Codec, real_files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    data = real_files[name]
    whole, left, top = codec.decode(data), REGION[0], REGION[1]
    crop = whole.crop((left, top, left + REGION[2], top + REGION[3]))
    small = codec.preview(data)
    for source in sources(data, tmp_path):
        for decode in (codec.decode, sdtrt.decode):
            found = decode(source, region=REGION)
            assert (found.mode, found.tobytes()) == (whole.mode, crop.tobytes())
        for preview in (codec.preview, sdtrt.preview):
            found = preview(source)
            assert (found.mode, found.size, found.tobytes()) == (whole.mode, (6, 5), small.tobytes())
        assert sdtrt.decode(source).tobytes() == whole.tobytes()
        assert sdtrt.decode(source, partial=True).tobytes() == whole.tobytes()
        assert sdtrt.info(source) == sdtrt.info(data)
        sdtrt.verify(source)
        assert np.concatenate([*codec.decode_rows(source)]).shape == (37, 45, 3)
        assert codec.decode_latents(source).shape == (40, 5, 6)


@pytest.mark.parametrize("name", ["colour", "layers"])
def test_sources_stream_behind_other_bytes_is_read_from_where_it_stands(
    codec: sdtrt.Codec, real_files: dict[str, bytes], name: str
) -> None:
    stream, data = io.BytesIO(b"SDT before" + real_files[name]), real_files[name]
    stream.seek(10)
    for decode in (codec.decode, sdtrt.decode):
        for options in ({}, {"region": REGION}, {"partial": True}):
            assert decode(stream, **options).tobytes() == codec.decode(data, **options).tobytes()
            assert stream.tell() == 10
    for preview in (codec.preview, sdtrt.preview):
        assert preview(stream, scale=16).tobytes() == codec.preview(data, scale=16).tobytes()
    assert np.array_equal(np.concatenate([*codec.decode_rows(stream)]), np.concatenate([*codec.decode_rows(data)]))
    assert np.array_equal(codec.decode_latents(stream), codec.decode_latents(data))
    assert sdtrt.info(stream) == sdtrt.info(data)
    sdtrt.verify(stream)
    assert stream.tell() == 10
    assert not stream.closed


def test_sources_stream_at_its_end_says_so(codec: sdtrt.Codec, real_files: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    stream.write(real_files["colour"])
    for call in (codec.decode, codec.preview, sdtrt.decode, sdtrt.info, sdtrt.verify):
        with pytest.raises(sdtrt.FormatError, match=r"is at its end.*seek\(0\)"):
            call(stream)


def test_sources_after_an_error_stream_stands_where_it_stood(real_files: dict[str, bytes]) -> None:
    stream = io.BytesIO(b"before" + real_files["layers"][:-3])
    stream.seek(6)
    for call in (sdtrt.info, sdtrt.verify, sdtrt.decode):
        with pytest.raises(sdtrt.FormatError):
            call(stream)
        assert stream.tell() == 6


class Pipe:
    """A stream that cannot seek, as those of pipes and of answers over HTTP."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


class Unseekable(io.BytesIO):
    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")


class Silent(io.BytesIO):
    """A stream whose `seek` does not say where it stands."""

    def seek(self, *arguments: int) -> None:  # type: ignore[override]
        super().seek(*arguments)


class Name:
    """A path of a library of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


class Both(Name):
    """A path that has a method `read`, as those of the library `py`, but is no stream."""

    def read(self) -> str:
        raise AssertionError("this is the path of a file")


@pytest.mark.parametrize("kind", [Pipe, Unseekable, Silent])
def test_sources_odd_streams_are_read(real_files: dict[str, bytes], kind: Callable[[bytes], BinaryIO]) -> None:
    data = real_files["layers"]
    assert sdtrt.decode(kind(data)).tobytes() == sdtrt.decode(data).tobytes()
    assert sdtrt.preview(kind(data)).tobytes() == sdtrt.preview(data).tobytes()
    assert sdtrt.info(kind(data)) == sdtrt.info(data)


def test_sources_text_stream_is_refused() -> None:
    with pytest.raises(TypeError, match="mode 'rb'"):
        sdtrt.info(io.StringIO("SDT"))


@pytest.mark.parametrize("kind", [Name, Both])
def test_sources_any_path_like_object_is_a_path(
    real_files: dict[str, bytes], photo: Photo, tmp_path: Path, kind: Callable[[Path], os.PathLike[str]]
) -> None:
    (tmp_path / "a.sdt").write_bytes(real_files["colour"])
    Image.fromarray(photo(45, 37)).save(tmp_path / "a.png")
    Image.new("L", (45, 37), 255).save(tmp_path / "mask.png")
    data = sdtrt.encode(kind(tmp_path / "a.png"), roi=kind(tmp_path / "mask.png"))
    assert data == sdtrt.encode(tmp_path / "a.png", roi=tmp_path / "mask.png")
    assert sdtrt.info(kind(tmp_path / "a.sdt")) == sdtrt.info(real_files["colour"])
    assert sdtrt.decode(kind(tmp_path / "a.sdt")).size == (45, 37)


@pytest.mark.parametrize("kind", [Name, Both])
def test_model_any_path_like_object_is_a_folder(
    real_files: dict[str, bytes], tmp_path: Path, kind: Callable[[Path], os.PathLike[str]]
) -> None:
    shutil.copytree(find_bundle("tiny").folder, tmp_path / "mine")
    assert sdtrt.decode(real_files["colour"], model=kind(tmp_path / "mine")).size == (45, 37)
    with sdtrt.Codec.open(kind(tmp_path / "mine")) as codec, pytest.raises(OSError, match="nonesuch") as caught:
        codec.decode_batch([kind(tmp_path / "nonesuch.sdt")])
    assert caught.value.__notes__ == [f"number 0 of the batch, from 0: {tmp_path / 'nonesuch.sdt'}"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_sources_named_pipe_is_read_once(real_files: dict[str, bytes], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.sdt"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(pipe.write_bytes, real_files["colour"])
        assert sdtrt.decode(pipe).size == (45, 37)


@pytest.mark.parametrize("source", [None, 5, ["a.sdt"], np.zeros(3)])
def test_decode_wrong_source_raises_type_error(codec: sdtrt.Codec, source: object) -> None:
    for call in (codec.decode, codec.preview, codec.decode_latents, sdtrt.decode, sdtrt.preview, sdtrt.info):
        with pytest.raises(TypeError, match="expected bytes, a path"):
            call(source)


def test_decode_partial_of_a_cut_file_warns_and_names_the_missing_parts(codec: sdtrt.Codec, photo: Photo) -> None:
    data = codec.encode(photo(160, 120))
    with pytest.raises(sdtrt.FormatError):
        codec.decode(data[:-40])
    for decode in (codec.decode, sdtrt.decode):
        with pytest.warns(sdtrt.ImageWarning, match="tiles: 0 of 1 missing, 1 incomplete"):
            assert decode(data[:-40], partial=True).size == (160, 120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.decode(data, partial=True).tobytes() == codec.decode(data).tobytes()
    for options in ({"region": REGION}, {"denoise": 2}):
        with pytest.raises(ValueError, match="partial"):
            codec.decode(data, partial=True, **options)
    with pytest.raises(sdtrt.FormatError):
        codec.decode(data[:9], partial=True)
    with pytest.raises(sdtrt.LimitError):
        codec.decode(data[:-40], partial=True, limits=sdtrt.Limits(max_pixels=100))


def test_encode_rows_and_decode_rows_equal_encode_and_decode(codec: sdtrt.Codec, photo: Photo) -> None:
    original = photo(160, 120)
    data = codec.encode_rows((original[y : y + 50] for y in range(0, 120, 50)), 160, 120, quality=30, effort=2)
    assert data == codec.encode(original, quality=30, effort=2)
    bands = list(codec.decode_rows(data))
    np.testing.assert_array_equal(np.concatenate(bands), np.asarray(codec.decode(data)))
    with pytest.raises(ValueError, match="119 rows came, expected 120"):
        codec.encode_rows([original[:119]], 160, 120)


def test_encode_roi_of_every_type_gives_the_same_file(codec: sdtrt.Codec, folder: Path) -> None:
    """The four ways to name a region give the same file, another than none."""
    image, mask = Image.open("photo.png"), Image.open("mask.png")
    files = {
        codec.encode(image, quality=30, roi=roi)
        for roi in ((20, 10, 70, 40), np.asarray(mask), mask, "mask.png", Path("mask.png"))
    }
    assert len(files) == 1
    assert files != {codec.encode(image, quality=30)}
    assert codec.encode(image, quality=30, roi=mask, roi_weight=1) == codec.encode(image, quality=30)
    assert sdtrt.encode(image, quality=30, roi=mask) in files
    assert len(codec.encode(image, max_bytes=900, roi=mask, roi_weight=16)) <= 900


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roi": (100, 0, 61, 5)}, "not within the image, which is 160x120"),
        (
            {"roi": np.zeros((120, 161), np.uint8)},
            "roi is a mask of uint8 and shape .120, 161., expected uint8 .120, 160.",
        ),
        ({"roi": np.zeros((120, 160))}, "mask of float64"),
        ({"roi": (0, 0, 5, 5), "roi_weight": 0.5}, "expected a number from 1 to 64"),
        ({"roi": (0, 0, 5, 5), "roi_weight": 65}, "expected a number from 1 to 64"),
    ],
)
def test_encode_unfit_roi_raises_value_error(codec: sdtrt.Codec, folder: Path, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codec.encode("photo.png", **options)


def test_encode_roi_of_a_wrong_type_raises_type_error(codec: sdtrt.Codec, folder: Path) -> None:
    assert codec.encode("photo.png", roi=[20, 10, 70, 40]) == codec.encode("photo.png", roi=(20, 10, 70, 40))
    with pytest.raises(
        TypeError, match=r"roi is 5 \(int\), expected \(left, top, width, height\), or a mask or its path"
    ):
        codec.encode("photo.png", roi=5)


def test_decode_parts_in_the_shell(folder: Path, codec: sdtrt.Codec, capsys: pytest.CaptureFixture[str]) -> None:
    whole = codec.decode(Path("alpha.sdt"))
    assert main("decode", "alpha.sdt", "--region", "30x25+10+3", "-o", "region.png") == 0
    assert pixels("region.png") == whole.crop((10, 3, 40, 28)).tobytes()
    assert main("decode", "alpha.sdt", "--preview", "8", "-o", "small.png") == 0
    assert pixels("small.png") == codec.preview("alpha.sdt").tobytes()
    assert main("decode", "colour.sdt", "--partial", "-o", "all.png") == 0
    assert pixels("all.png") == codec.decode(Path("colour.sdt")).tobytes()
    assert "missing" not in capsys.readouterr().err


def test_damaged_files_in_the_shell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("decode", "cut.sdt") == 1
    capsys.readouterr()
    assert main("decode", "--partial", "cut.sdt", "--json") == 0
    printed = capsys.readouterr()
    told = "tiles: 0 of 1 missing, 1 incomplete"
    assert f"sdtrt: cut.sdt: {told}" in printed.err
    assert json.loads(printed.out)[0]["warnings"] == [told]
    assert len(pixels("cut.png")) == 160 * 120 * 3
    Path("head.sdt").write_bytes(Path("cut.sdt").read_bytes()[:9])
    assert main("decode", "--partial", "head.sdt") == 1
    assert "head.sdt: truncated file" in capsys.readouterr().err


def test_roi_in_the_shell(folder: Path, codec: sdtrt.Codec) -> None:
    for words, expected in (
        (["70x40+20+10"], {"roi": (20, 10, 70, 40)}),
        (["mask.png"], {"roi": (20, 10, 70, 40)}),
        (["70x40+20+10", "--roi-weight=16"], {"roi": (20, 10, 70, 40), "roi_weight": 16}),
        (["mask.png", "--roi-weight", "2.5"], {"roi": (20, 10, 70, 40), "roi_weight": 2.5}),
    ):
        assert main("encode", "photo.png", "--roi", *words, "-f") == 0
        assert Path("photo.sdt").read_bytes() == codec.encode("photo.png", **expected)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("decode", "colour.sdt", "--region", "10x10"), 2, "such as 800x600+1200+400"),
        (("decode", "colour.sdt", "--region", "10x10+1-1"), 2, "such as 800x600+1200+400"),
        (("decode", "colour.sdt", "--region", "40x10+20+0"), 1, "not within the image, which is 45x37"),
        (("decode", "colour.sdt", "--region", "0x10+0+0"), 1, "not within the image, which is 45x37"),
        (("decode", "colour.sdt", "--preview", "half"), 2, "'half', expected 1 to 1024"),
        (("decode", "colour.sdt", "--preview", "0"), 2, "expected 1 to 1024"),
        (("decode", "colour.sdt", "--preview=-8"), 2, "'-8', expected 1 to 1024"),
        (("decode", "colour.sdt", "--preview", "8", "--partial"), 2, "not allowed with"),
        (("decode", "colour.sdt", "--region", "1x1+0+0", "--partial"), 2, "not allowed with"),
        (("decode", "colour.sdt", "--region", "1x1+0+0", "--preview", "8"), 2, "not allowed with"),
        (("decode", "colour.sdt", "--partial", "--denoise", "2"), 1, "is not denoised"),
        (("encode", "photo.png", "--roi", "10x10+1"), 2, "such as 800x600+1200+400"),
        (("encode", "photo.png", "--roi", "10x10+155+0"), 1, "not within the image, which is 160x120"),
        (("encode", "photo.png", "--roi", "10x10+1+1", "--roi-weight", "0"), 2, "expected 1 to 64"),
        (("encode", "photo.png", "--roi", "10x10+1+1", "--roi-weight=100"), 2, "expected 1 to 64"),
        (("encode", "photo.png", "--roi", "absent.png"), 1, "absent.png"),
        (("encode", "photo.png", "--roi", "cut.sdt"), 1, "cut.sdt"),
        (("decode", "colour.sdt", "--to-latents", "--region", "1x1+0+0"), 2, "--partial or --output-quality"),
        (("encode", "photo.npy", "--from-latents", "--roi", "1x1+0+0"), 2, "a part of an image"),
        (("encode", "photo.png", "--method", "palette", "--roi", "1x1+0+0"), 2, "no region of interest"),
        (("encode", "photo.png", "--roi", "absent\nfile.png"), 1, "file.png"),
        (("decode", "colour.sdt", "--preview", "8", "--denoise", "2"), 2, "cannot be used with --denoise"),
    ],
)
def test_commands_wrong_parts_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert main(*arguments) == code
    printed = capsys.readouterr()
    assert words in printed.err.splitlines()[-1]
    assert not printed.out
    assert sorted(path.name for path in folder.iterdir()) == before


def test_info_tells_the_looks_beside_a_residual(
    tmp_path: Path, photo: Photo, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = photo(60, 48)
    pixels[8:40:5, 6:50] = 255
    lines = {}
    for quality in (30, 57, 80):
        path = tmp_path / f"{quality}.sdt"
        path.write_bytes(sdtrt.encode(pixels, quality=quality))
        assert main("info", str(path)) == 0
        lines[quality] = [line.strip() for line in capsys.readouterr().out.splitlines() if "look " in line]
        assert sdtrt.info(path).allows_fast == (quality < 65)
    assert lines == {30: [], 57: [], 80: ["look fast: has no effect, since the residual needs the faithful decoder"]}


def test_info_tells_where_bytes_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one file in a table, of several not: a line each."""
    assert main("info", "alpha.sdt") == 0
    first, *table = capsys.readouterr().out.splitlines()
    assert first.startswith("alpha.sdt: 45x37, 4 channels")
    spent = {name: int(count.replace(",", "")) for name, count, *_ in map(str.split, table)}
    assert spent == {name: n for name, n in sdtrt.info("alpha.sdt").bytes_by_section.items() if n}
    assert sum(spent.values()) == Path("alpha.sdt").stat().st_size
    assert sum(float(line.split()[3].rstrip("%")) for line in table) == pytest.approx(100, abs=0.2)
    assert main("info", "alpha.sdt", "grey.sdt") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main("info", "alpha.sdt", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["bytes_by_section"] == sdtrt.info("alpha.sdt").bytes_by_section


def test_info_of_tiles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (Path(__file__).parents[1] / "vectors" / "tiny_tiles_alpha" / "input.sdt").read_bytes()
    Path("tiles.sdt").write_bytes(data)
    assert main("info", "tiles.sdt") == 0
    _, tiles, *table = capsys.readouterr().out.splitlines()
    assert tiles.strip() == "tiles: 2 across, 1 down"
    found = [line.strip()[:7].strip() for line in table]
    assert found == ["level 1", "level 2", "level 3", "level 4", "alpha", "head"]
