"""Python, the command line, Pillow, HTTP and datasets make the same files and pixels, and keep the same limits."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.dataset.shard_worker import sample_call
from sdtrt.dataset.shards import Task
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.serve.codec_calls import CodecCalls

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture
def folder(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray(photo(45, 37)).save("images/a.png")
    return tmp_path


def files_of(source: Path, options: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that all entry points make of an image."""
    made = {"sdtrt.encode": sdtrt.encode(source, **options)}
    with sdtrt.Codec.open() as codec:
        made["Codec.encode"] = codec.encode(source, **options)
        made["encode_batch"], again = codec.encode_batch([source, str(source)], **options)
    assert made["encode_batch"] == again
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["encode", str(source), "-o", "shell.sdt", "--quiet", *words]) == 0
    made["shell"] = Path("shell.sdt").read_bytes()
    made["dataset"] = sample_call(Task(operation="encode", source="", options=options))[0](source.read_bytes())[0]
    with Image.open(source) as image:
        image.save("pillow.sdt", **options)
    made["pillow"] = Path("pillow.sdt").read_bytes()
    told = tuple(options.items())
    [made["http"]] = CodecCalls(EngineCodec("tiny"), DEFAULT_LIMITS).encode(told, [source.read_bytes()])
    return made


@pytest.mark.parametrize("options", [{}, {"quality": 70, "effort": 2}, {"max_bytes": 400, "layers": 1}], ids=str)
def test_all_entry_points_make_the_same_file(folder: Path, options: dict[str, Any]) -> None:
    made = files_of(folder / "images" / "a.png", options)
    assert len(made) == 7
    assert {name: data == made["sdtrt.encode"] for name, data in made.items()} == dict.fromkeys(made, True)


def test_all_entry_points_show_the_same_pixels(folder: Path, codec: sdtrt.Codec) -> None:
    data = codec.encode(folder / "images" / "a.png", quality=80)
    (folder / "files").mkdir()
    path = folder / "files" / "a.sdt"
    path.write_bytes(data)
    found: dict[str, Any] = {"sdtrt.decode": sdtrt.decode(path)}
    with sdtrt.Codec.open() as opened:
        found["Codec.decode"] = opened.decode(path)
        [found["decode_batch"]] = opened.decode_batch([path])
        [found["region"]] = opened.decode_batch([path], region=(0, 0, 45, 37))
        [found["partial"]] = opened.decode_batch([path], partial=True)
        found["decode_rows"] = np.concatenate([*opened.decode_rows(path)])
    assert cli.main(["decode", str(path), "-o", "shell.png", "--quiet"]) == 0
    [answer] = CodecCalls(EngineCodec("tiny"), DEFAULT_LIMITS).decode((("image/png",), ()), [data])
    [of_dataset, _] = sample_call(Task(operation="decode", source=""))[0](data)
    pictures = {"shell": Path("shell.png").read_bytes(), "dataset": of_dataset, "http": answer.data}
    found |= {name: Image.open(io.BytesIO(picture)) for name, picture in pictures.items()}
    found["pillow"] = Image.open(path)
    expected = np.asarray(found.pop("sdtrt.decode"))
    for name, image in found.items():
        np.testing.assert_array_equal(np.asarray(image), expected, name)


def test_all_entry_points_have_the_same_limit(folder: Path, codec: sdtrt.Codec, capfd: Any) -> None:
    """Whatever Pillow's own limit is: the one that is given counts, and is what the error tells."""
    source, tight = folder / "images" / "a.png", sdtrt.Limits(max_pixels=45 * 37 - 1)
    for limits, pillow in ((tight, None), (tight, 10)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
            for call, one in ((sdtrt.encode, source), (codec.encode, source), (codec.encode_batch, [source])):
                with pytest.raises(sdtrt.LimitError, match=r"45x37 pixels; the limit is 1664"):
                    call(one, limits=limits)
            assert cli.main(["encode", str(source), "-o", "x.sdt", "--max-pixels", "1664"]) == 1
            assert "45x37 pixels; the limit is 1664" in capfd.readouterr().err
            [answer] = CodecCalls(EngineCodec("tiny"), limits).encode((), [source.read_bytes()])
            assert isinstance(answer, sdtrt.LimitError)
    data = codec.encode(source)
    for decode in (sdtrt.decode, codec.decode, lambda one, limits: codec.decode_batch([one], limits=limits)):
        with pytest.raises(sdtrt.LimitError, match="1665 pixels, the limit is 1664"):
            decode(data, limits=tight)


@pytest.mark.parametrize("pillow", [1, 100, 45 * 37 - 1, None])
def test_larger_limits_lift_the_one_of_pillow(
    folder: Path, codec: sdtrt.Codec, monkeypatch: pytest.MonkeyPatch, pillow: int | None
) -> None:
    """For images and for masks; Pillow's limit is as before afterwards."""
    source, mask = folder / "images" / "a.png", np.full((37, 45), 255, np.uint8)
    Image.fromarray(mask).save("mask.png")
    expected = codec.encode(source, roi=mask)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
    assert codec.encode(source, roi="mask.png", limits=sdtrt.Limits(max_pixels=10**9)) == expected
    assert pillow == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("roi", [(4, 5, 20, 16), "mask"])
def test_batch_with_a_region_is_each_alone(codec: sdtrt.Codec, photo: Photo, real_files: Any, roi: Any) -> None:
    if roi == "mask":
        roi = np.zeros((37, 45), np.uint8)
        roi[10:20, 5:40] = 200
    images = [photo(45, 37), photo(45, 37)[::-1].copy()]
    expected = [codec.encode(image, roi=roi, roi_weight=9) for image in images]
    assert codec.encode_batch(images, roi=roi, roi_weight=9) == expected
    assert expected[0] != codec.encode(images[0])
    region = (4, 5, 20, 16)
    assert codec.decode_batch(expected, region=region) == [codec.decode(data, region=region) for data in expected]
    cut = [real_files[name][:-30] for name in ("layers", "alpha")]
    with pytest.warns(sdtrt.ImageWarning):
        found = codec.decode_batch(cut, partial=True)
    with pytest.warns(sdtrt.ImageWarning):
        assert found == [codec.decode(data, partial=True) for data in cut]
