"""The choice of a backend, and the messages about backends that are not available."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.networks import cpu_pipeline
from sdtrt.engine.networks.backends import BACKENDS, thread_count
from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.engine.networks.backends.openvino import OpenVino
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.pipeline import BACKENDS_BY_SPEED, open_pipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.process import threads as coding_threads

TINY = find_bundle("tiny")
TILED = TiledRunner.of(TINY)


def test_backend_names_are_those_of_the_command_line() -> None:
    assert ("auto", *dict.fromkeys(backend.name for backend in BACKENDS_BY_SPEED)) == BACKENDS


def test_open_pipeline_unknown_name_raises() -> None:
    with pytest.raises(ValueError, match=r"'nonesuch'.*auto, trt, ort, openvino"):
        open_pipeline(TILED, "nonesuch")
    with pytest.raises(ValueError, match=r"'fp16'.*auto, fp32, bf16"):
        open_pipeline(TILED, precision="fp16")
    for device in ("nonesuch", "cuda:", "cuda:x", "cpu:1", "cuda:1:2"):
        with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
            open_pipeline(TILED, device=device)


@pytest.mark.parametrize(
    ("backend", "device", "words"),
    [
        ("auto", "cuda", r"trt on cuda: .*\n  ort on cuda: "),
        ("trt", "auto", "trt on cuda: "),
        ("ort", "cuda:1", "ort on cuda: "),
        ("trt", "cpu", "trt does not run on device cpu"),
        ("openvino", "cuda", "openvino does not run on device cuda"),
    ],
)
def test_open_pipeline_without_backend_names_each_reason(backend: str, device: str, words: str) -> None:
    if has_gpu():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=words):
        open_pipeline(TILED, backend, device)


def has_gpu() -> bool:
    try:
        return bool(architecture())
    except DeviceError:
        return False


@pytest.mark.parametrize("threads", [0, -1])
def test_ort_threads_below_1_raises(threads: int) -> None:
    with pytest.raises(ValueError, match="threads"):
        OrtCpu(threads)


def test_open_pipeline_ort_with_bf16_raises() -> None:
    open_pipeline(TILED, "ort", "cpu", precision="fp32")
    with pytest.raises(DeviceError, match="ort on cpu: ONNX Runtime computes in fp32"):
        open_pipeline(TILED, "ort", "cpu", precision="bf16")


@pytest.mark.parametrize(("backend", "device"), [("auto", "cpu"), ("ort", "cpu")])
def test_open_pipeline_analyses_on_the_cpu(backend: str, device: str) -> None:
    latents = open_pipeline(TILED, backend, device, 1).analyse([np.zeros((16, 24, 3), np.uint8)])[0]
    assert latents.shape == (40, 2, 3)
    assert latents.dtype == np.float32


def test_ort_load_of_malformed_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(BundleError, match=r"not\.onnx cannot be opened"):
        OrtCpu(1).load(path)


WITHOUT = """
import sys
sys.modules["onnxruntime"] = sys.modules["openvino"] = None  # makes their imports fail
import numpy as np
import sdtrt
try:
    sdtrt.encode(np.zeros((8, 8, 3), np.uint8))
except sdtrt.DeviceError as error:
    print(error)
sdtrt.info(bytes.fromhex(sys.argv[1]))
sdtrt.verify(bytes.fromhex(sys.argv[1]))
"""


def test_encode_without_onnxruntime_names_the_extra(real_files: dict[str, bytes]) -> None:
    """`info` and `verify` need no networks, so they still work."""
    command = [sys.executable, "-c", WITHOUT, real_files["grey"].hex()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "[cpu]" in done.stdout
    assert "[openvino]" in done.stdout


@pytest.mark.parametrize(("allowed", "cores", "threads"), [(1, 4, 1), (3, 64, 3), (4, 4, 0), (2, None, 0)])
def test_ort_threads_in_restricted_process_equal_allowed_cores(
    monkeypatch: pytest.MonkeyPatch, allowed: int, cores: int | None, threads: int
) -> None:
    """Affinity or a quota restricts a process. ONNX Runtime takes 0 for all cores of the machine."""
    monkeypatch.setattr(coding_threads, "available_cpus", lambda: allowed)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    for asked, expected in ((None, threads), (2, 2)):
        options = OrtCpu(asked).load(TINY.file("decoder.onnx"))._session.get_session_options()
        assert options.intra_op_num_threads == expected
    codec = sdtrt.Codec.open(backend="ort", device="cpu")._opened()
    session = codec.pipeline._loader.load(TINY.file("decoder.onnx"))._session
    assert session.get_session_options().intra_op_num_threads == threads


@pytest.mark.parametrize(("allowed", "cores", "expected"), [(1, 4, 1), (4, 4, None), (6, 4, None)])
def test_thread_count_in_unrestricted_process_is_none(
    monkeypatch: pytest.MonkeyPatch, allowed: int, cores: int, expected: int | None
) -> None:
    monkeypatch.setattr(coding_threads, "available_cpus", lambda: allowed)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert thread_count(None) == expected
    assert thread_count(7) == 7


def test_openvino_threads_in_restricted_process_equal_allowed_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(coding_threads, "available_cpus", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    network = OpenVino(precision="fp32").load(TINY.file("decoder.onnx"))
    assert network._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_batches_of_large_networks_run_one_image_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of a large network lie in a file beside it."""
    folder = tmp_path / "tiny"
    shutil.copytree(TINY.folder, folder)
    tiled = TiledRunner.of(Bundle.open(folder))
    assert CpuPipeline(OrtCpu(3), tiled).for_batches()[1] == 3
    monkeypatch.setattr(cpu_pipeline, "MAX_NBYTES_AT_ONCE", sum(path.stat().st_size for path in folder.iterdir()) // 2)
    pipeline = CpuPipeline(OrtCpu(3), tiled)
    assert pipeline.for_batches() == (pipeline, 1)
