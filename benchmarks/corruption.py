"""Behaviour on damaged files: 10,000 random corruptions of three real files, and 1,000 with a valid checksum.

    python benchmarks/corruption.py [--random 10000] [--forged 1000]

A corruption flips, overwrites, inserts, deletes or truncates bytes at random, from a fixed seed. Each file goes through
`info`, `verify` and, if both accept it, `decode`. Forged files have a correct checksum, as an attacker's files would.
All are read with a limit of 4 million pixels. Any exception other than `FormatError` and `LimitError` ends the run.
"""

import argparse
import resource
import struct
import time
import zlib
from collections import Counter
from typing import Any

import numpy as np
from harness import write_results
from skimage.data import astronaut

import sdtrt

SEED = 1
LIMITS = sdtrt.Limits(max_pixels=1 << 22)


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode damaged files.")
    parser.add_argument("--random", type=int, default=10_000, help="files with random corruptions (default 10000)")
    parser.add_argument("--forged", type=int, default=1_000, help="files with a valid checksum too (default 1000)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    with sdtrt.Codec.open() as codec:
        files = real_files(codec)
        codec.decode(files[0])
        figures = {
            "file_nbytes": [len(file) for file in files],
            "peak_memory_nbytes": peak_memory(),
            "random": attack(codec, files, arguments.random, rng, forge=False),
            "forged": attack(codec, files, arguments.forged, rng, forge=True),
        }
    for name, value in figures.items():
        print(name, value)
    print(write_results("corruption", figures))


def real_files(codec: sdtrt.Codec) -> list[bytes]:
    """Return the files of a colour image, a grey one and one with alpha."""
    photo = astronaut()[::2, ::2]
    alpha = np.hypot(*np.mgrid[-128:128, -128:128]).astype(np.uint8)
    grey = photo.mean(2).astype(np.uint8)[:201, :157]
    return [codec.encode(image, quality=40) for image in (photo, grey, np.dstack([photo, alpha]))]


def attack(
    codec: sdtrt.Codec, files: list[bytes], count: int, rng: np.random.Generator, *, forge: bool
) -> dict[str, Any]:
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
    """Return "picture" for a decoded file, or the name of the error; other exceptions pass."""
    try:
        sdtrt.info(data, limits=LIMITS)
        sdtrt.verify(data, limits=LIMITS)
        codec.decode(data, limits=LIMITS)
    except (sdtrt.FormatError, sdtrt.LimitError) as error:
        return type(error).__name__
    return "picture"


def corrupted(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with one to four random faults, always different from `data`."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        position = int(rng.integers(len(damaged)))
        fault = rng.integers(5)
        if fault == 0:
            damaged[position] ^= 1 << int(rng.integers(8))
        elif fault == 1:
            damaged[position] = int(rng.integers(256))
        elif fault == 2:
            damaged[position:position] = rng.bytes(int(rng.integers(1, 9)))
        elif fault == 3 and len(damaged) > 32:
            del damaged[position : position + int(rng.integers(1, 9))]
        elif len(damaged) > 32:
            del damaged[max(position, 16) :]
    return bytes(damaged) if damaged != data else corrupted(data, rng)


def peak_memory() -> int:
    """Return the peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
