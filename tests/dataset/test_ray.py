"""Shards on a real cluster of Ray's, on this machine: two nodes, one of which dies."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from environment import HANG

CHILD = Path(__file__).with_name("cluster.py")
COUNT, KILLED_AFTER = 40, 5


def folder_of(picture_files: dict[str, bytes], root: Path) -> Path:
    """Return a folder of `COUNT` pictures."""
    pictures, folder = list(picture_files.values()), root / "photos"
    folder.mkdir()
    for n in range(COUNT):
        (folder / f"{n:03d}.png").write_bytes(pictures[n % len(pictures)])
    return folder


@contextmanager
def rays_environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short:  # Ray's sockets lie there: short names
        patience = {"RAY_raylet_start_wait_time_s": str(HANG)}  # for a node to start, 30 seconds otherwise
        yield os.environ | {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"} | patience


@pytest.mark.slow
def test_a_node_that_dies(tmp_path: Path, picture_files: dict[str, bytes]) -> None:
    command = [sys.executable, CHILD, folder_of(picture_files, tmp_path), tmp_path / "out"]
    with rays_environment() as environment:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert KILLED_AFTER <= said["done_when_killed"] < COUNT
    assert (said["samples"], said["errors"]) == (COUNT, [])
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1:]
    keys = [key for line in lines for key in json.loads(line)["keys"]]
    assert keys == [f"{n:03d}" for n in range(COUNT)]
    assert len(list((tmp_path / "out").glob("*.sdt"))) == COUNT


@pytest.mark.slow
def test_the_command_that_is_killed_and_run_again(tmp_path: Path, picture_files: dict[str, bytes]) -> None:
    """As the README has it."""
    command = "sdtrt dataset encode holiday/ out/ --ray auto"
    assert command in (CHILD.parents[2] / "README.md").read_text("utf-8")
    command = command.replace("holiday/", "photos/")
    folder_of(picture_files, tmp_path)
    arguments = [sys.executable, "-m", *command.split(), "--shard-size", "1", "--json"]
    records = tmp_path / "out" / ".shards"
    with rays_environment() as environment:
        process = subprocess.Popen(arguments, cwd=tmp_path, env=environment)
        end = time.monotonic() + HANG
        while not records.is_dir() or len(list(records.iterdir())) < KILLED_AFTER:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        process.wait()
        done = subprocess.run(arguments, capture_output=True, check=True, timeout=HANG, cwd=tmp_path, env=environment)
    said = json.loads(done.stdout)
    assert KILLED_AFTER <= said["skipped"] < COUNT
    assert (said["samples"], said["errors"]) == (COUNT, [])
    assert {path.stem for path in (tmp_path / "out").glob("*.sdt")} == {f"{n:03d}" for n in range(COUNT)}
