"""Every public function refuses wrong arguments in words: which argument, its value, and what is expected."""

import inspect
import io
import mmap
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.engine.image import checked_region

NUMBERS = ("many", None, True, np.bool_(True), 2 + 1j, [3], np.array([3.0]))
INTEGERS = (*NUMBERS, 2.5, 5.0, np.float32(5), float("nan"), float("inf"))
TEXTS = (5, b"auto", True, ["auto"], "", "no such")
TRUTHS = ("no", 0, 1, None, [])
REGIONS = (
    (1, 2, 3),
    (1, 2, 3, 4, 5),
    5,
    "8x8+0+0",
    None,
    (0, 0, 8.5, 8),
    (0, 0, True, 8),
    (0, 0, "8", 8),
    [[0, 0, 8, 8]],
)
# Of each argument: values that are wrong for every function that has it. What an argument may also be left out of
# (None) is added below from its default.
WRONG: dict[str, tuple[object, ...]] = {
    "quality": (*NUMBERS, 0, 100.5, -3, float("nan"), float("inf")),
    "max_bytes": (*INTEGERS, 0, -1),
    "bpp": (*NUMBERS, 0, -1, float("nan"), float("inf")),
    "target_psnr": (*NUMBERS, 0, -1, float("nan"), float("inf")),
    "effort": (*INTEGERS, 0, 10),
    "method": TEXTS,
    "layers": (*INTEGERS, 0, 3),
    "roi": (*(region for region in REGIONS if region != "8x8+0+0"), np.zeros((3, 3), np.uint8), np.zeros((37, 45))),
    "roi_weight": (*NUMBERS, 0.5, 65, float("nan")),
    "strip": TRUTHS,
    "limits": (5, None, "large", 1e9),
    "region": (*REGIONS, (0, 0, 46, 1), (-1, 0, 3, 3), (0, 0, 0, 3)),
    "partial": TRUTHS,
    "denoise": ("2", "on", None, True, 2.0, -1, 1001, float("nan")),
    "look": TEXTS,
    "scale": (*INTEGERS, 0, 1025),
    "width": (*INTEGERS, 0, 1 << 25),
    "height": (*INTEGERS, 0, 1 << 25),
    "grey": TRUTHS,
    "metadata": (5, None, {"exif": b""}),
    "model": (5, b"tiny", True, ""),
    "device": TEXTS,
    "backend": TEXTS,
    "precision": TEXTS,
    "threads": (*INTEGERS, 0, -1, 1 << 20),
    "tile": (*INTEGERS, -1),
    "overlap": (*INTEGERS, -1),
    "report": (5, "progress"),
    "source": (5, None, [b"SDT"], object()),
    "image": (5, None, [[1]], object()),
    "images": (5, None, "photo.png", b"image", [5], [None]),
    "files": (5, None, "photo.sdt", b"SDT", bytearray(3), [5], [None]),
    "rows": (5, None, "rows", [5], [[1, 2]]),
    "key": (5, b"latents", True, ["latents"]),
    "max_pixels": (*INTEGERS, -1),
    "max_payload_nbytes": (*INTEGERS, -1),
    "max_chunk_nbytes": (*INTEGERS, -1),
}
FUNCTIONS = (
    "sdtrt.encode",
    "sdtrt.decode",
    "sdtrt.preview",
    "sdtrt.info",
    "sdtrt.verify",
    "sdtrt.Limits",
    "sdtrt.Codec.open",
    "codec.encode",
    "codec.decode",
    "codec.preview",
    "codec.decode_rows",
    "codec.encode_rows",
    "codec.encode_batch",
    "codec.decode_batch",
    "codec.decode_into",
    "codec.encode_latents",
    "codec.decode_latents",
    "codec.warm",
)
# Arrays and streams of a device are for tests on one; latents have tests of their own.
ELSEWHERE = {"array", "stream", "latents"}


def function_of(name: str, codec: sdtrt.Codec) -> Callable[..., Any]:
    owner, _, rest = name.partition(".")
    found: Any = codec if owner == "codec" else sdtrt
    for part in rest.split("."):
        found = getattr(found, part)
    return found


@pytest.fixture(scope="module")
def rightful(real_files: dict[str, bytes], codec: sdtrt.Codec) -> dict[str, Any]:
    """A rightful value of each argument that has no default."""
    pixels = np.zeros((37, 45, 3), np.uint8)
    return {
        "image": pixels,
        "images": [pixels],
        "source": real_files["colour"],
        "files": [real_files["colour"]],
        "rows": [pixels],
        "width": 45,
        "height": 37,
        "latents": np.zeros((40, 5, 6), np.float32),
        "array": None,
        "stream": None,
    }


def cases() -> list[tuple[str, str]]:
    found = []
    with sdtrt.Codec.open() as codec:
        for name in FUNCTIONS:
            found += [(name, argument) for argument in inspect.signature(function_of(name, codec)).parameters]
    return [(name, argument) for name, argument in found if argument not in ELSEWHERE]


@pytest.mark.parametrize(("name", "argument"), cases())
def test_wrong_argument_is_refused_in_words(
    codec: sdtrt.Codec, rightful: dict[str, Any], name: str, argument: str
) -> None:
    function = function_of(name, codec)
    parameters = inspect.signature(function).parameters
    usual = {key: rightful[key] for key, one in parameters.items() if one.default is inspect.Parameter.empty}
    values = [value for value in WRONG[argument] if value is not parameters[argument].default]
    assert len(values) > 1
    for value in values:
        with pytest.raises((TypeError, ValueError)) as raised:
            function(**usual | {argument: value})
        require_words(str(raised.value), argument, value)


def require_words(message: str, argument: str, value: object) -> None:
    """A message names the argument and, if it is not too long, its value, and says what is expected."""
    shown = repr(value[0] if argument in {"images", "files", "rows"} and isinstance(value, list) else value)
    number = f"{value:g}" if isinstance(value, int | float) else shown
    if isinstance(value, tuple) and "not within the image" in message:
        left, top, width, height = value
        shown = f"{width}x{height}+{left}+{top}"  # as in the shell
    one = argument.removesuffix("s")
    assert re.search(rf"\b({argument}|{one})\b", message), message
    assert shown in message or number in message or f"{getattr(value, 'shape', shown)}" in message, message
    assert re.search(r"expected|not within the image", message), message
    assert "\n" not in message


def test_every_public_function_is_in_the_table(codec: sdtrt.Codec) -> None:
    named = {name.rpartition(".")[2] for name in FUNCTIONS}
    methods = {name for name in dir(sdtrt.Codec) if not name.startswith("_")} - {"close"}
    functions = {name for name in sdtrt.__all__ if inspect.isfunction(getattr(sdtrt, name))}
    assert methods | functions <= named


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("quality", np.float32(40)),
        ("quality", np.int64(40)),
        ("effort", np.int32(3)),
        ("layers", np.uint8(1)),
        ("max_bytes", np.int64(900)),
        ("roi", np.array([3, 4, 20, 20])),
        ("roi", [np.int16(3), 4, np.uint8(20), 20]),
        ("roi_weight", np.int64(4)),
    ],
)
def test_numbers_of_numpy_are_numbers(codec: sdtrt.Codec, photo: Callable[..., Any], argument: str, value: Any) -> None:
    plain = tuple(map(int, value)) if argument == "roi" else value.item()
    weight = {"roi": (3, 4, 20, 20)} if argument == "roi_weight" else {}
    pixels = photo(45, 37)
    assert codec.encode(pixels, **{argument: value}, **weight) == codec.encode(pixels, **{argument: plain}, **weight)


@pytest.mark.parametrize("region", [(3, 4, 20, 21), [3, 4, 20, 21], np.array([3, 4, 20, 21]), (np.int64(3), 4, 20, 21)])
def test_checked_region_gives_plain_numbers(region: Any) -> None:
    found = checked_region(region, 40, 40)
    assert found == (3, 4, 20, 21)
    assert {type(number) for number in found} == {int}


@pytest.mark.parametrize("name", ["codec.decode", "codec.decode_rows", "codec.decode_batch", "codec.decode_into"])
def test_a_path_is_a_source_everywhere(
    codec: sdtrt.Codec, real_files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    """And one to a file that is missing, or that is no .sdt file, is told at the call."""
    path, other = tmp_path / "a.sdt", tmp_path / "b.sdt"
    path.write_bytes(real_files["colour"])
    other.write_bytes(b"no such file")
    call, batch = function_of(name, codec), name.endswith("batch")
    more = {"array": None, "stream": None} if name.endswith("into") else {}
    for source in (path, str(path), io.BytesIO(path.read_bytes()), memoryview(path.read_bytes())):
        if name.endswith("into"):
            with pytest.raises(sdtrt.DeviceError, match="needs a GPU"):
                call(source, **more)
        else:
            assert call([source] if batch else source) is not None
    for source, kind in ((tmp_path / "missing.sdt", FileNotFoundError), (other, sdtrt.FormatError)):
        with pytest.raises(kind):
            call([source] if batch else source, **more)


@pytest.mark.parametrize("options", [{}, {"region": (1, 2, 8, 8)}, {"partial": True}])
def test_decode_batch_names_the_item(
    codec: sdtrt.Codec, real_files: dict[str, bytes], tmp_path: Path, options: dict[str, Any]
) -> None:
    good = real_files["colour"]
    with pytest.raises(TypeError, match=r"files\[2\]: source is 5 \(int\), expected bytes, a path"):
        codec.decode_batch([good, good, 5, good], **options)
    for bad, kind in ((b"not a file", sdtrt.FormatError), (tmp_path / "missing.sdt", FileNotFoundError)):
        with pytest.raises(kind) as raised:
            codec.decode_batch([good, bad], **options)
        path = f": {bad}" if isinstance(bad, Path) else ""
        assert raised.value.__notes__ == [f"number 1 of the batch, from 0{path}"]


def test_encode_batch_names_the_item(codec: sdtrt.Codec, photo: Callable[..., Any], tmp_path: Path) -> None:
    good = photo(45, 37)
    with pytest.raises(TypeError, match=r"images\[1\]: image is None \(NoneType\), expected a Pillow image"):
        codec.encode_batch([good, None])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError) as raised:
        codec.encode_batch([good, good, tmp_path / "missing.png"])
    assert raised.value.__notes__ == [f"number 2 of the batch, from 0: {tmp_path / 'missing.png'}"]
    with pytest.raises(ValueError, match="not within the image, which is 20x20") as outside:
        codec.encode_batch([good, photo(20, 20)], roi=(20, 20, 20, 17))
    assert outside.value.__notes__ == ["number 1 of the batch, from 0"]


@pytest.mark.parametrize("name", ["decode_rows", "encode_rows", "encode_batch", "decode_batch"])
def test_errors_are_raised_at_the_call(codec: sdtrt.Codec, real_files: dict[str, bytes], name: str) -> None:
    """None of these waits for the first item: the codec is closed, an option is wrong, there is nothing to do."""
    closed = sdtrt.Codec.open()
    closed.close()
    arguments: dict[str, tuple[Any, ...]] = {"decode_rows": (real_files["colour"],), "encode_rows": ([], 8, 8)}
    with pytest.raises(ValueError, match="closed"):
        getattr(closed, name)(*arguments.get(name, ([],)))
    option = {"effort": 0} if name.startswith("encode") else {"look": "pretty"}
    with pytest.raises(ValueError, match="expected"):
        getattr(codec, name)(*arguments.get(name, ([],)), **option)


def test_decode_rows_notices_limits_at_the_call_and_closes_its_file(
    codec: sdtrt.Codec, real_files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.sdt"
    path.write_bytes(real_files["colour"])
    with pytest.raises(sdtrt.LimitError):
        codec.decode_rows(path, limits=sdtrt.Limits(max_pixels=10))
    rows = codec.decode_rows(path)
    del rows  # never begun: a file that is left open would be a ResourceWarning, which fails the test
    begun = codec.decode_rows(path)
    assert next(begun).shape[1:] == (45, 3)
    begun.close()  # type: ignore[attr-defined]
    assert list(begun) == []
    assert sum(len(band) for band in codec.decode_rows(path)) == 37


def test_palette_with_a_region_is_refused_before_any_network_runs(
    codec: sdtrt.Codec, photo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(codec._opened()), "analyse", lambda *_: pytest.fail("a network has run"))
    monkeypatch.setattr(type(codec._opened().pipeline), "analyse", lambda *_: pytest.fail("a network has run"))
    for call, images in ((codec.encode, photo(45, 37)), (codec.encode_batch, [photo(45, 37)])):
        with pytest.raises(ValueError, match="method is 'palette', which has no region of interest"):
            call(images, method="palette", roi=(0, 0, 8, 8))


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


VAST = 10**5000  # Python refuses to write out so many digits


ODD_NUMBERS = {
    "large": 10**400,
    "vast": VAST,
    "vast below 0": -VAST,
    "vast fraction": Fraction(VAST),
    "decimal": Decimal(5),
    "array of one": np.array(5),
    "without a text": Unshowable(),
}


@pytest.mark.parametrize("name", ODD_NUMBERS)
@pytest.mark.parametrize("argument", ["quality", "bpp", "target_psnr", "effort", "roi_weight"])
def test_odd_numbers_are_refused_in_words(codec: sdtrt.Codec, argument: str, name: str) -> None:
    value = ODD_NUMBERS[name]
    with pytest.raises((TypeError, ValueError), match=rf"^{argument} is .*, expected a") as raised:
        codec.encode(np.zeros((8, 8, 3), np.uint8), **{argument: value})
    assert isinstance(raised.value, ValueError) or not isinstance(value, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda codec, data: codec.preview(data, scale=VAST), "scale is above 1e60, expected a whole number from 1"),
        (lambda codec, data: codec.preview(data, scale=-VAST), "scale is below -1e60, expected"),
        (lambda codec, data: codec.decode(data, region=(0, 0, VAST, 4)), "region above 1e60x4.*not within the image"),
        (lambda codec, data: codec.warm(VAST, 8), "width is above 1e60, expected"),
        (lambda codec, data: codec.encode_latents(codec.decode_latents(data), width=VAST), "width above 1e60 for"),
    ],
)
def test_vast_integers_are_refused_in_words(
    codec: sdtrt.Codec, real_files: dict[str, bytes], call: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(codec, real_files["colour"])


READERS = ("sdtrt.decode", "sdtrt.preview", "sdtrt.info", "sdtrt.verify", "codec.decode", "codec.decode_rows")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        ("closed", ValueError, "source is a closed file, .*open it again"),
        ("memory", ValueError, "source is a closed file"),
        ("r", TypeError, "source is a stream of text, expected bytes; open the file in mode 'rb'"),
        ("r+", TypeError, "source is a stream of text"),
        ("wb", ValueError, "source is a file that is open for writing only"),
    ],
)
def test_stream_that_gives_no_bytes_is_refused_in_words(
    codec: sdtrt.Codec,
    real_files: dict[str, bytes],
    tmp_path: Path,
    name: str,
    mode: str,
    kind: type[Exception],
    message: str,
) -> None:
    path = tmp_path / "a.sdt"
    path.write_bytes(real_files["colour"])
    stream: Any = io.BytesIO(real_files["colour"])
    if mode != "memory":
        stream = path.open("rb" if mode == "closed" else mode)
    with stream:
        if mode in {"closed", "memory"}:
            stream.close()
        with pytest.raises(kind, match=message):
            function_of(name, codec)(stream)


class PathAs:
    """A path-like object that gives its path as it was made with."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


def test_path_like_object_of_bytes_is_a_path(
    codec: sdtrt.Codec, real_files: dict[str, bytes], photo: Callable[..., Any], tmp_path: Path
) -> None:
    pixels, latents = photo(16, 16), codec.decode_latents(real_files["colour"])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", latents)
    (tmp_path / "a.sdt").write_bytes(real_files["colour"])
    png, npy, sdt = (PathAs(os.fsencode(tmp_path / name)) for name in ("a.png", "a.npy", "a.sdt"))
    assert codec.encode(png) == codec.encode(tmp_path / "a.png")
    assert codec.encode_latents(npy) == codec.encode_latents(latents)
    assert codec.decode(sdt).tobytes() == codec.decode(real_files["colour"]).tobytes()
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'a.png'))}: not a file of latents"):
        codec.encode_latents(png)


@pytest.mark.parametrize("name", ["codec.encode", "codec.decode", "codec.encode_latents"])
def test_path_like_object_without_a_path_is_a_wrong_type(codec: sdtrt.Codec, name: str) -> None:
    with pytest.raises(TypeError, match="__fspath__"):
        function_of(name, codec)(PathAs(5))


def test_streams_inside_archives_and_maps_are_sources(codec: sdtrt.Codec, real_files: dict[str, bytes]) -> None:
    data, region = real_files["colour"], (0, 0, 8, 8)
    expected = codec.decode(data, region=region).tobytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.sdt", data)
    with zipfile.ZipFile(packed) as archive, archive.open("a.sdt") as member:
        assert codec.decode(member, region=region).tobytes() == expected
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as archive:
        about = tarfile.TarInfo("a.sdt")
        about.size = len(data)
        archive.addfile(about, io.BytesIO(data))
    for mode in ("r:", "r|"):  # the second cannot seek back
        tape.seek(0)
        with tarfile.open(fileobj=tape, mode=mode) as archive:
            assert codec.decode(archive.extractfile(archive.next()), region=region).tobytes() == expected
    with mmap.mmap(-1, len(data)) as mapped:
        mapped[:] = data
        assert codec.decode(mapped, region=region).tobytes() == expected
    with short_reads(data) as stream:
        batch = codec.decode_batch([stream, stream])
        assert [image.tobytes() for image in batch] == [codec.decode(data).tobytes()] * 2


def short_reads(data: bytes) -> io.BytesIO:
    class Short(io.BytesIO):
        """A stream that gives fewer bytes than it is asked for, as pipes do."""

        def read(self, nbytes: int | None = -1) -> bytes:
            return super().read(nbytes if nbytes is None or nbytes < 0 else min(nbytes, 10))

    return Short(data)
