"""Image files that are damaged, odd or too large, by every way in: errors are `ValueError`, `OSError` or sdtrt's."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from extras import needs
from PIL import Image, TiffImagePlugin

import sdtrt
from sdtrt import cli
from sdtrt.engine.format.container import Limits
from sdtrt.errors import ImageWarning, LimitError, SdtrtError
from sdtrt.images import rows
from sdtrt.images.convert import to_engine_image
from sdtrt.images.opening import cause_of, load, open_any_size, reading, seek
from sdtrt.images.roi import mask_of
from sdtrt.images.rows import rows_of_file
from sdtrt.images.web_formats import image_of_bytes

SMALL = Limits(max_pixels=1 << 14)
FRAMES = {"save_all": True}
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\1\0\0\0\6\0\0\0\x0f\1\2\0\4\0\0\0ACE\0\0\0\0\0"
VALID: dict[str, tuple[str, dict[str, object]]] = {
    "PNG": ("RGB", {"exif": EXIF}),
    "PNG, frames": ("RGB", FRAMES),
    "PNG, palette": ("P", {"transparency": 0}),
    "JPEG": ("RGB", {"exif": EXIF, "comment": b"said", "xmp": b"<x/>", "dpi": (300, 300)}),
    "JPEG, progressive": ("RGB", {"progressive": True}),
    "MPO": ("RGB", FRAMES),
    "GIF": ("P", {"comment": b"said"}),
    "GIF, frames": ("RGB", FRAMES),
    "TIFF": ("RGB", {"exif": EXIF}),
    "TIFF, frames": ("RGB", {**FRAMES, "compression": "tiff_lzw"}),
    "WEBP": ("RGB", {"exif": EXIF, "xmp": b"<x/>"}),
    "WEBP, frames": ("RGB", FRAMES),
    "AVIF": ("RGB", {"exif": EXIF}),
    "BMP": ("RGB", {}),
    "PPM": ("RGB", {}),
    "JPEG2000": ("RGB", {}),
    "ICO": ("RGB", {}),
    "TGA": ("RGB", {"compression": "tga_rle"}),
    "SGI": ("RGB", {}),
    "PCX": ("RGB", {}),
    "DDS": ("RGB", {}),
    "SPIDER": ("F", {}),
    "MSP": ("1", {}),
    "XBM": ("1", {}),
}
MUTATIONS = 60


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8))


def valid_file(name: str) -> bytes:
    mode, options = VALID[name]
    if "save_all" in options:
        options = options | {"append_images": [Image.new("RGB", (20, 12), "red")]}
    stream = io.BytesIO()
    photo().convert(mode).save(stream, name.partition(",")[0], **options)
    return stream.getvalue()


def mutations(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: bytes and words changed, parts removed, doubled and cut off; the same for a seed."""
    random = np.random.default_rng(seed)
    for number in range(MUTATIONS):
        copy = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(0, max(1, min(len(copy), 400 if number % 2 else len(copy)))))
            kind, length = int(random.integers(0, 6)), int(random.integers(1, 9))
            if kind == 0 and copy:
                copy[at] = int(random.integers(0, 256))
            elif kind == 1:
                copy[at : at + 4] = random.bytes(4)
            elif kind == 2:
                copy[at : at + length] = bytes([0, 255][length % 2] for _ in range(length))
            elif kind == 3:
                del copy[at : at + length]
            elif kind == 4:
                copy[at:at] = copy[at : at + length]
            else:
                del copy[at + 1 :]
        yield bytes(copy)


def psd_file() -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 12, 20, 8, 3) + bytes(12) + bytes(2 + 720)


def by_image(data: bytes, folder: Path) -> None:
    to_engine_image(open_any_size(io.BytesIO(data)), limits=SMALL)


def by_path(data: bytes, folder: Path) -> None:
    (folder / "image").write_bytes(data)
    to_engine_image(folder / "image", limits=SMALL)


def by_request(data: bytes, folder: Path) -> None:
    load(image_of_bytes(data), SMALL)


def by_frame(data: bytes, folder: Path) -> None:
    image = open_any_size(io.BytesIO(data))
    seek(image, 1, SMALL)
    to_engine_image(image, limits=SMALL)


def by_mask(data: bytes, folder: Path) -> None:
    mask_of(open_any_size(io.BytesIO(data)), 20, 12)


def by_rows(data: bytes, folder: Path) -> None:
    (folder / "image").write_bytes(data)
    rows_of_file(folder / "image", limits=SMALL)


WAYS = [by_image, by_path, by_request, by_frame, by_mask, by_rows]


@pytest.mark.parametrize("name", [*VALID, "PSD"])
def test_mutated_file_raises_no_other_error(name: str, tmp_path: Path) -> None:
    data = psd_file() if name == "PSD" else valid_file(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_image(data, tmp_path)  # the file is valid before it is damaged
        for number, damaged in enumerate(mutations(data, seed=len(name))):
            try:
                WAYS[number % len(WAYS)](damaged, tmp_path)
            except (ValueError, OSError, SdtrtError):
                continue


ERRORS = [KeyError("ImageWidth"), struct.error("unpack"), TypeError("none"), IndexError(), AssertionError(), EOFError()]


@pytest.mark.parametrize("error", [*ERRORS, OSError("truncated"), RecursionError("deep"), ZeroDivisionError("zero")])
@pytest.mark.parametrize("way", [by_image, by_path, by_request, by_mask])
def test_error_of_a_reader_is_a_damaged_image(
    error: Exception, way: Callable[[bytes, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", stumble)
    with pytest.raises(ValueError, match=r"^damaged image: ") as caught:
        way(valid_file("PNG"), tmp_path)
    assert cause_of(error) in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, PermissionError(13, "denied"), LimitError("large")])
def test_other_errors_pass_through_readers(error: BaseException) -> None:
    with pytest.raises(type(error) if isinstance(error, BaseException) else error), reading():
        raise error


def tiff_with_a_damaged_second_page() -> bytes:
    """Return a TIFF file whose second directory has no width, as in raw files of cameras."""
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    first = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    second = struct.pack("<HHHIII", 1, 258, 3, 1, 8, 0)
    return b"II*\0" + struct.pack("<I", 72) + bytes(range(64)) + first + struct.pack("<I", 76 + len(first)) + second


def test_damaged_page_after_the_one_that_is_taken_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "raw.tif").write_bytes(tiff_with_a_damaged_second_page())
    with pytest.warns(ImageWarning, match="the frames after this one cannot be read"):
        pixels = to_engine_image(tmp_path / "raw.tif").pixels
    assert pixels[:, :, 0].tobytes() == bytes(range(64))


def test_damaged_page_that_is_taken_is_a_value_error() -> None:
    image = open_any_size(io.BytesIO(tiff_with_a_damaged_second_page()))
    with pytest.raises(ValueError, match="damaged image: "):
        seek(image, 1, SMALL)


def test_batch_goes_on_after_a_reader_that_stumbles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.tif").write_bytes(tiff_with_a_damaged_second_page())
    Path("b.png").write_bytes(valid_file("PNG"))
    Path("c.tif").write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 0))
    assert cli.main(["encode", "c.tif", "a.tif", "b.png", "-o", "out/"]) == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.sdt", "b.sdt"]
    assert cli.main(["encode", "a.tif", "b.png", "-f", "--frame", "1", "-o", "out/"]) == 1


@pytest.mark.parametrize("usual", [100, None])
def test_limit_of_pillow_does_not_count(
    usual: int | None, codec: sdtrt.Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", usual)
    (tmp_path / "a.png").write_bytes(valid_file("PNG"))
    (tmp_path / "a.gif").write_bytes(valid_file("GIF, frames"))
    data = codec.encode(tmp_path / "a.png")
    assert sdtrt.encode(tmp_path / "a.png") == sdtrt.encode(str(tmp_path / "a.png")) == data
    assert codec.encode_batch([tmp_path / "a.png"]) == [data]
    for frame in ("0", "1"):
        assert cli.main(["encode", str(tmp_path / "a.gif"), "-f", "--frame", frame]) == 0
    assert usual == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("name", ["PNG", "GIF, frames", "TIFF, frames", "WEBP, frames", "JPEG2000", "MPO"])
def test_image_above_the_limit_is_a_limit_error(name: str, tmp_path: Path, codec: sdtrt.Codec) -> None:
    path, limits = tmp_path / "image", Limits(max_pixels=20 * 12 - 1)
    path.write_bytes(valid_file(name))
    for call in (sdtrt.encode, codec.encode, lambda path, limits: codec.encode_batch([path], limits=limits)):
        with pytest.raises(LimitError, match=r"20x12 pixels; the limit is 239 \(--max-pixels\)"):
            call(path, limits=limits)
    for frame in (0, 1):
        with pytest.raises(LimitError), open_any_size(path) as image:
            seek(image, frame, limits)


def test_image_above_the_limit_fails_alone_in_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(valid_file("PNG"))
    Image.new("L", (5, 5)).save("b.png")
    assert cli.main(["encode", "a.png", "b.png", "--max-pixels", "100", "-o", "out/"]) == 1
    assert "a.png: the image has 20x12 pixels; the limit is 100" in capsys.readouterr().err
    assert Path("out/b.sdt").exists()


def test_image_far_above_the_limit_of_pillow_is_a_limit_error(tmp_path: Path) -> None:
    data = bytearray(valid_file("PNG"))
    data[16:24] = struct.pack(">II", 50000, 50000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "vast.png").write_bytes(data)
    with pytest.raises(LimitError, match="50000x50000 pixels"):
        sdtrt.encode(tmp_path / "vast.png")


def test_limit_of_pillow_is_back_after_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "a.png").write_bytes(valid_file("PNG"))
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(30):
                to_engine_image(tmp_path / "a.png", limits=SMALL)
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert Image.MAX_IMAGE_PIXELS == 10


def test_rows_know_no_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("large")
    monkeypatch.setattr(rows, "LARGE", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    photo().save(tmp_path / "a.png")
    assert rows_of_file(tmp_path / "a.png", limits=SMALL)
    with pytest.raises(LimitError):
        rows_of_file(tmp_path / "a.png", limits=Limits(max_pixels=239))


def test_to_engine_image_tiff_without_tags_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was pickled has neither its file nor its tags."""
    image = Image.open(io.BytesIO(valid_file("TIFF")))
    image.load()
    for name in ("tag_v2", "fp"):
        monkeypatch.delattr(image, name, raising=False)
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    assert to_engine_image(image).pixels.shape == (20, 12, 3)
