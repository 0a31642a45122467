"""A small dataset in each form of source, and a function that runs tasks in this process."""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdtrt.dataset.runner import Summary, run
from sdtrt.dataset.shard_worker import Record, process_shard
from sdtrt.dataset.shards import Shard, Task

COUNT = 7


def png(seed: int) -> bytes:
    """Return a small image file; each seed gives another image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((24, 16), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def folder_of(root: Path) -> str:
    for n in range(COUNT):
        path = root / "in" / f"part {n % 2}" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n))
    (root / "in" / "notes.txt").write_text("not an image")
    (root / "in" / ".hidden.png").write_bytes(png(0))
    return str(root / "in")


def list_of(root: Path) -> str:
    folder = Path(folder_of(root))
    (root / "list.txt").write_text("\n".join(map(str, sorted(folder.glob("*/*.png")))) + "\n\n")
    return str(root / "list.txt")


def tars_of(root: Path) -> str:
    for which in range(2):
        with tarfile.open(root / f"s-{which}.tar", "w") as archive:
            for n in range(which, COUNT, 2):
                parts = {"png": png(n), "txt": f"caption {n}".encode(), "json": b'{"n": %d}' % n, "cls": b"%d" % n}
                for extension, data in parts.items():
                    member = tarfile.TarInfo(f"part {n % 2}/{n}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return str(root / "s-*.tar")


def parquet_of(root: Path) -> str:
    import pyarrow
    from pyarrow import parquet

    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)]
    images = [{"bytes": png(n), "path": f"{n}.png"} for n in order]
    columns = {"image": images, "key": [f"part {n % 2}/{n}" for n in order], "txt": [f"caption {n}" for n in order]}
    parquet.write_table(pyarrow.table(columns | {"n": order}), root / "p.parquet", row_group_size=3)
    return str(root / "p.parquet")


SOURCES = {"folder": folder_of, "list": list_of, "tar": tars_of, "parquet": parquet_of}
KEYS = [f"part {n % 2}/{n}" for n in (*range(0, COUNT, 2), *range(1, COUNT, 2))]


@pytest.fixture(scope="session")
def image_files() -> dict[str, bytes]:
    """The images of all sources, by key."""
    return {key: png(int(key[-1])) for key in KEYS}


@pytest.fixture(scope="session")
def make_source() -> Callable[[str, Path], str]:
    """A function that makes a source of a form in a folder, and returns its location."""
    return lambda kind, root: SOURCES[kind](root)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A form of source, and the location of a source of this form."""
    return request.param, SOURCES[request.param](tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return folder_of(tmp_path)


def run_in_process(task: Task, shards: Sequence[Shard]) -> Iterator[Record]:
    return (process_shard(task, shard) for shard in shards)


@pytest.fixture
def running() -> Callable[..., Summary]:
    """A function that runs a task in this process."""

    def start(operation: str, source: str, destination: str | None = None, **options: Any) -> Summary:
        settings = {"shard_size": 3, "max_errors": None, "on_progress": lambda _: None}
        settings |= {name: options.pop(name) for name in list(options) if name in {*settings, "run_shards"}}
        run_shards = settings.pop("run_shards", run_in_process)
        task = Task(
            operation=operation,
            source=source,
            destination=destination,
            machine={"model": "tiny", "threads": 1},
            **options,
        )
        return run(task, run_shards, **settings)

    return start
