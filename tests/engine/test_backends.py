"""The choice of a backend, and what is said where one is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdtrt.engine.backends import open_backend
from sdtrt.engine.bundle import find_bundle
from sdtrt.errors import BundleError, DeviceError


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"'nonesuch'.*auto, ort"):
        open_backend("nonesuch")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "nonesuch"])
def test_other_devices(device: str) -> None:
    with pytest.raises(DeviceError, match="cpu"):
        open_backend("auto", device)


@pytest.mark.parametrize("threads", [0, -1])
def test_thread_count(threads: int) -> None:
    with pytest.raises(ValueError, match="threads"):
        open_backend(threads=threads)


@pytest.mark.parametrize(("backend", "device"), [("auto", "auto"), ("ort", "cpu")])
def test_runs(backend: str, device: str) -> None:
    network = open_backend(backend, device, 1).load(find_bundle("tiny").file("encoder.onnx"))
    outputs = network.run({"pixels": np.zeros((1, 3, 16, 24), np.float32)})
    assert outputs["latents"].shape == (1, 40, 2, 3)
    assert outputs["latents"].dtype == np.float32


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(BundleError, match=r"not\.onnx cannot be opened"):
        open_backend(threads=1).load(path)


WITHOUT = """
import sys
sys.modules["onnxruntime"] = None  # makes the import fail
import numpy as np
import sdtrt
try:
    sdtrt.encode(np.zeros((8, 8, 3), np.uint8))
except sdtrt.DeviceError as error:
    print(error)
sdtrt.info(bytes.fromhex(sys.argv[1]))
sdtrt.verify(bytes.fromhex(sys.argv[1]))
"""


def test_without_onnxruntime_the_extra_is_named(real_files: dict[str, bytes]) -> None:
    """And what needs no networks works all the same."""
    command = [sys.executable, "-P", "-c", WITHOUT, real_files["grey"].hex()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'sdtrt[cpu]'" in done.stdout
