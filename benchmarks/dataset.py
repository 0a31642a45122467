"""What a picture costs in a dataset: on a core, on two, on Ray; and how fast latents are read for training.

    python benchmarks/dataset.py PHOTOS [--pictures 1000]

Crops of 256x256 of the photos in a folder, as JPEG of quality 95, are encoded by `sdtrt dataset encode` with one worker
and with two in turn, three times, and then by two workers of Ray's on this machine; `seconds` leave out how long it
takes to start, which `start_seconds` tells: those of a run of two pictures. Reading is by one process: the latents of
the `.sdt` files, those that `sdtrt dataset latents` stored, and JPEG to latents by the encoder, one thread each.
"""

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from report import write_results

from sdtrt.dataset import Latents
from sdtrt.engine.codec import PictureCodec

SIZE, QUALITY, JPEG_QUALITY = 256, 50, 95
ROUNDS, SHARD = 3, 25
READ = 500


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a picture of a dataset costs.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_crops(arguments.photos, folder / "all", arguments.pictures)
        make_crops(arguments.photos, folder / "few", 2)
        figures = measured(folder) | {"pictures": arguments.pictures, "size": SIZE, "quality": QUALITY}
    print(json.dumps(figures, indent=1))
    print(write_results("dataset", figures))


def measured(folder: Path) -> dict[str, Any]:
    ways = {"one worker": ["--workers", "1"], "two workers": ["--workers", "2"]}
    on_ray = {"two workers of Ray's": ["--workers", "2", "--ray", "auto"]}
    starts = {way: encode(folder, "few", options) for way, options in (ways | on_ray).items()}
    rounds = [{way: encode(folder, "all", options) for way, options in (ways | on_ray).items()} for _ in range(ROUNDS)]
    nbytes = sum(path.stat().st_size for path in (folder / "out").glob("*.sdt"))
    command("latents", folder / "out", folder / "latents", [])
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "start_seconds": {way: round(seconds, 2) for way, seconds in starts.items()},
        "seconds": {
            way: round(statistics.median(one[way] for one in rounds) - starts[way], 2) for way in ways | on_ray
        },
        "nbytes": nbytes,
        "largest_worker_mb": round(largest / 1024),
        "read_per_second": {
            ".sdt files": pace(Latents(str(folder / "out"))),
            "stored latents": pace(Latents(str(folder / "latents"))),
            "JPEG and encoder": pace(encoded(folder / "all")),
        },
    }


def encode(folder: Path, source: str, options: list[str]) -> float:
    """Return how long it takes to encode a folder, in seconds."""
    subprocess.run(["rm", "-rf", folder / "out"], check=True)
    started = time.perf_counter()
    command("encode", folder / source, folder / "out", ["-q", str(QUALITY), *options])
    return time.perf_counter() - started


def command(operation: str, source: Path, destination: Path, options: list[str]) -> None:
    whole = [sys.executable, "-m", "sdtrt", "dataset", operation, source, destination, "--shard-size", str(SHARD)]
    subprocess.run([*whole, "--quiet", *options], check=True)


def pace(items: Iterable[Any]) -> float:
    """Return how many items a second there are."""
    started = time.perf_counter()
    count = sum(1 for _ in islice(items, READ))
    return round(count / (time.perf_counter() - started), 1)


def encoded(folder: Path) -> Iterable[Any]:
    codec = PictureCodec("tiny", device="cpu", threads=1)
    analyse: Callable[[Any], Any] = codec.analyse
    analyse(np.zeros((SIZE, SIZE, 3), np.uint8))
    return (analyse(np.asarray(Image.open(path))) for path in sorted(folder.glob("*.jpg")))


def make_crops(photos: Path, folder: Path, count: int) -> None:
    """Write so many crops of photos, the first of each before the second of any."""
    folder.mkdir()
    paths = sorted(path for path in photos.iterdir() if path.suffix != ".tsv")
    rng = np.random.default_rng(1)
    for number in range(count):
        image = Image.open(paths[number % len(paths)]).convert("RGB")
        left, top = (int(rng.integers(0, max(side - SIZE, 0) + 1)) for side in image.size)
        stream = io.BytesIO()
        image.crop((left, top, left + SIZE, top + SIZE)).save(stream, "JPEG", quality=JPEG_QUALITY)
        (folder / f"{number:05d}.jpg").write_bytes(stream.getvalue())


if __name__ == "__main__":
    main()
