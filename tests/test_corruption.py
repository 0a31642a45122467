"""Real files, damaged: refused with the right error, and never a wrong picture passed off as right."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import FormatError, LimitError
from sdtrt.engine.format.container import File, Header, write

DAMAGE = (FormatError, LimitError)
NAMES = ["colour", "grey", "alpha"]
SLOW = 5.0  # seconds for one small file: far above what any takes, far below a hang


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


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files(
    real_files: dict[str, bytes], codec: sdtrt.Codec, seal: Callable[[bytes], bytes], name: str
) -> None:
    """Changes under a checksum that fits: an error of ours or a picture of the size the file claims."""
    body = real_files[name][:-4]
    rng = np.random.default_rng(13)
    limits = sdtrt.Limits(max_pixels=1 << 16)
    outcomes = {"read": 0, "refused": 0}
    for round_ in range(400):
        changed = bytearray(body)
        for _ in range(rng.integers(1, 4)):
            # The header and the ends of the parts more often than the bulk.
            at = rng.integers(3, 16) if round_ % 2 else rng.integers(len(changed))
            action = rng.integers(4)
            if action < 2:
                changed[at] ^= rng.integers(1, 256)
            elif action == 2:
                changed[at:at] = rng.bytes(rng.integers(1, 6))
            else:
                del changed[at : at + rng.integers(1, 6)]
        data = seal(bytes(changed))
        started = time.perf_counter()
        try:
            about = sdtrt.info(data, limits=limits)
            sdtrt.verify(data, limits=limits)
            image = codec.decode(data, limits=limits)
            assert isinstance(image, Image.Image)
            assert image.size == (about.width, about.height)
            outcomes["read"] += 1
        except DAMAGE:
            outcomes["refused"] += 1
        assert time.perf_counter() - started < SLOW
    assert min(outcomes.values()) > 20  # any payload that is used up exactly is some picture


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


def refuses(function: Callable[[bytes], object], data: bytes) -> bool:
    try:
        function(data)
    except DAMAGE:
        return True
    return False


@pytest.mark.parametrize("size", [(1 << 24, 1 << 24), (1 << 24, 5), (8193, 8192)])
def test_size_claims(codec: sdtrt.Codec, size: tuple[int, int]) -> None:
    data = write(File(Header(*size, 1, 1, 2048), b"payload"))
    started = time.perf_counter()
    for function in (sdtrt.info, sdtrt.verify, codec.decode, sdtrt.decode):
        with pytest.raises(LimitError):
            function(data)
    assert time.perf_counter() - started < SLOW
