"""Efforts 6 to 9: the search for symbols with the gradient of the decoder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import TileCodingOptions, encode_latents_to_file
from sdtrt.engine.coding.rdoq_search import sums_around
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.format import container
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.gradient_search import ITERATIONS_BY_EFFORT, _best_moves
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.networks.bundle import MANIFEST, find_bundle
from sdtrt.errors import BundleError

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def codec() -> EngineCodec:
    return EngineCodec("tiny", threads=1)


def copy_codec(folder: Path, damage: Callable[[bytes], bytes] | None = None) -> EngineCodec:
    """Return a codec with a copy of the built-in model, without its gradient network or with a damaged network."""
    shutil.copytree(find_bundle("tiny").folder, folder)
    fields = json.loads((folder / MANIFEST).read_text())
    if damage is None:
        del fields["files"]["gradient.onnx"]
    else:
        path = folder / "gradient.onnx"
        path.write_bytes(damage(path.read_bytes()))
    (folder / MANIFEST).write_text(json.dumps(fields))
    return EngineCodec(folder, threads=1)


def size_and_psnr(codec: EngineCodec, pixels: np.ndarray, **options: float) -> tuple[int, float]:
    """Return the size of the file in bytes and the PSNR of its image in dB."""
    data = codec.encode(ImageData(pixels), EncodeOptions(layers=1, **options))  # type: ignore[arg-type]
    return len(data), psnr(codec.decode(data).pixels, pixels)


def test_effort_6_and_9_raise_psnr_at_equal_size(codec: EngineCodec, photo: Photo) -> None:
    """The PSNR is compared with files of the default effort, interpolated to the same size."""
    pixels = photo(192, 160)
    curve = [size_and_psnr(codec, pixels, quality=quality) for quality in (20, 30, 40, 50)]
    log_sizes, default_psnrs = np.log([size for size, _ in curve]), [value for _, value in curve]

    def gain(effort: int) -> float:
        size, actual_psnr = size_and_psnr(codec, pixels, quality=30, effort=effort)
        return actual_psnr - float(np.interp(np.log(size), log_sizes, default_psnrs))

    gains = [gain(effort) for effort in (6, 9)]
    assert gains[0] > 0.05
    assert gains[1] > gains[0] + 0.03


def test_symbol_search_structure_weight_1_loses_less_structure_at_equal_size(codec: EngineCodec, photo: Photo) -> None:
    """A search for squared error alone has a lower squared error, but loses more structure."""
    texture = np.random.default_rng(0).normal(0, np.linspace(0, 40, 96), (80, 96)).repeat(2, 0).repeat(2, 1)
    pixels = np.clip(photo(192, 160) + texture[:, :, None], 0, 255).astype(np.uint8)
    latents = codec.analyse(pixels)

    def encode_and_measure(quality: float, structure: float) -> tuple[float, float, float]:
        search, step_code = codec.symbol_search(pixels, latents, 7, structure), codec.profile.step_code(quality)
        data = container.write(
            encode_latents_to_file(latents, 192, 160, codec.profile, step_code, TileCodingOptions(search=search))
        )
        decoded = codec.decode(data).pixels
        return np.log(len(data)), lost_structure(decoded, pixels), -psnr(decoded, pixels)

    log_sizes, *curves = zip(*(encode_and_measure(quality, 0) for quality in (25, 35, 45)), strict=True)
    log_size, structure_loss, negative_psnr = encode_and_measure(35, 1)
    assert structure_loss < 0.97 * np.interp(log_size, log_sizes, curves[0])
    assert negative_psnr > np.interp(log_size, log_sizes, curves[1])


def test_encode_residual_lowers_the_structure_weight(
    codec: EngineCodec, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a residual the weight is below 1, and from the knee on it is 0."""
    structure_weights = set[float]()

    def record_structure(pixels: np.ndarray, latents: np.ndarray, effort: int, structure: float) -> None:
        structure_weights.add(structure)

    monkeypatch.setattr(codec, "symbol_search", record_structure)
    for quality, expected in ((45, {1}), (57.5, {1, 0.5}), (80, {1, 0})):
        structure_weights.clear()
        codec.encode(ImageData(photo(48, 40)), EncodeOptions(quality=quality, effort=6))
        assert {round(structure, 2) for structure in structure_weights} == expected


def lost_structure(decoded: np.ndarray, pixels: np.ndarray) -> float:
    """Return the mean loss of contrast and correlation over blocks of 8x8 pixels, 0 to 2."""
    height, width, _ = pixels.shape
    blocks = [
        planes.mean(2).reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)
        for planes in (decoded, pixels)
    ]
    first, second = (block - block.mean(1, keepdims=True) for block in blocks)
    shared, energy = 2 * (first * second).mean(1), (first**2 + second**2).mean(1)
    return float((1 - (shared + 58) / (energy + 58)).mean())


def test_iterations_by_effort_rise_from_effort_6_to_9() -> None:
    assert [*ITERATIONS_BY_EFFORT] == [6, 7, 8, 9]
    assert sorted(ITERATIONS_BY_EFFORT.values()) == [*ITERATIONS_BY_EFFORT.values()]


@pytest.mark.parametrize("size", [(1, 1), (9, 8), (8, 9), (16, 9), (23, 41)])
def test_encode_effort_6_small_image_is_reproducible(codec: EngineCodec, photo: Photo, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    data = codec.encode(ImageData(pixels), EncodeOptions(quality=40, effort=6))
    assert codec.decode(data).pixels.shape == pixels.shape
    assert data == codec.encode(ImageData(pixels), EncodeOptions(quality=40, effort=6))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_encode_effort_7_flat_image_is_no_worse(codec: EngineCodec, level: int) -> None:
    pixels = np.full((40, 56, 3), level, np.uint8)
    (default_size, default_psnr), (actual_size, actual_psnr) = (
        size_and_psnr(codec, pixels, quality=40, effort=effort) for effort in (5, 7)
    )
    assert actual_psnr >= default_psnr
    assert actual_size <= default_size + 2


def test_encode_effort_6_lowers_errors_in_each_tile(codec: EngineCodec, photo: Photo) -> None:
    """The error also falls around the border of tiles."""
    pixels = np.tile(photo(400, 48), (1, 4, 1))
    baseline, searched = (
        codec.encode(ImageData(pixels), EncodeOptions(quality=35, layers=1, effort=e)) for e in (5, 6)
    )
    assert container.read(searched).layout.num_tiles > 1
    errors = [np.square(codec.decode(data).pixels.astype(float) - pixels) for data in (baseline, searched)]
    for area in (np.s_[:, :700], np.s_[:, 700:900], np.s_[:, 900:]):
        assert errors[1][area].mean() < errors[0][area].mean()
    assert len(searched) < 1.2 * len(baseline)


def test_encode_effort_7_with_roi_lowers_errors_of_the_region(codec: EngineCodec, photo: Photo) -> None:
    """The file grows by less than 20 %, since bits outside the region keep their weight."""
    pixels = photo(96, 96)
    weights = np.ones((96, 96), np.float32)
    weights[:48] = 8
    baseline, searched = (
        codec.encode(ImageData(pixels), EncodeOptions(quality=30, layers=1, effort=effort), RoiWeights(weights))
        for effort in (5, 7)
    )
    errors = [np.square(codec.decode(data).pixels.astype(float) - pixels)[:48].mean() for data in (baseline, searched)]
    assert errors[1] < errors[0]
    assert len(searched) < 1.2 * len(baseline)


def test_symbol_search_extreme_symbols_do_not_overflow(codec: EngineCodec) -> None:
    """A move beyond the int16 range would flip the sign of a symbol."""
    latents = np.full((40, 4, 5), 1e9, np.float32)
    pixels = np.full((32, 40, 3), 255, np.uint8)
    search = codec.symbol_search(pixels, latents, 6)
    file = encode_latents_to_file(latents, 40, 32, codec.profile, 2048, TileCodingOptions(search=search))
    baseline = encode_latents_to_file(latents, 40, 32, codec.profile, 2048)
    assert (np.sign(codec.read_latents(file, DEFAULT_LIMITS).read().symbols) >= 0).all()
    assert (np.sign(codec.read_latents(baseline, DEFAULT_LIMITS).read().symbols) >= 0).all()


def test_encode_bundle_without_gradient_searches_by_latents_alone(
    codec: EngineCodec, photo: Photo, tmp_path: Path
) -> None:
    """The file equals the file from `encode_latents`."""
    pixels = photo(64, 48)
    no_gradient = copy_codec(tmp_path / "bare")
    assert no_gradient.symbol_search(pixels, no_gradient.analyse(pixels), 9) is None
    options = EncodeOptions(quality=40, layers=1, effort=7)
    assert no_gradient.encode(ImageData(pixels), options) == encode_latents(
        codec.analyse(pixels), 64, 48, codec.profile, options
    )


def test_encode_damaged_gradient_raises_bundle_error_at_effort_6(photo: Photo, tmp_path: Path) -> None:
    """Effort 5 does not use the gradient, so it raises no error."""
    damaged = copy_codec(tmp_path / "damaged", lambda data: data[:-1] + b"?")
    image = ImageData(photo(32, 32))
    damaged.encode(image, EncodeOptions(quality=40, effort=5))
    with pytest.raises(BundleError, match=r"gradient\.onnx is damaged"):
        damaged.encode(image, EncodeOptions(quality=40, effort=6))


def test_best_moves_takes_the_largest_positive_gains_of_each_block() -> None:
    """Each block has at most `MOVES_PER_BLOCK` moves."""
    gain = np.zeros((3, 4, 5), np.float32)
    gain[0, 0, 0], gain[1, 1, 1], gain[2, 0, 1], gain[1, 2, 4], gain[2, 3, 4] = 5, 4, 3, 1, -1
    mask = _best_moves(gain)
    assert [tuple(map(int, position)) for position in np.argwhere(mask)] == [(0, 0, 0), (1, 1, 1), (1, 2, 4)]


def test_sums_around_sums_windows_cut_at_the_borders() -> None:
    plane = np.random.default_rng(0).integers(-9, 9, (7, 13)).astype(np.float32)
    sums = sums_around(plane, 4)
    assert sums[0, 0] == plane[:5, :5].sum()
    assert sums[3, 6] == plane[:, 2:11].sum()
    assert sums[6, 12] == plane[2:, 8:].sum()
