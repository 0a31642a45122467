"""Interrupted and repeated runs, errors of samples, deaths of workers and drivers, the commands."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from environment import HANG

from sdtrt import cli
from sdtrt.dataset import process_backend
from sdtrt.dataset.runner import Summary, TooManyErrorsError
from sdtrt.dataset.shard_worker import process_shard
from sdtrt.dataset.shards import Shard, Task

Running = Callable[..., Summary]


def run_first_shards(count: int) -> Callable[..., Iterator]:
    """Return a backend that processes the first `count` shards and is then interrupted."""

    def run_shards(task: Task, shards: Sequence[Shard]) -> Iterator:
        yield from (process_shard(task, shard) for shard in shards[:count])
        raise KeyboardInterrupt

    return run_shards


def test_run_finished_shards_are_skipped(running: Running, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        running("encode", folder, str(out), run_shards=run_first_shards(1))
    assert not (out / "manifest.jsonl").exists()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.sdt")}
    assert len(times) == 3
    summary = running("encode", folder, str(out))
    assert (summary.shards, summary.skipped, summary.sums["samples"]) == (3, 1, 7)
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    assert running("encode", folder, str(out)).skipped == 3


def test_run_changed_shards_are_redone(running: Running, folder: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    running("encode", folder, out)
    assert running("encode", folder, out, options={"quality": 20}).skipped == 0
    next(Path(folder).rglob("*/0.png")).write_bytes(b"not an image")
    summary = running("encode", folder, out, options={"quality": 20})
    assert (summary.skipped, [error["key"] for error in summary.errors]) == (2, ["part 0/0"])
    next(Path(out).rglob("*/2.sdt")).unlink()
    assert running("encode", folder, out, options={"quality": 20}).skipped == 2
    record = Path(out) / ".shards" / "shard-000001.json"
    for damage in (b"", b"{}", b"[]", record.read_bytes()[:-9]):
        record.write_bytes(damage)
        assert running("encode", folder, out, options={"quality": 20}).skipped == 2


def test_run_unreadable_sample_is_tried_again(running: Running, folder: str, tmp_path: Path) -> None:
    late = Path(folder) / "late.png"
    (tmp_path / "list.txt").write_text("\n".join([*map(str, sorted(Path(folder).glob("*/*.png"))), str(late)]))
    summary = running("encode", str(tmp_path / "list.txt"), str(tmp_path / "out"))
    assert [error["error"].partition(":")[0] for error in summary.errors] == ["FileNotFoundError"]
    late.write_bytes(next(Path(folder).rglob("*/0.png")).read_bytes())
    summary = running("encode", str(tmp_path / "list.txt"), str(tmp_path / "out"))
    assert (summary.skipped, summary.errors, summary.sums["samples"]) == (2, [], 8)


def test_run_removes_files_of_other_runs(running: Running, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running("encode", folder, str(out), form="tar", shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        running("encode", folder, str(out), form="tar", options={"quality": 9}, run_shards=run_first_shards(1))
    assert sorted(path.name for path in out.iterdir()) == [".shards", "shard-000000.tar"]
    running("encode", folder, str(out), form="tar", shard_size=9)
    assert sorted(path.name for path in out.iterdir()) == [".shards", "manifest.jsonl", "shard-000000.tar"]
    with pytest.raises(ValueError, match="both source and destination"):
        running("decode", str(out), f"{out}/")


def test_run_errors_are_in_the_manifest_and_limited(running: Running, folder: str, tmp_path: Path) -> None:
    for n in (0, 3):
        next(Path(folder).rglob(f"*/{n}.png")).write_bytes(b"not an image")
    summary = running("encode", folder, str(tmp_path / "a"), max_errors=2)
    assert [error["key"] for error in summary.errors] == ["part 0/0", "part 1/3"]
    lines = [json.loads(line) for line in (tmp_path / "a" / "manifest.jsonl").read_text().splitlines()]
    assert (lines[0]["samples"], lines[0]["errors"]) == (5, 2)
    assert [error["key"] for line in lines[1:] for error in line["errors"]] == ["part 0/0", "part 1/3"]
    with pytest.raises(TooManyErrorsError, match="2 samples failed"):
        running("encode", folder, str(tmp_path / "b"), max_errors=1)


def kill_once(flag: str, task: Task, shard: Shard, advance: object) -> dict:
    """Process a shard; the first worker that gets the second shard kills itself."""
    if shard.name.endswith("1") and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return process_shard(task, shard)


def kill_at_second(task: Task, shard: Shard, advance: object) -> dict:
    if shard.name.endswith("1"):
        os.kill(os.getpid(), signal.SIGKILL)
    return process_shard(task, shard)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked workers, which have the functions of this file; a spawned worker could not import it."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(process_backend.multiprocessing, "get_context", lambda _: context)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_backend_worker_death_restarts_the_pool(
    running: Running, folder: str, tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_backend, "process_shard", partial(kill_once, str(tmp_path / "flag")))
    summary = running(
        "verify", packed(running, folder, tmp_path), run_shards=partial(process_backend.run_shards, workers=2)
    )
    assert (tmp_path / "flag").exists()
    assert (summary.sums["samples"], summary.done) == (7, 3)
    monkeypatch.setattr(process_backend, "process_shard", kill_at_second)
    summary = running("verify", str(tmp_path / "packed"), run_shards=partial(process_backend.run_shards, workers=2))
    assert (summary.sums["samples"], summary.done) == (4, 3)
    assert [(error["key"], error["again"]) for error in summary.errors] == [("shard-000001", True)]


def packed(running: Running, folder: str, tmp_path: Path) -> str:
    running("encode", folder, str(tmp_path / "packed"))
    return str(tmp_path / "packed")


def test_command_killed_run_is_resumed(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sdtrt",
        "dataset",
        "encode",
        folder,
        str(out),
        "--shard-size",
        "1",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command)
    end = time.monotonic() + HANG
    while not list(out.glob(".shards/*.json")):
        assert time.monotonic() < end
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.01)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["samples"], said["shards"], said["errors"]) == (7, 7, [])
    assert said["skipped"] >= 1
    keys = [key for line in (out / "manifest.jsonl").read_text().splitlines()[1:] for key in json.loads(line)["keys"]]
    assert sorted(keys) == sorted(set(keys))
    assert len(keys) == 7


def test_commands_encode_decode_latents_stats_verify(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, back = str(tmp_path / "packed"), str(tmp_path / "back")
    assert cli.main(["dataset", "encode", folder, packed, "-q", "30", "--form", "tar"]) == 0
    assert "7" in capsys.readouterr().err
    assert cli.main(["dataset", "decode", packed, back, "--format", "webp"]) == 0
    assert len(list(Path(back).rglob("*.webp"))) == 7
    assert cli.main(["dataset", "latents", packed, f"{back}/npy", "--quiet"]) == 0
    capsys.readouterr()
    assert cli.main(["dataset", "stats", packed]) == 0
    assert f"{packed}: 7 samples in 1 shard, " in capsys.readouterr().out
    assert cli.main(["dataset", "verify", packed]) == 0
    (tmp_path / "packed" / "shard-000000.tar").unlink()
    assert cli.main(["dataset", "verify", packed]) == 1
    assert "shard-000000.tar is missing" in capsys.readouterr().err
    for wrong in (["nothing", packed], [folder, packed, "-q", "0"], [folder, packed, "--max-bytes", "9", "--bpp", "1"]):
        try:
            code = cli.main(["dataset", "encode", *wrong])
        except SystemExit as error:
            code = error.code
        assert code == 2
