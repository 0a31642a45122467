"""Shards on a real cluster of Ray's, on this machine: two nodes, one of which dies."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("ray")

CHILD = Path(__file__).with_name("cluster.py")
COUNT = 40


@pytest.mark.slow
def test_a_node_that_dies(tmp_path: Path, picture_files: dict[str, bytes]) -> None:
    pictures = list(picture_files.values())
    (tmp_path / "in").mkdir()
    for n in range(COUNT):
        (tmp_path / "in" / f"{n:03d}.png").write_bytes(pictures[n % len(pictures)])
    with tempfile.TemporaryDirectory() as short:  # Ray's sockets lie there, whose names must be
        environment = os.environ | {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, CHILD, tmp_path / "in", tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert 5 <= said["done_when_killed"] < COUNT
    assert (said["samples"], said["errors"]) == (COUNT, [])
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1:]
    keys = [key for line in lines for key in json.loads(line)["keys"]]
    assert keys == [f"{n:03d}" for n in range(COUNT)]
    assert len(list((tmp_path / "out").glob("*.sdt"))) == COUNT
