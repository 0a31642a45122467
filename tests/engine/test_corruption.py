"""Damaged files: each is refused with the right error, and none decodes to a wrong image."""

import contextlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import BundleError, FormatError, LimitError
from sdtrt.engine.coding.latent_file import TileCodingOptions, encode_latents_to_file
from sdtrt.engine.format import container, index
from sdtrt.engine.format.container import File, Header, write
from sdtrt.engine.format.profile import shipped_profile

DAMAGE = (FormatError, LimitError)
TILES = Path(__file__).parents[1] / "vectors" / "tiny_tiles_alpha" / "input.sdt"
NAMES = ["colour", "grey", "alpha", "layers"]
MAX_CPU_SECONDS = 5.0  # for one small file: far above the usual time, far below a hang


@pytest.mark.parametrize("name", NAMES)
def test_truncated_file_raises_format_error(real_files: dict[str, bytes], codec: sdtrt.Codec, name: str) -> None:
    data = real_files[name]
    for length in range(len(data)):
        for function in (sdtrt.info, sdtrt.verify, codec.decode):
            with pytest.raises(FormatError):
                function(data[:length])


@pytest.mark.parametrize("name", NAMES)
def test_changed_byte_raises_format_or_limit_error(real_files: dict[str, bytes], codec: sdtrt.Codec, name: str) -> None:
    data = real_files[name]
    rng = np.random.default_rng(12)
    positions = [*range(min(len(data), 400)), *rng.integers(0, len(data), 2000)]
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= rng.integers(1, 256)
        for function in (sdtrt.info, sdtrt.verify, codec.decode):
            with pytest.raises(DAMAGE):
                function(bytes(damaged))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace all checksums with 0, in readers and writers, so that forged checksums match."""
    fake_zlib = SimpleNamespace(crc32=lambda data: 0)
    for module in (container, index):
        monkeypatch.setattr(module, "zlib", fake_zlib)
        monkeypatch.setattr(module, "segment_crc", lambda segment: 0)


@pytest.mark.parametrize("name", [*NAMES, "tiles"])
def test_file_with_forged_checksums_is_refused_or_decodes_to_its_size(
    real_files: dict[str, bytes], codec: sdtrt.Codec, name: str, request: pytest.FixtureRequest
) -> None:
    """Each file is changed and its checksums match. It gives an error of the project or an image of its size."""
    file = container.read(real_files[name] if name in real_files else TILES.read_bytes())
    request.getfixturevalue("unchecked")
    body = write(file)[:-4]
    rng = np.random.default_rng(13)
    limits = sdtrt.Limits(max_pixels=1 << 16)
    outcomes = {"read": 0, "refused": 0}
    for round_ in range(1000 if file.layout.alpha else 400):  # fewer files of several segments survive
        changed = bytearray(body)
        if round_ % 10 == 0:  # valid streams of other latents, since changed streams hardly survive
            changed = bytearray(write(with_other_latents(file, rng))[:-4])
        for _ in range(rng.integers(1, 4) if round_ % 20 else 0):
            # In odd rounds, the changes are in the first 16 bytes.
            position = rng.integers(3, 16) if round_ % 2 else rng.integers(len(changed))
            action = rng.integers(4)
            if action < 2:
                changed[position] ^= rng.integers(1, 256)
            elif action == 2:
                changed[position:position] = rng.bytes(rng.integers(1, 6))
            else:
                del changed[position : position + rng.integers(1, 6)]
        data = bytes(changed) + bytes(4)
        started = time.process_time()
        try:
            info = sdtrt.info(data, limits=limits)
            sdtrt.verify(data, limits=limits)
            image = codec.decode(data, limits=limits)
            assert isinstance(image, Image.Image)
            assert codec.preview(data, limits=limits).width == -(-info.width // 8)
            assert image.size == (info.width, info.height)
            outcomes["read"] += 1
        except (*DAMAGE, BundleError):  # `BundleError` if the changed file names another latent space
            outcomes["refused"] += 1
            salvage_or_refuse(codec, data, limits)
        assert time.process_time() - started < MAX_CPU_SECONDS
    # Missing data reads as zeros, and a stream may not end with a pass of zeros.
    assert min(outcomes.values()) > 20


def with_other_latents(file: File, rng: np.random.Generator) -> File:
    """Return a file of random latents with the header and chunks of `file`, without alpha and layers."""
    header, profile = file.header, shipped_profile(file.header.profile)
    grid = profile.grid(header.width, header.height)
    latents = profile.mean[:, None, None] + rng.laplace(0, 1, grid) * (profile.std * header.quant_step)[:, None, None]
    size = header.width, header.height
    return encode_latents_to_file(
        latents.astype(np.float32),
        *size,
        profile,
        header.step_code,
        options=TileCodingOptions(effort=1),
        chunks=file.chunks,
    )


@pytest.mark.parametrize("name", NAMES)
def test_verify_refuses_the_same_files_as_decode(
    real_files: dict[str, bytes], codec: sdtrt.Codec, seal: Callable[[bytes], bytes], name: str
) -> None:
    body = real_files[name][:-4]
    rng = np.random.default_rng(14)
    for _ in range(60):
        changed = bytearray(body)
        changed[rng.integers(12, len(changed))] ^= rng.integers(1, 256)
        data = seal(bytes(changed))
        assert refuses(sdtrt.verify, data) == refuses(codec.decode, data)


def salvage_or_refuse(codec: sdtrt.Codec, data: bytes, limits: sdtrt.Limits) -> None:
    """Decode a damaged file with `partial=True`. The result is an image or an error of the project."""
    with warnings.catch_warnings(), contextlib.suppress(*DAMAGE, BundleError):
        warnings.simplefilter("ignore", sdtrt.ImageWarning)
        assert isinstance(codec.decode(data, partial=True, limits=limits), Image.Image)


def refuses(function: Callable[[bytes], object], data: bytes) -> bool:
    try:
        function(data)
    except DAMAGE:
        return True
    return False


@pytest.mark.parametrize("size", [(1 << 24, 1 << 24), (1 << 24, 5), (8193, 8192)])
def test_huge_image_size_raises_limit_error_quickly(codec: sdtrt.Codec, size: tuple[int, int]) -> None:
    data = write(File(Header(*size, 1, 1, 2048), (b"payload",)))
    started = time.process_time()
    for function in (sdtrt.info, sdtrt.verify, codec.decode, sdtrt.decode):
        with pytest.raises(LimitError):
            function(data)
    assert time.process_time() - started < MAX_CPU_SECONDS
