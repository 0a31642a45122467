"""What damaged files do: 10,000 random corruptions of three real files, then 1,000 with a forged checksum.

    python benchmarks/corruption.py

A corruption flips, overwrites, inserts, deletes or cuts off bytes at random (seeded). Each file goes through `info`,
`verify` and, if these let it pass, `decode`. Forged files have a right checksum again, as an attacker's would, and are
read with a limit of 4 million pixels. Anything but `FormatError`, `LimitError` or a picture ends the benchmark.
"""

import resource
import struct
import time
import zlib
from collections import Counter

import numpy as np
from report import write_results
from skimage.data import astronaut

import sdtrt

SEED = 1
RANDOM, FORGED = 10_000, 1_000
LIMITS = sdtrt.Limits(max_pixels=1 << 22)


def main() -> None:
    rng = np.random.default_rng(SEED)
    with sdtrt.Codec.open() as codec:
        files = real_files(codec)
        codec.decode(files[0])
        figures = {
            "file_nbytes": [len(file) for file in files],
            "peak_memory_nbytes": peak_memory(),
            "random": attack(codec, files, RANDOM, rng, forge=False),
            "forged": attack(codec, files, FORGED, rng, forge=True),
        }
    for name, value in figures.items():
        print(name, value)
    print(write_results("corruption", figures))


def real_files(codec: sdtrt.Codec) -> list[bytes]:
    """Return a colour picture, a grey one and one with alpha."""
    photo = astronaut()[::2, ::2]
    alpha = np.hypot(*np.mgrid[-128:128, -128:128]).astype(np.uint8)
    grey = photo.mean(2).astype(np.uint8)[:201, :157]
    return [codec.encode(image, quality=40) for image in (photo, grey, np.dstack([photo, alpha]))]


def attack(codec: sdtrt.Codec, files: list[bytes], count: int, rng: np.random.Generator, *, forge: bool) -> dict:
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        data = corrupted(files[number % len(files)], rng)
        if forge:
            data = data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))
        started = time.perf_counter()
        outcomes[outcome(codec, data)] += 1
        slowest = max(slowest, time.perf_counter() - started)
    return {
        "files": count,
        "outcomes": dict(outcomes),
        "slowest_seconds": round(slowest, 3),
        "peak_memory_nbytes": peak_memory(),
    }


def outcome(codec: sdtrt.Codec, data: bytes) -> str:
    """Return what becomes of a file: "picture" or the error's name; any other exception is let through."""
    try:
        sdtrt.info(data, limits=LIMITS)
        sdtrt.verify(data, limits=LIMITS)
        codec.decode(data, limits=LIMITS)
    except (sdtrt.FormatError, sdtrt.LimitError) as error:
        return type(error).__name__
    return "picture"


def corrupted(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with one to four random faults; never `data` itself."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(damaged)))
        fault = rng.integers(5)
        if fault == 0:
            damaged[at] ^= 1 << int(rng.integers(8))
        elif fault == 1:
            damaged[at] = int(rng.integers(256))
        elif fault == 2:
            damaged[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif fault == 3 and len(damaged) > 32:
            del damaged[at : at + int(rng.integers(1, 9))]
        elif len(damaged) > 32:
            del damaged[max(at, 16) :]
    return bytes(damaged) if damaged != data else corrupted(data, rng)


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
