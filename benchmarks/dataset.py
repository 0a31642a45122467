"""The cost of an image in a data set, the speed of reading latents, and the safety of interrupted runs.

    python benchmarks/dataset.py PHOTOS [--images 1000] [--interrupted 5000]

Crops of 256x256 of the photos of a folder, as JPEG of quality 95, are encoded by `sdtrt dataset encode`: with one
worker, with two, and with two workers of Ray on this machine. The three take turns for three rounds. `seconds` exclude
the start of the command, `start_seconds`, which is the time of a run with two images. One process with one thread
reads: the latents of the `.sdt` files, those stored by `sdtrt dataset latents`, and those that the encoder computes
from the JPEG files.

`interrupted` encodes many small crops into tar files. The command is killed twice and a worker once, and the command
runs again to its end. Then each key must be in the manifest and in the tar files exactly once, and each file must be
valid.
"""

import argparse
import io
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import run_python, write_results
from PIL import Image

from sdtrt.dataset import LatentDataset
from sdtrt.dataset.sources import SDT_FILES, list_samples
from sdtrt.engine.codec import EngineCodec

SIZE, QUALITY, JPEG_QUALITY = 256, 50, 95
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ROUNDS, SHARD = 3, 25
READ = 500
SMALL_SIZE, KILLED_AT = 64, (0.2, 0.4, 0.6)  # shares of the finished shards; the second kills a worker


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of an image in a data set.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="images that are timed (default 1000)")
    parser.add_argument("--interrupted", type=int, default=5000, help="images of the interrupted run (default 5000)")
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_rates(arguments.photos)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_crops(arguments.photos, folder / "all", arguments.images, SIZE)
        make_crops(arguments.photos, folder / "few", 2, SIZE)
        make_crops(arguments.photos, folder / "small", arguments.interrupted, SMALL_SIZE)
        figures = measure(folder) | {"pictures": arguments.images, "size": SIZE, "quality": QUALITY}
        figures["interrupted"] = interrupted(folder, arguments.interrupted)
    print(json.dumps(figures, indent=1))
    print(write_results("dataset", figures))


def measure(folder: Path) -> dict[str, Any]:
    options = {
        "one worker": ["--workers", "1"],
        "two workers": ["--workers", "2"],
        "two workers of Ray's": ["--workers", "2", "--ray", "auto"],
    }
    starts = {name: encode_seconds(folder, "few", arguments) for name, arguments in options.items()}
    rounds = [
        {name: encode_seconds(folder, "all", arguments) for name, arguments in options.items()} for _ in range(ROUNDS)
    ]
    nbytes = {kind: bytes_below(folder / where, kind) for kind, where in (("jpg", "all"), ("sdt", "out"))}
    command("latents", folder / "out", folder / "latents")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "start_seconds": {name: round(seconds, 2) for name, seconds in starts.items()},
        "seconds": {
            name: round(statistics.median(seconds[name] for seconds in rounds) - starts[name], 2) for name in options
        },
        "nbytes": nbytes | {"latents": bytes_below(folder / "latents", "npy")},
        "largest_worker_mb": round(largest / 1024),
        "read_per_second": read_rates_of_one_thread(folder),
    }


def read_rates_of_one_thread(folder: Path) -> dict[str, float]:
    """Return `read_rates`, measured in a process whose libraries use one thread."""
    rates: dict[str, float] = json.loads(run_python(__file__, folder, "--read", **dict.fromkeys(THREADS, "1")))
    return rates


def read_rates(folder: Path) -> dict[str, float]:
    return {
        ".sdt files": items_per_second(LatentDataset(str(folder / "out"))),
        "stored latents": items_per_second(LatentDataset(str(folder / "latents"))),
        "JPEG and encoder": items_per_second(analysed(folder / "all")),
    }


def bytes_below(folder: Path, suffix: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*.{suffix}"))


def encode_seconds(folder: Path, source: str, options: list[str]) -> float:
    """Return the seconds to encode the images of a folder."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    started = time.perf_counter()
    command("encode", folder / source, folder / "out", "-q", str(QUALITY), *options)
    return time.perf_counter() - started


def command(*arguments: str | Path) -> None:
    subprocess.run(dataset(*arguments), check=True)


def dataset(operation: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "sdtrt", "dataset", operation, *arguments, "--shard-size", str(SHARD), "--quiet"]


def interrupted(folder: Path, count: int) -> dict[str, Any]:
    source, out = folder / "small", folder / "tars"
    encoding = dataset("encode", source, out, "--form", "tar", "-q", str(QUALITY))
    killed = [kill(encoding, out, round(share * count / SHARD), worker=n == 1) for n, share in enumerate(KILLED_AT)]
    subprocess.run(encoding, check=True)
    expected = sorted(path.stem for path in source.iterdir())
    lines = (out / "manifest.jsonl").read_text().splitlines()[1:]
    listed = [key for line in lines for key in json.loads(line)["keys"]]
    packed = [Path(name).stem for path in out.glob("*.tar") for name in names_in(path)]
    command("verify", out)
    return {
        "pictures": count,
        "shards_when_killed": killed,
        "keys_once": sorted(listed) == sorted(packed) == expected,
        "manifest_nbytes": (out / "manifest.jsonl").stat().st_size,
        "listed_nbytes": listed_nbytes(out),
    }


def listed_nbytes(source: Path) -> int:
    """Return the memory of the list of a source's samples, in bytes."""
    tracemalloc.start()
    samples = list_samples(str(source), SDT_FILES)
    nbytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples
    return nbytes


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def kill(encoding: list[str | Path], out: Path, shards: int, *, worker: bool) -> int:
    """Run a command until `shards` shards are finished, kill it or a worker, and return the number of shards."""
    process = subprocess.Popen(encoding, start_new_session=True)
    while not (out / ".shards").is_dir() or len(list((out / ".shards").iterdir())) < shards:
        assert process.poll() is None, "the command ended before it was killed"
        time.sleep(0.01)
    if worker:
        subprocess.run(["pkill", "-KILL", "-o", "-f", "-P", str(process.pid), "spawn_main"], check=True)
        time.sleep(1)
        assert process.poll() is None, "the command ended with its worker"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(list((out / ".shards").iterdir()))


def items_per_second(items: Iterable[Any]) -> float:
    """Iterate over at most `READ` items and return their number per second."""
    started = time.perf_counter()
    count = sum(1 for _ in islice(items, READ))
    return round(count / (time.perf_counter() - started), 1)


def analysed(folder: Path) -> Iterable[Any]:
    """Return the latents of JPEG files, computed one after the other."""
    codec = EngineCodec("tiny", device="cpu", threads=1)
    analyse: Callable[[Any], Any] = codec.analyse
    analyse(np.zeros((SIZE, SIZE, 3), np.uint8))  # loads the network
    return (analyse(np.asarray(Image.open(path))) for path in sorted(folder.glob("*.jpg")))


def make_crops(photos: Path, folder: Path, count: int, size: int) -> None:
    """Write `count` square crops of photos, one of each photo before the second of any."""
    folder.mkdir()
    paths = sorted(path for path in photos.iterdir() if path.suffix != ".tsv")
    rng = np.random.default_rng(1)
    for number in range(count):
        image = Image.open(paths[number % len(paths)]).convert("RGB")
        left, top = (int(rng.integers(0, max(side - size, 0) + 1)) for side in image.size)
        stream = io.BytesIO()
        image.crop((left, top, left + size, top + size)).save(stream, "JPEG", quality=JPEG_QUALITY)
        (folder / f"{number:05d}.jpg").write_bytes(stream.getvalue())


if __name__ == "__main__":
    main()
