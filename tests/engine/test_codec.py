"""Round trips of images through `Codec`: sizes, quality, modes and reproducible bytes."""

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
def test_encode_decode_round_trip_of_any_size(codec: sdtrt.Codec, photo: Photo, width: int, height: int) -> None:
    pixels = photo(width, height)
    data = codec.encode(pixels, quality=80)
    image = codec.decode(data)
    assert (image.size, image.mode) == ((width, height), "RGB")
    assert psnr(np.asarray(image), pixels) > 28
    info = sdtrt.info(data)
    assert (info.width, info.height, info.channels, info.nbytes) == (width, height, 3, len(data))
    assert info.latent_shape == (40, -(-height // 8), -(-width // 8))
    assert abs(info.quality - 80) < 0.1


def test_encode_higher_quality_grows_file_and_psnr(codec: sdtrt.Codec, astronaut: np.ndarray) -> None:
    """File size and PSNR rise strictly with quality."""
    pixels = astronaut[:384, :384]
    sizes, psnrs = [], []
    for quality in (1, 25, 50, 75, 100):
        data = codec.encode(pixels, quality=quality)
        sizes.append(len(data))
        psnrs.append(psnr(np.asarray(codec.decode(data)), pixels))
    assert sizes == sorted(set(sizes))
    assert psnrs == sorted(set(psnrs))
    assert psnrs[-1] > 30
    assert sizes[0] < 384 * 384 / 40


def test_encode_adds_at_most_16_bytes_to_the_stream(codec: sdtrt.Codec, photo: Photo) -> None:
    data = codec.encode(photo(512, 512))
    assert len(data) - len(container.read(data).segments[0]) <= 16


def test_encode_grey_image_decodes_to_grey(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = np.ascontiguousarray(photo(61, 43)[:, :, 1])
    for image in (pixels, Image.fromarray(pixels)):
        decoded = codec.decode(codec.encode(image, quality=80))
        assert (decoded.mode, decoded.size) == ("L", (61, 43))
        assert psnr(np.asarray(decoded), pixels) > 28


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_encode_alpha_is_lossless(codec: sdtrt.Codec, photo: Photo, mode: str) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (43, 61)).astype(np.uint8)
    image = Image.fromarray(photo(61, 43)).convert(mode.removesuffix("A") if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(alpha))
    data = codec.encode(image)
    decoded = codec.decode(data)
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded.getchannel("A")), alpha)
    assert sdtrt.info(data).channels == len(mode)


def test_encode_opaque_alpha_is_dropped(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(40, 30)
    opaque = np.dstack([pixels, np.full((30, 40), 255, np.uint8)])
    assert codec.encode(opaque) == codec.encode(pixels)


def test_encode_and_decode_give_the_same_bytes_each_time(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(200, 150)
    data = codec.encode(pixels)
    assert codec.encode(pixels) == data
    with sdtrt.Codec.open(threads=1) as other:
        assert other.encode(pixels) == data
        assert other.decode(data).tobytes() == codec.decode(data).tobytes()


def test_encode_bytes_do_not_depend_on_the_number_of_threads(codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(333, 222)
    data = codec.encode(pixels)
    with sdtrt.Codec.open(threads=2) as other:
        assert other.encode(pixels) == data
        pixels_of_other = np.asarray(other.decode(data))
    # Pixels are rounded floats, so they may differ by one level. Symbols may not differ.
    assert abs(pixels_of_other.astype(int) - np.asarray(codec.decode(data))).max() <= 1


def test_codec_is_safe_in_several_threads(photo: Photo) -> None:
    originals = [photo(50 + 8 * n, 40) for n in range(4)]
    with sdtrt.Codec.open(threads=1) as codec:
        with ThreadPoolExecutor(4) as pool:
            files = list(pool.map(codec.encode, originals * 3))
            images = list(pool.map(codec.decode, files))
        assert files == [codec.encode(image) for image in originals] * 3
        assert [image.tobytes() for image in images] == [codec.decode(data).tobytes() for data in files]


def test_warm_loads_encoder_and_decoder() -> None:
    with sdtrt.Codec.open("tiny") as codec:
        codec.warm(40, 24)
        assert set(codec._engine_codec.pipeline._networks.names) == {"encoder.onnx", "decoder.onnx"}


def test_batches_equal_single_calls_and_errors_name_the_item(codec: sdtrt.Codec, photo: Photo) -> None:
    originals = [photo(20, 30), photo(9, 9)]
    files = codec.encode_batch(originals, quality=70)
    assert files == [codec.encode(image, quality=70) for image in originals]
    assert [image.size for image in codec.decode_batch(files)] == [(20, 30), (9, 9)]
    with pytest.raises(sdtrt.FormatError) as caught:
        codec.decode_batch([files[0], files[1][:-1], files[0]])
    assert caught.value.__notes__ == ["number 1 of the batch, from 0"]


def test_encode_batch_error_notes_number_and_path(codec: sdtrt.Codec, photo: Photo, tmp_path: Path) -> None:
    for image, note in (
        (tmp_path / "caf\udce9.png", f": {tmp_path}/caf\\xe9.png"),
        (np.zeros((0, 3, 3), np.uint8), ""),
    ):
        with pytest.raises((OSError, ValueError)) as caught:
            codec.encode_batch([photo(9, 9), image])
        assert caught.value.__notes__ == [f"number 1 of the batch, from 0{note}"]


def test_encode_gradient_image_is_small_and_accurate(codec: sdtrt.Codec) -> None:
    """Symbols of the coarsest channels relative to 0 took 212 bytes for 38.8 dB, or 158 bytes for 36.8 dB."""
    brightness = np.add.outer(0.35 * np.arange(256) + 50, 0.2 * np.arange(256))
    pixels = np.stack([brightness, 0.9 * brightness + 10, 0.7 * brightness + 40], axis=2).round().astype(np.uint8)
    data = codec.encode(pixels, quality=35)
    assert len(data) < 180
    assert psnr(pixels, np.asarray(codec.decode(data))) > 38.5


def test_encode_latents_decode_latents_round_trip(codec: sdtrt.Codec, photo: Photo) -> None:
    latents = codec.decode_latents(codec.encode(photo(64, 48), quality=60))
    assert (latents.shape, latents.dtype) == ((40, 6, 8), np.float32)
    data = codec.encode_latents(latents, quality=100)
    assert (sdtrt.info(data).width, sdtrt.info(data).height) == (64, 48)
    decoded = codec.decode_latents(data)
    assert np.square(decoded - latents).mean() < np.square(latents).mean()
    assert codec.decode(data).size == (64, 48)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40, 8), r"shape \(40, 8\)"),
        ((39, 2, 2), r"39 channels"),
        ((2, 40, 2, 2), r"shape \(2, 40, 2, 2\)"),
    ],
)
def test_encode_latents_wrong_shape_raises_value_error(
    codec: sdtrt.Codec, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode_latents(np.zeros(shape, np.float32))


def test_encode_latents_not_finite_raises_value_error(codec: sdtrt.Codec) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode_latents(np.full((40, 2, 2), np.nan, np.float32))


@pytest.mark.parametrize("quality", [0, 101, float("nan")])
def test_encode_quality_out_of_range_raises_value_error(codec: sdtrt.Codec, quality: float) -> None:
    with pytest.raises(ValueError, match="quality"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), quality=quality)


def test_closed_codec_raises_value_error(real_files: dict[str, bytes]) -> None:
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


def test_limits_exceeded_raises_limit_error(codec: sdtrt.Codec, real_files: dict[str, bytes]) -> None:
    tight = sdtrt.Limits(max_pixels=45 * 37 - 1)
    for data in real_files.values():
        for function in (codec.decode, codec.decode_latents, sdtrt.decode, sdtrt.info, sdtrt.verify):
            with pytest.raises(sdtrt.LimitError, match="limit"):
                function(data, limits=tight)


def test_module_functions_equal_codec_and_choose_the_model(
    real_files: dict[str, bytes], photo: Photo, codec: sdtrt.Codec
) -> None:
    assert sdtrt.encode(photo(45, 37), quality=30) == real_files["colour"]
    assert sdtrt.decode(real_files["alpha"]).mode == "RGBA"
    assert sdtrt.decode(real_files["grey"], model="tiny").mode == "L"
    with pytest.raises(sdtrt.BundleError, match="nonesuch"):
        sdtrt.decode(real_files["grey"], model="nonesuch")


def test_decode_unknown_latent_space_raises_bundle_error(codec: sdtrt.Codec, inline_profile: Callable) -> None:
    file = encode_latents_to_file(np.zeros((4, 1, 1), np.float32), 8, 8, inline_profile(4), 2048)
    with pytest.raises(sdtrt.BundleError, match="x-0123abcd"):
        codec.decode(container.write(file))


def test_decode_symbols_needs_no_networks(real_files: dict[str, bytes]) -> None:
    assert decode_symbols(container.read(real_files["colour"])).shape == (40, 5, 6)
