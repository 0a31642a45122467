"""What a picture costs in a dataset: on a core, on two, on Ray; how fast latents are read; and that nothing gets lost.

    python benchmarks/dataset.py PHOTOS [--pictures 1000] [--interrupted 5000]

Crops of 256x256 of the photos in a folder, as JPEG of quality 95, are encoded by `sdtrt dataset encode` with one worker
and with two in turn, three times, and then by two workers of Ray's on this machine; `seconds` leave out how long it
takes to start, which `start_seconds` tells: those of a run of two pictures. Reading is by one process: the latents of
the `.sdt` files, those that `sdtrt dataset latents` stored, and JPEG to latents by the encoder, one thread each.

`interrupted` encodes many small crops into tars, kills the command twice on the way, a worker once, and runs it again
to its end; then every key must be in the manifest and in the tars once, and every file must be whole.
"""

import argparse
import io
import json
import os
import resource
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
from PIL import Image
from report import write_results

from sdtrt.dataset import LatentDataset
from sdtrt.dataset.sources import SDT_FILES, list_samples
from sdtrt.engine.codec import EngineCodec

SIZE, QUALITY, JPEG_QUALITY = 256, 50, 95
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ROUNDS, SHARD = 3, 25
READ = 500
SMALL_SIZE, KILLED_AT = 64, (0.2, 0.4, 0.6)  # shares of the shards; the one in the middle kills a worker


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a picture of a dataset costs.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--interrupted", type=int, default=5000, help="how many pictures of the run that is killed")
    parser.add_argument("--read", action="store_true", help="only read what an earlier step left in the folder")
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(paces(arguments.photos)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_crops(arguments.photos, folder / "all", arguments.pictures, SIZE)
        make_crops(arguments.photos, folder / "few", 2, SIZE)
        make_crops(arguments.photos, folder / "small", arguments.interrupted, SMALL_SIZE)
        figures = measured(folder) | {"pictures": arguments.pictures, "size": SIZE, "quality": QUALITY}
        figures["interrupted"] = interrupted(folder, arguments.interrupted)
    print(json.dumps(figures, indent=1))
    print(write_results("dataset", figures))


def measured(folder: Path) -> dict[str, Any]:
    ways = {"one worker": ["--workers", "1"], "two workers": ["--workers", "2"]}
    on_ray = {"two workers of Ray's": ["--workers", "2", "--ray", "auto"]}
    starts = {way: encode(folder, "few", options) for way, options in (ways | on_ray).items()}
    rounds = [{way: encode(folder, "all", options) for way, options in (ways | on_ray).items()} for _ in range(ROUNDS)]
    nbytes = {kind: bytes_below(folder / where, kind) for kind, where in (("jpg", "all"), ("sdt", "out"))}
    command("latents", folder / "out", folder / "latents")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "start_seconds": {way: round(seconds, 2) for way, seconds in starts.items()},
        "seconds": {
            way: round(statistics.median(one[way] for one in rounds) - starts[way], 2) for way in ways | on_ray
        },
        "nbytes": nbytes | {"latents": bytes_below(folder / "latents", "npy")},
        "largest_worker_mb": round(largest / 1024),
        "read_per_second": paces_in_child(folder),
    }


def paces_in_child(folder: Path) -> dict[str, float]:
    """Return `paces`, measured by a process that multiplies by one thread."""
    command = [sys.executable, __file__, folder, "--read"]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def paces(folder: Path) -> dict[str, float]:
    return {
        ".sdt files": pace(LatentDataset(str(folder / "out"))),
        "stored latents": pace(LatentDataset(str(folder / "latents"))),
        "JPEG and encoder": pace(encoded(folder / "all")),
    }


def bytes_below(folder: Path, suffix: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*.{suffix}"))


def encode(folder: Path, source: str, options: list[str]) -> float:
    """Return how long it takes to encode a folder, in seconds."""
    subprocess.run(["rm", "-rf", folder / "out"], check=True)
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
    wanted = sorted(path.stem for path in source.iterdir())
    lines = (out / "manifest.jsonl").read_text().splitlines()[1:]
    listed = [key for line in lines for key in json.loads(line)["keys"]]
    packed = [Path(name).stem for path in out.glob("*.tar") for name in names_in(path)]
    command("verify", out)
    return {
        "pictures": count,
        "shards_when_killed": killed,
        "keys_once": sorted(listed) == sorted(packed) == wanted,
        "manifest_nbytes": (out / "manifest.jsonl").stat().st_size,
        "listed_nbytes": listed_nbytes(out),
    }


def listed_nbytes(source: Path) -> int:
    """Return how much memory the list of a source's samples takes."""
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
    """Run a command until so many shards are done, kill it or one of its workers; return how many shards there were."""
    process = subprocess.Popen(encoding, start_new_session=True)
    while not (out / ".shards").is_dir() or len(list((out / ".shards").iterdir())) < shards:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    if worker:
        subprocess.run(["pkill", "-KILL", "-o", "-f", "-P", str(process.pid), "spawn_main"], check=True)
        time.sleep(1)
        assert process.poll() is None, "it did not outlive its worker"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(list((out / ".shards").iterdir()))


def pace(items: Iterable[Any]) -> float:
    """Return how many items a second there are."""
    started = time.perf_counter()
    count = sum(1 for _ in islice(items, READ))
    return round(count / (time.perf_counter() - started), 1)


def encoded(folder: Path) -> Iterable[Any]:
    codec = EngineCodec("tiny", device="cpu", threads=1)
    analyse: Callable[[Any], Any] = codec.analyse
    analyse(np.zeros((SIZE, SIZE, 3), np.uint8))
    return (analyse(np.asarray(Image.open(path))) for path in sorted(folder.glob("*.jpg")))


def make_crops(photos: Path, folder: Path, count: int, size: int) -> None:
    """Write so many square crops of photos, the first of each before the second of any."""
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
