"""Pictures to files and back: sizes, quality, modes, and the same bytes every time."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.engine.coding.latent_file import decode_symbols, encode_latents_to_file
from sdtrt.engine.format import container

Photo = Callable[[int, int], np.ndarray]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.square(one.astype(float) - other).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (517, 389), (768, 512)])
def test_round_trip(codec: sdtrt.Codec, photo: Photo, width: int, height: int) -> None:
    pixels = photo(width, height)
    data = codec.encode(pixels, quality=80)
    image = codec.decode(data)
    assert (image.size, image.mode) == ((width, height), "RGB")
    assert psnr(np.asarray(image), pixels) > 28
    about = sdtrt.info(data)
    assert (about.width, about.height, about.channels, about.nbytes) == (width, height, 3, len(data))
    assert about.latent_shape == (40, -(-height // 8), -(-width // 8))
    assert abs(about.quality - 80) < 0.1


def test_a_photograph(codec: sdtrt.Codec, astronaut: np.ndarray) -> None:
    """More quality is more bytes and a nearer picture, all along the range."""
    pixels = astronaut[:384, :384]
    sizes, nearness = [], []
    for quality in (1, 25, 50, 75, 100):
        data = codec.encode(pixels, quality=quality)
        sizes.append(len(data))
        nearness.append(psnr(np.asarray(codec.decode(data)), pixels))
    assert sizes == sorted(set(sizes))
    assert nearness == sorted(set(nearness))
    assert nearness[-1] > 30
    assert sizes[0] < 384 * 384 / 40


def test_overhead(codec: sdtrt.Codec, photo: Photo) -> None:
    data = codec.encode(photo(512, 512))
    assert len(data) - len(container.read(data).segments[0]) <= 16


def test_grey(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = np.ascontiguousarray(photo(61, 43)[:, :, 1])
    for image in (pixels, Image.fromarray(pixels)):
        decoded = codec.decode(codec.encode(image, quality=80))
        assert (decoded.mode, decoded.size) == ("L", (61, 43))
        assert psnr(np.asarray(decoded), pixels) > 28


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_exact(codec: sdtrt.Codec, photo: Photo, mode: str) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (43, 61)).astype(np.uint8)
    image = Image.fromarray(photo(61, 43)).convert(mode.removesuffix("A") if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(alpha))
    data = codec.encode(image)
    decoded = codec.decode(data)
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded.getchannel("A")), alpha)
    assert sdtrt.info(data).channels == len(mode)


def test_opaque_alpha_is_dropped(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(40, 30)
    opaque = np.dstack([pixels, np.full((30, 40), 255, np.uint8)])
    assert codec.encode(opaque) == codec.encode(pixels)


def test_same_bytes_every_time(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(200, 150)
    data = codec.encode(pixels)
    assert codec.encode(pixels) == data
    with sdtrt.Codec.open(threads=1) as other:
        assert other.encode(pixels) == data
        assert other.decode(data).tobytes() == codec.decode(data).tobytes()


def test_bytes_do_not_hang_on_the_number_of_threads(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(333, 222)
    data = codec.encode(pixels)
    with sdtrt.Codec.open(threads=2) as other:
        assert other.encode(pixels) == data
        again = np.asarray(other.decode(data))
    # Pixels are floats rounded: one level of difference is allowed, symbols have none.
    assert abs(again.astype(int) - np.asarray(codec.decode(data))).max() <= 1


def test_use_from_several_threads(photo: Photo) -> None:
    pictures = [photo(50 + 8 * n, 40) for n in range(4)]
    with sdtrt.Codec.open(threads=1) as codec:
        with ThreadPoolExecutor(4) as pool:
            files = list(pool.map(codec.encode, pictures * 3))
            images = list(pool.map(codec.decode, files))
        assert files == [codec.encode(picture) for picture in pictures] * 3
        assert [image.tobytes() for image in images] == [codec.decode(data).tobytes() for data in files]


def test_warm() -> None:
    with sdtrt.Codec.open("tiny") as codec:
        codec.warm(40, 24)
        assert set(codec._engine_codec.pipeline._networks) == {"encoder.onnx", "decoder.onnx"}


def test_batches(codec: sdtrt.Codec, photo: Photo) -> None:
    pictures = [photo(20, 30), photo(9, 9)]
    files = codec.encode_batch(pictures, quality=70)
    assert files == [codec.encode(picture, quality=70) for picture in pictures]
    assert [image.size for image in codec.decode_batch(files)] == [(20, 30), (9, 9)]
    with pytest.raises(sdtrt.FormatError) as caught:
        codec.decode_batch([files[0], files[1][:-1], files[0]])
    assert caught.value.__notes__ == ["number 1 of the batch, from 0"]


def test_encode_batch_error_notes_number_and_path(codec: sdtrt.Codec, photo: Photo, tmp_path: Path) -> None:
    for bad, note in ((tmp_path / "caf\udce9.png", f": {tmp_path}/caf\\xe9.png"), (np.zeros((0, 3, 3), np.uint8), "")):
        with pytest.raises((OSError, ValueError)) as caught:
            codec.encode_batch([photo(9, 9), bad])
        assert caught.value.__notes__ == [f"number 1 of the batch, from 0{note}"]


def test_a_slope_is_no_staircase(codec: sdtrt.Codec) -> None:
    """When symbols of the coarsest channels counted from 0, this took 212 bytes for 38.8 dB, and 158 for 36.8."""
    brightness = np.add.outer(0.35 * np.arange(256) + 50, 0.2 * np.arange(256))
    pixels = np.stack([brightness, 0.9 * brightness + 10, 0.7 * brightness + 40], axis=2).round().astype(np.uint8)
    data = codec.encode(pixels, quality=35)
    assert len(data) < 180
    assert psnr(pixels, np.asarray(codec.decode(data))) > 38.5


def test_latents(codec: sdtrt.Codec, photo: Photo) -> None:
    latents = codec.decode_latents(codec.encode(photo(64, 48), quality=60))
    assert (latents.shape, latents.dtype) == ((40, 6, 8), np.float32)
    data = codec.encode_latents(latents, quality=100)
    assert (sdtrt.info(data).width, sdtrt.info(data).height) == (64, 48)
    again = codec.decode_latents(data)
    assert np.square(again - latents).mean() < np.square(latents).mean()
    assert codec.decode(data).size == (64, 48)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((40, 8), r"shape \(40, 8\)"),
        ((39, 2, 2), r"39 channels"),
        ((2, 40, 2, 2), r"shape \(2, 40, 2, 2\)"),
    ],
)
def test_latents_of_the_wrong_shape(codec: sdtrt.Codec, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codec.encode_latents(np.zeros(shape, np.float32))


def test_latents_that_are_not_finite(codec: sdtrt.Codec) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode_latents(np.full((40, 2, 2), np.nan, np.float32))


@pytest.mark.parametrize("quality", [0, 101, float("nan")])
def test_quality_outside(codec: sdtrt.Codec, quality: float) -> None:
    with pytest.raises(ValueError, match="quality"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), quality=quality)


def test_a_closed_codec_says_so(real_files: dict[str, bytes]) -> None:
    with sdtrt.Codec.open(threads=1) as codec:
        pass
    pixels = np.zeros((8, 8, 3), np.uint8)
    data = real_files["colour"]
    calls = (
        lambda: codec.encode(pixels),
        lambda: codec.decode(data),
        lambda: codec.encode_batch([pixels]),
        lambda: codec.decode_batch([data]),
        lambda: codec.encode_latents(np.zeros((40, 1, 1), np.float32)),
        lambda: codec.warm(8, 8),
        lambda: codec.decode_latents(data),
    )
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    codec.close()


def test_limits(codec: sdtrt.Codec, real_files: dict[str, bytes]) -> None:
    tight = sdtrt.Limits(max_pixels=45 * 37 - 1)
    for data in real_files.values():
        for function in (codec.decode, codec.decode_latents, sdtrt.decode, sdtrt.info, sdtrt.verify):
            with pytest.raises(sdtrt.LimitError):
                function(data, limits=tight)


def test_module_functions(real_files: dict[str, bytes], photo: Photo, codec: sdtrt.Codec) -> None:
    assert sdtrt.encode(photo(45, 37), quality=30) == real_files["colour"]
    assert sdtrt.decode(real_files["alpha"]).mode == "RGBA"
    assert sdtrt.decode(real_files["grey"], model="tiny").mode == "L"
    with pytest.raises(sdtrt.BundleError, match="nonesuch"):
        sdtrt.decode(real_files["grey"], model="nonesuch")


def test_another_latent_space(codec: sdtrt.Codec, inline_profile: Callable) -> None:
    file = encode_latents_to_file(np.zeros((4, 1, 1), np.float32), 8, 8, inline_profile(4), 2048)
    with pytest.raises(sdtrt.BundleError, match="x-0123abcd"):
        codec.decode(container.write(file))


def test_symbols_are_read_without_networks(real_files: dict[str, bytes]) -> None:
    assert decode_symbols(container.read(real_files["colour"])).shape == (40, 5, 6)
