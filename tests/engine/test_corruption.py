"""Real files, damaged: refused with the right error, and never a wrong picture passed off as right."""

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
SLOW = 5.0  # seconds of processors for one small file: far above what any takes, far below a hang


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation(real_files: dict[str, bytes], codec: sdtrt.Codec, name: str) -> None:
    data = real_files[name]
    for length in range(len(data)):
        for function in (sdtrt.info, sdtrt.verify, codec.decode):
            with pytest.raises(FormatError):
                function(data[:length])


@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes(real_files: dict[str, bytes], codec: sdtrt.Codec, name: str) -> None:
    data = real_files[name]
    rng = np.random.default_rng(12)
    places = [*range(min(len(data), 400)), *rng.integers(0, len(data), 2000)]
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= rng.integers(1, 256)
        for function in (sdtrt.info, sdtrt.verify, codec.decode):
            with pytest.raises(DAMAGE):
                function(bytes(damaged))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all checksums be 0, of what is read and of what is written: forged ones always fit."""
    nothing = SimpleNamespace(crc32=lambda data: 0)
    for module in (container, index):
        monkeypatch.setattr(module, "zlib", nothing)
        monkeypatch.setattr(module, "segment_crc", lambda segment: 0)


@pytest.mark.parametrize("name", [*NAMES, "tiles"])
def test_hostile_files(
    real_files: dict[str, bytes], codec: sdtrt.Codec, name: str, request: pytest.FixtureRequest
) -> None:
    """Changes under checksums that fit: an error of ours or a picture of the size the file claims."""
    file = container.read(real_files[name] if name in real_files else TILES.read_bytes())
    request.getfixturevalue("unchecked")
    body = write(file)[:-4]
    rng = np.random.default_rng(13)
    limits = sdtrt.Limits(max_pixels=1 << 16)
    outcomes = {"read": 0, "refused": 0}
    for round_ in range(1000 if file.layout.alpha else 400):  # of several segments fewer survive
        changed = bytearray(body)
        if round_ % 10 == 0:  # another picture's streams, whole: of changed ones next to none survive
            changed = bytearray(write(with_other_latents(file, rng))[:-4])
        for _ in range(rng.integers(1, 4) if round_ % 20 else 0):
            # The header and the ends of the parts more often than the bulk.
            at = rng.integers(3, 16) if round_ % 2 else rng.integers(len(changed))
            action = rng.integers(4)
            if action < 2:
                changed[at] ^= rng.integers(1, 256)
            elif action == 2:
                changed[at:at] = rng.bytes(rng.integers(1, 6))
            else:
                del changed[at : at + rng.integers(1, 6)]
        data = bytes(changed) + bytes(4)
        started = time.process_time()
        try:
            about = sdtrt.info(data, limits=limits)
            sdtrt.verify(data, limits=limits)
            image = codec.decode(data, limits=limits)
            assert isinstance(image, Image.Image)
            assert codec.preview(data, limits=limits).width == -(-about.width // 8)
            assert image.size == (about.width, about.height)
            outcomes["read"] += 1
        except (*DAMAGE, BundleError):  # the latter of a file that names another latent space now
            outcomes["refused"] += 1
            salvaged(codec, data, limits)
        assert time.process_time() - started < SLOW
    # A stream that runs dry reads as zeros, and none may end with a pass of these.
    assert min(outcomes.values()) > 20


def with_other_latents(file: File, rng: np.random.Generator) -> File:
    """Return a file of random latents with a file's header and chunks, and no alpha or layers."""
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
def test_verify_and_decode_agree(
    real_files: dict[str, bytes], codec: sdtrt.Codec, seal: Callable[[bytes], bytes], name: str
) -> None:
    """What `verify` passes, `decode` gives; what it refuses, `decode` refuses."""
    body = real_files[name][:-4]
    rng = np.random.default_rng(14)
    for _ in range(60):
        changed = bytearray(body)
        changed[rng.integers(12, len(changed))] ^= rng.integers(1, 256)
        data = seal(bytes(changed))
        assert refuses(sdtrt.verify, data) == refuses(codec.decode, data)


def salvaged(codec: sdtrt.Codec, data: bytes, limits: sdtrt.Limits) -> None:
    """Decode what there is of a damaged file: a picture and a warning, or an error of ours."""
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
def test_size_claims(codec: sdtrt.Codec, size: tuple[int, int]) -> None:
    data = write(File(Header(*size, 1, 1, 2048), (b"payload",)))
    started = time.process_time()
    for function in (sdtrt.info, sdtrt.verify, codec.decode, sdtrt.decode):
        with pytest.raises(LimitError):
            function(data)
    assert time.process_time() - started < SLOW
