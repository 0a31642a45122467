"""Runs that are interrupted within a shard continue within it; progress within shards; warnings."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdtrt.dataset import process_backend, shard_checkpoint, shard_worker
from sdtrt.dataset.runner import Summary
from sdtrt.dataset.shard_worker import Record, process_shard
from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.stores import Store

Running = Callable[..., Summary]
COUNT, DONE_BEFORE = 7, 4


class StoppedError(Exception):
    """Interrupts a run."""


def stop_after(after: int) -> Callable[..., Iterator[Record]]:
    """Return a backend that stops once `after` samples of a shard are done."""

    def advance(count: int) -> None:
        if count == after:
            raise StoppedError

    def run_shards(task: Task, shards: Sequence[Shard]) -> Iterator[Record]:
        return (process_shard(task, shard, advance) for shard in shards)

    return run_shards


@pytest.fixture(autouse=True)
def _every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_checkpoint, "SAVE_INTERVAL", 0.0)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the samples that are processed."""
    keys: list[str] = []
    usual = shard_worker.process_sample

    def attempted(reader: Any, sample: Any, *others: Any) -> Any:
        keys.append(sample.key)
        return usual(reader, sample, *others)

    monkeypatch.setattr(shard_worker, "process_sample", attempted)
    return keys


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_interrupted_run_continues_within_its_shard(
    running: Running,
    make_source: Callable[[str, Path], str],
    attempts: list[str],
    tmp_path: Path,
    kind: str,
    form: str,
) -> None:
    source, out = make_source(kind, tmp_path), tmp_path / "out"
    with pytest.raises(StoppedError):
        running("encode", source, str(out), form=form, shard_size=99, run_shards=stop_after(DONE_BEFORE))
    assert len(attempts) == DONE_BEFORE
    assert len(list((out / ".shards").glob("*.part"))) == DONE_BEFORE
    assert not (out / "manifest.jsonl").exists()
    summary = running("encode", source, str(out), form=form, shard_size=99)
    assert (len(attempts), len(set(attempts))) == (COUNT, COUNT)
    assert (summary.sums["samples"], summary.samples_done, summary.errors) == (COUNT, COUNT, [])
    running("encode", source, str(tmp_path / "at once"), form=form, shard_size=99)
    assert files_of(out) == files_of(tmp_path / "at once")


def test_interrupted_run_other_options_start_again(
    running: Running, folder: str, attempts: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for quality in (20, 30):
        with pytest.raises(StoppedError):
            running("encode", folder, str(out), options={"quality": quality}, shard_size=99, run_shards=stop_after(2))
        assert len(list((out / ".shards").glob("*.part"))) == 2
    assert len(attempts) == 4
    running("encode", folder, str(out), options={"quality": 30}, shard_size=99)
    assert len(attempts) == 2 + COUNT
    assert list((out / ".shards").glob("*.part")) == []


def test_interrupted_run_missing_files_are_made_again(
    running: Running, folder: str, attempts: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(StoppedError):
        running("encode", folder, str(out), shard_size=99, run_shards=stop_after(DONE_BEFORE))
    (out / "part 0" / "2.sdt").unlink()
    (out / "part 0" / "4.sdt").write_bytes(b"cut short")
    assert running("encode", folder, str(out), shard_size=99).errors == []
    assert attempts[DONE_BEFORE:] == ["part 0/2", "part 0/4", "part 1/1", "part 1/3", "part 1/5"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
def test_interrupted_run_damaged_part_is_redone(
    running: Running, folder: str, attempts: list[str], tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(StoppedError):
        running("encode", folder, str(out), form="tar", shard_size=99, run_shards=stop_after(2))
    part = min((out / ".shards").glob("*.part"))
    data = part.read_bytes()
    changed = {"empty": b"", "cut": data[:700], "text": b"x" * 2000, "other": data.replace(b"figures", b"numbers")}
    part.write_bytes(changed[damage])
    assert running("encode", folder, str(out), form="tar", shard_size=99).sums["samples"] == COUNT
    assert len(attempts) == 2 + COUNT - 1


def test_interrupted_run_keeps_errors_and_retries_transient_ones(
    running: Running, folder: str, attempts: list[str], tmp_path: Path
) -> None:
    paths = sorted(Path(folder).glob("*/*.png"))
    paths[0].write_bytes(b"no image")
    lines = [str(paths[0]), str(tmp_path / "late.png"), *map(str, paths[1:])]
    (tmp_path / "l.txt").write_text("\n".join(lines))
    with pytest.raises(StoppedError):
        running("encode", str(tmp_path / "l.txt"), str(tmp_path / "out"), shard_size=99, run_shards=stop_after(3))
    (tmp_path / "late.png").write_bytes(paths[1].read_bytes())
    summary = running("encode", str(tmp_path / "l.txt"), str(tmp_path / "out"), shard_size=99)
    assert [error["source"] for error in summary.errors] == [str(paths[0])]
    assert sum(key.endswith("late") for key in attempts) == 2
    assert len(attempts) == len(lines) + 1


def test_interrupted_run_continues_in_a_remote_store(running: Running, folder: str, attempts: list[str]) -> None:
    fsspec = pytest.importorskip("fsspec")
    out = "memory://unfinished/out"
    with pytest.raises(StoppedError):
        running("encode", folder, out, form="tar", shard_size=99, run_shards=stop_after(DONE_BEFORE))
    assert running("encode", folder, out, form="tar", shard_size=99).sums["samples"] == COUNT
    assert len(attempts) == COUNT
    assert [name for name in Store(out).list_names(".shards") if name.endswith(".part")] == []
    fsspec.filesystem("memory").rm("/unfinished", recursive=True)


def test_process_backend_reports_samples_within_shards(
    running: Running, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_backend, "POLL_SECONDS", 0.001)
    reports: list[tuple[int, int, int]] = []

    def on_progress(summary: Summary) -> None:
        reports.append((summary.done, summary.samples_done, summary.total))

    run_shards = partial(process_backend.run_shards, workers=1)
    summary = running(
        "encode", folder, str(tmp_path / "out"), run_shards=run_shards, shard_size=99, on_progress=on_progress
    )
    assert reports[0] == (0, 0, COUNT)
    assert reports[-1] == (1, COUNT, COUNT)
    within = [samples for done, samples, _ in reports if not done]
    assert within == sorted(within)
    assert set(within) & set(range(1, COUNT))
    assert summary.in_work == 0


KILLED = """
import os, signal, sys
from sdtrt.dataset import shard_checkpoint
from sdtrt.dataset.runner import run
from sdtrt.dataset.shards import Task
from sdtrt.dataset.shard_worker import process_shard

def advance(count):
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)

shard_checkpoint.SAVE_INTERVAL = 0.0
source, destination, form = sys.argv[1:]
machine = {"model": "tiny", "threads": 1}
task = Task(operation="encode", source=source, destination=destination, form=form, machine=machine)
run_shards = lambda task, shards: (process_shard(task, shard, advance) for shard in shards)
run(task, run_shards, shard_size=99, max_errors=None, on_progress=lambda _: None)
"""


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_killed_process_loses_no_saved_sample(
    running: Running, folder: str, attempts: list[str], tmp_path: Path, form: str
) -> None:
    arguments = [sys.executable, "-c", KILLED, folder, str(tmp_path / "out"), form]
    assert subprocess.run(arguments, check=False, timeout=120).returncode == -signal.SIGKILL
    assert running("encode", folder, str(tmp_path / "out"), form=form, shard_size=99).sums["samples"] == COUNT
    assert len(attempts) == COUNT - DONE_BEFORE


def test_warnings_are_in_records_and_summary(running: Running, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(tmp_path / "in" / "deep.png")
    summary = running("encode", str(tmp_path / "in"), str(tmp_path / "out"))
    (one,) = summary.warnings
    assert (one["key"], one["source"]) == ("deep", f"{tmp_path}/in/deep.png")
    assert "bits" in one["warning"]
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1])["warnings"] == [one]
    assert running("encode", str(tmp_path / "in"), str(tmp_path / "out")).warnings == [one]
