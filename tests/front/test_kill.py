"""A batch killed at any moment: whole outputs or none, inputs as they were, and the next run does the rest."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdtrt

Photo = Callable[[int, int], np.ndarray]
MOMENTS = int(os.environ.get("SDTRT_KILLS", "6"))


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_killed_at_random_moments(photo: Photo, tmp_path: Path) -> None:
    sources = [tmp_path / f"{n}.png" for n in range(12)]
    for n, source in enumerate(sources):
        Image.fromarray(photo(90 + n, 70)).save(source)
    before = {source: source.read_bytes() for source in sources}
    command = [sys.executable, "-m", "sdtrt", "encode", "--skip-existing", *map(str, sources)]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    duration = time.monotonic() - started
    expected = {source.with_suffix(".sdt"): source.with_suffix(".sdt").read_bytes() for source in sources}
    rng = np.random.default_rng(1)
    found = []
    for _ in range(MOMENTS):
        for target in expected:
            target.unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, 1.1) * duration)
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.wait()
        left = {path: path.read_bytes() for path in tmp_path.glob("*.sdt")}
        found.append(len(left))
        assert left.items() <= expected.items()
        assert {source: source.read_bytes() for source in sources} == before
        for data in left.values():
            sdtrt.verify(data)
        subprocess.run(command, check=True, capture_output=True)
        assert {path: path.read_bytes() for path in tmp_path.glob("*.sdt")} == expected
    assert MOMENTS < 20 or len(set(found)) > 3  # the moments were those of work


def test_skip_existing(
    photo: Photo, tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    Image.fromarray(photo(30, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.sdt").write_bytes(b"mine")
    done = run_cli("encode", "--skip-existing", str(tmp_path / "a.png"))
    assert done.returncode == 0
    assert b"exists, skipped" in done.stderr
    assert (tmp_path / "a.sdt").read_bytes() == b"mine"
    assert run_cli("encode", "--skip-existing", "--force", str(tmp_path / "a.png")).returncode == 2
