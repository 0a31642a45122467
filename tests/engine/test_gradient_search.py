"""High efforts: symbols by the decoder's gradient."""

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


def without_gradient(folder: Path, damage: Callable[[bytes], bytes] | None = None) -> EngineCodec:
    """Return a copy of the built-in model that has no gradient, or a damaged one."""
    shutil.copytree(find_bundle("tiny").folder, folder)
    fields = json.loads((folder / MANIFEST).read_text())
    if damage is None:
        del fields["files"]["gradient.onnx"]
    else:
        path = folder / "gradient.onnx"
        path.write_bytes(damage(path.read_bytes()))
    (folder / MANIFEST).write_text(json.dumps(fields))
    return EngineCodec(folder, threads=1)


def shown(codec: EngineCodec, pixels: np.ndarray, **options: float) -> tuple[int, float]:
    """Return a file's bytes, and the PSNR of its picture."""
    data = codec.encode(ImageData(pixels), EncodeOptions(layers=1, **options))  # type: ignore[arg-type]
    return len(data), psnr(codec.decode(data).pixels, pixels)


def test_effort_pays(codec: EngineCodec, photo: Photo) -> None:
    """At the bytes of the usual choice pictures are better, and better still with more effort."""
    pixels = photo(192, 160)
    curve = [shown(codec, pixels, quality=quality) for quality in (20, 30, 40, 50)]
    sizes, usual = np.log([size for size, _ in curve]), [found for _, found in curve]

    def gain(effort: int) -> float:
        size, found = shown(codec, pixels, quality=30, effort=effort)
        return found - float(np.interp(np.log(size), sizes, usual))

    gains = [gain(effort) for effort in (6, 9)]
    assert gains[0] > 0.05
    assert gains[1] > gains[0] + 0.03


def test_structure_is_kept(codec: EngineCodec, photo: Photo) -> None:
    """At the bytes of a search for squared error alone less structure is lost, of squares more."""
    texture = np.random.default_rng(0).normal(0, np.linspace(0, 40, 96), (80, 96)).repeat(2, 0).repeat(2, 1)
    pixels = np.clip(photo(192, 160) + texture[:, :, None], 0, 255).astype(np.uint8)
    latents = codec.analyse(pixels)

    def coded(quality: float, structure: float) -> tuple[float, float, float]:
        search, code = codec.symbol_search(pixels, latents, 7, structure), codec.profile.step_code(quality)
        data = container.write(
            encode_latents_to_file(latents, 192, 160, codec.profile, code, TileCodingOptions(search=search))
        )
        found = codec.decode(data).pixels
        return np.log(len(data)), lost_structure(found, pixels), -psnr(found, pixels)

    sizes, *curves = zip(*(coded(quality, 0) for quality in (25, 35, 45)), strict=True)
    size, lost, error = coded(35, 1)
    assert lost < 0.97 * np.interp(size, sizes, curves[0])
    assert error > np.interp(size, sizes, curves[1])


def test_structure_that_a_residual_brings_back(
    codec: EngineCodec, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a residual it counts less, and from the knee on not at all."""
    counted = set[float]()

    def noted(pixels: np.ndarray, latents: np.ndarray, effort: int, structure: float) -> None:
        counted.add(structure)

    monkeypatch.setattr(codec, "symbol_search", noted)
    for quality, expected in ((45, {1}), (57.5, {1, 0.5}), (80, {1, 0})):
        counted.clear()
        codec.encode(ImageData(photo(48, 40)), EncodeOptions(quality=quality, effort=6))
        assert {round(structure, 2) for structure in counted} == expected


def lost_structure(found: np.ndarray, pixels: np.ndarray) -> float:
    """Return how much contrast and correlation is lost in blocks of 8x8 pixels, 0 to 2."""
    height, width, _ = pixels.shape
    blocks = [
        planes.mean(2).reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)
        for planes in (found, pixels)
    ]
    first, second = (block - block.mean(1, keepdims=True) for block in blocks)
    shared, energy = 2 * (first * second).mean(1), (first**2 + second**2).mean(1)
    return float((1 - (shared + 58) / (energy + 58)).mean())


def test_each_effort_has_its_turns() -> None:
    assert [*ITERATIONS_BY_EFFORT] == [6, 7, 8, 9]
    assert sorted(ITERATIONS_BY_EFFORT.values()) == [*ITERATIONS_BY_EFFORT.values()]


@pytest.mark.parametrize("size", [(1, 1), (9, 8), (8, 9), (16, 9), (23, 41)])
def test_small_pictures(codec: EngineCodec, photo: Photo, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    data = codec.encode(ImageData(pixels), EncodeOptions(quality=40, effort=6))
    assert codec.decode(data).pixels.shape == pixels.shape
    assert data == codec.encode(ImageData(pixels), EncodeOptions(quality=40, effort=6))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures(codec: EngineCodec, level: int) -> None:
    pixels = np.full((40, 56, 3), level, np.uint8)
    (usual, before), (found, after) = (shown(codec, pixels, quality=40, effort=effort) for effort in (5, 7))
    assert after >= before
    assert found <= usual + 2


def test_tiles(codec: EngineCodec, photo: Photo) -> None:
    """Of several tiles each is better, and so is what lies where they meet."""
    pixels = np.tile(photo(400, 48), (1, 4, 1))
    usual, found = (codec.encode(ImageData(pixels), EncodeOptions(quality=35, layers=1, effort=e)) for e in (5, 6))
    assert container.read(found).layout.num_tiles > 1
    errors = [np.square(codec.decode(data).pixels.astype(float) - pixels) for data in (usual, found)]
    for part in (np.s_[:, :700], np.s_[:, 700:900], np.s_[:, 900:]):
        assert errors[1][part].mean() < errors[0][part].mean()
    assert len(found) < 1.2 * len(usual)


def test_interest(codec: EngineCodec, photo: Photo) -> None:
    """Where nothing is of interest bits stay dear."""
    pixels = photo(96, 96)
    weights = np.ones((96, 96), np.float32)
    weights[:48] = 8
    usual, found = (
        codec.encode(ImageData(pixels), EncodeOptions(quality=30, layers=1, effort=effort), RoiWeights(weights))
        for effort in (5, 7)
    )
    errors = [np.square(codec.decode(data).pixels.astype(float) - pixels)[:48].mean() for data in (usual, found)]
    assert errors[1] < errors[0]
    assert len(found) < 1.2 * len(usual)


def test_symbols_at_their_limits_stay_there(codec: EngineCodec) -> None:
    """A move would make them others' opposites."""
    latents = np.full((40, 4, 5), 1e9, np.float32)
    pixels = np.full((32, 40, 3), 255, np.uint8)
    search = codec.symbol_search(pixels, latents, 6)
    file = encode_latents_to_file(latents, 40, 32, codec.profile, 2048, TileCodingOptions(search=search))
    usual = encode_latents_to_file(latents, 40, 32, codec.profile, 2048)
    assert (np.sign(codec.read_latents(file, DEFAULT_LIMITS).read().symbols) >= 0).all()
    assert (np.sign(codec.read_latents(usual, DEFAULT_LIMITS).read().symbols) >= 0).all()


def test_a_bundle_without_gradient(codec: EngineCodec, photo: Photo, tmp_path: Path) -> None:
    """It searches by latents alone, and gives what other latents do."""
    pixels = photo(64, 48)
    bare = without_gradient(tmp_path / "bare")
    assert bare.symbol_search(pixels, bare.analyse(pixels), 9) is None
    options = EncodeOptions(quality=40, layers=1, effort=7)
    assert bare.encode(ImageData(pixels), options) == encode_latents(
        codec.analyse(pixels), 64, 48, codec.profile, options
    )


def test_damage_is_found(photo: Photo, tmp_path: Path) -> None:
    """When it is needed, and not before."""
    spoilt = without_gradient(tmp_path / "spoilt", lambda data: data[:-1] + b"?")
    picture = ImageData(photo(32, 32))
    spoilt.encode(picture, EncodeOptions(quality=40, effort=5))
    with pytest.raises(BundleError, match=r"gradient\.onnx is damaged"):
        spoilt.encode(picture, EncodeOptions(quality=40, effort=6))


def test_best_of_blocks() -> None:
    """At most as many as move at once, of those that promise something."""
    promise = np.zeros((3, 4, 5), np.float32)
    promise[0, 0, 0], promise[1, 1, 1], promise[2, 0, 1], promise[1, 2, 4], promise[2, 3, 4] = 5, 4, 3, 1, -1
    found = _best_moves(promise)
    assert [tuple(map(int, place)) for place in np.argwhere(found)] == [(0, 0, 0), (1, 1, 1), (1, 2, 4)]


def test_sums_around() -> None:
    plane = np.random.default_rng(0).integers(-9, 9, (7, 13)).astype(np.float32)
    found = sums_around(plane, 4)
    assert found[0, 0] == plane[:5, :5].sum()
    assert found[3, 6] == plane[:, 2:11].sum()
    assert found[6, 12] == plane[2:, 8:].sum()
