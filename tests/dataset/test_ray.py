"""Shards on real Ray clusters on this machine: a killed driver, and a node that dies."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from environment import HANG

CHILD = Path(__file__).with_name("cluster.py")
COUNT, KILLED_AFTER = 40, 5  # images, each a shard of its own; finished shards when a process is killed
FAST_DETECTION = {  # of a dead node: by default it takes 15 seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
}


class RunningCluster:
    """A process of `cluster.py`, and the address of its cluster."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address: str = self._read()["address"]

    def encode_and_kill_node(self, source: Path, destination: Path) -> dict[str, Any]:
        """Encode a folder, kill a node meanwhile, and return the figures of the run."""
        self._process.stdin.write(f"{json.dumps([str(source), str(destination)])}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        lines = iter(self._process.stdout.readline, "")  # libraries may print lines, too
        return json.loads(next(line for line in lines if line.startswith("{")))


def make_images(image_files: dict[str, bytes], folder: Path) -> Path:
    """Write `COUNT` images to a new folder."""
    images = list(image_files.values())
    folder.mkdir()
    for n in range(COUNT):
        (folder / f"{n:03d}.png").write_bytes(images[n % len(images)])
    return folder


@pytest.fixture(scope="module")
def ray_environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short:  # the paths of Ray's sockets must be short
        variables = {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
        patience = {"RAY_raylet_start_wait_time_s": str(HANG)}  # for the start of a node; by default 30 seconds
        yield os.environ | variables | patience


@pytest.fixture(scope="module")
def cluster(ray_environment: dict[str, str]) -> Iterator[RunningCluster]:
    command = [sys.executable, str(CHILD)]
    environment = ray_environment | FAST_DETECTION
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        limit = Timer(HANG, process.kill)
        limit.start()
        yield RunningCluster(process)
        process.stdin.close()
        process.wait()
        limit.cancel()


@pytest.mark.slow
def test_ray_command_killed_and_run_again_skips_finished_shards(
    ray_environment: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path, image_files: dict[str, bytes]
) -> None:
    """The command of the README: the first run starts a cluster of its own, the second run uses a running cluster."""
    command = "sdtrt dataset encode holiday/ out/ --ray auto"
    assert command in (CHILD.parents[2] / "README.md").read_text("utf-8")
    make_images(image_files, tmp_path / "holiday")
    arguments = [sys.executable, "-m", *command.split(), "--shard-size", "1", "--json"]
    records = tmp_path / "out" / ".shards"
    process = subprocess.Popen(arguments, cwd=tmp_path, env=ray_environment)
    end = time.monotonic() + HANG
    while not records.is_dir() or len(list(records.iterdir())) < KILLED_AFTER:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.wait()
    environment = ray_environment | {"RAY_ADDRESS": request.getfixturevalue("cluster").address}
    done = subprocess.run(arguments, capture_output=True, check=True, timeout=HANG, cwd=tmp_path, env=environment)
    result = json.loads(done.stdout)
    assert KILLED_AFTER <= result["skipped"] < COUNT
    assert (result["samples"], result["errors"]) == (COUNT, [])
    assert {path.stem for path in (tmp_path / "out").glob("*.sdt")} == {f"{n:03d}" for n in range(COUNT)}


@pytest.mark.slow
def test_ray_node_that_dies_loses_no_sample(
    cluster: RunningCluster, tmp_path: Path, image_files: dict[str, bytes]
) -> None:
    source = make_images(image_files, tmp_path / "photos")
    result = cluster.encode_and_kill_node(source, tmp_path / "out")
    assert KILLED_AFTER <= result["done_when_killed"] < COUNT
    assert (result["samples"], result["errors"]) == (COUNT, [])
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1:]
    keys = [key for line in lines for key in json.loads(line)["keys"]]
    assert keys == [f"{n:03d}" for n in range(COUNT)]
    assert len(list((tmp_path / "out").glob("*.sdt"))) == COUNT
