"""`gpu_check.py` from end to end on the emulated device: all that it does on a GPU, which is at hand for minutes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from environment import HANG

ROOT = Path(__file__).parents[2]
SECTIONS = {
    *("tests", "bandwidth", "parity", "tiny-trt", "tiny-ort", "torch", "sd1-torch", "export", "sd1-trt", "sd1-ort"),
    *("graph-edits", "memory", "training", "torch-compiled"),
}
KERNELS = {
    *("quantize", "dequantize, offsets", "dequantize, points", "step", "pixels to planes", "planes to pixels"),
    *("add residual", "put overlay"),
}
CALLS = {f"{call} 64x64, batch 2" for call in ("encode", "decode", "analyse", "synthesise")}
TORCH_CALLS = {f"{call} 64x64, batch 2" for call in ("encode", "decode")}

pytestmark = pytest.mark.slow


def command(out: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--rehearse", "--out", str(out), *arguments]


def rehearse(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *arguments), capture_output=True, text=True, cwd=out.parent, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a rehearsal of everything."""
    out = tmp_path_factory.mktemp("whole") / "results.json"
    done = rehearse(out)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SECTIONS:
        assert f"{name}: begins" in done.stdout
    return out


def sections(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text())["sections"]


def test_every_section_has_figures_or_says_why_not(whole: Path) -> None:
    found = sections(whole)
    assert found.keys() == SECTIONS
    assert {name for name, one in found.items() if "not measured" in one} == {"tiny-trt", "sd1-trt"}
    for name, one in found.items():
        assert "failed" not in one
        assert one["seconds"] > 0
        assert bool(one["figures"]) == ("not measured" not in one), name
    for name in ("tiny-trt", "sd1-trt"):
        assert "TensorRT" in found[name]["not measured"] or "engine" in found[name]["not measured"]


def test_figures(whole: Path) -> None:
    figures = {name: one["figures"] for name, one in sections(whole).items()}
    assert figures["tests"]["counts"]["passed"] > 60
    assert figures["bandwidth"].keys() == KERNELS | {"kernels", "copy"}
    assert "sm_90" in figures["bandwidth"]["kernels"]["architectures"]
    assert figures["tiny-ort"].keys() == figures["sd1-ort"].keys() == CALLS
    assert figures["torch"].keys() == TORCH_CALLS
    assert figures["torch-compiled"].keys() == TORCH_CALLS | {"compiler"}
    assert figures["sd1-torch"].keys() == CALLS | {"parity"}
    for name in ("tiny-ort", "sd1-ort", "torch"):
        assert all(0 < ms["p50"] <= ms["p99"] and ms["runs"] == 3 for ms in figures[name].values())
    assert all(0 < one["relative_error"] < 0.01 for one in figures["export"].values())
    edits = figures["graph-edits"]
    assert edits["upsampling, channels first, 64x64"]["edits"] == [3]
    assert all(one["relative_error"] < 0.01 for one in edits.values() if "not measured" not in one)
    assert "GroupNorm" in edits["both, channels last"]["not measured"]
    assert figures["memory"]["ort"]["decodes"] == 40
    assert figures["training"]["joint"]["seconds_per_iteration"] > 0


def test_pictures_are_those_of_the_cpu(whole: Path) -> None:
    """The emulated device's are, to the last bit."""
    figures = {name: one["figures"] for name, one in sections(whole).items()}
    for found in (figures["parity"]["ort, decoded"], figures["sd1-torch"]["parity"]):
        assert (found["largest_difference"], found["equal_share"]) == (0, 1)
    assert figures["parity"]["ort, encoded"] == {"least_bytes": 1, "most_bytes": 1}


def test_again_goes_on_with_what_is_missing(whole: Path) -> None:
    before = sections(whole)
    kept = json.loads(whole.read_text())
    del kept["sections"]["memory"]
    whole.write_text(json.dumps(kept))
    done = rehearse(whole, "--sections", "bandwidth,parity,memory")
    assert [line for line in done.stdout.splitlines() if "begins" in line] == ["memory: begins"]
    after = sections(whole)
    assert after.keys() == SECTIONS
    assert {n: one for n, one in after.items() if n != "memory"} == {n: o for n, o in before.items() if n != "memory"}
    assert "bandwidth: begins" in rehearse(whole, "--sections", "bandwidth", "--again").stdout


def test_a_section_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    chosen = "sd1-ort", "export", "bandwidth"
    done = rehearse(out, "--sections", ",".join(chosen), "--bundle", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout.endswith("sd1-ort failed\n")
    found = sections(out)
    assert found["sd1-ort"]["failed"]["error"].startswith("BundleError: no model named")
    assert "BundleError" in found["sd1-ort"]["failed"]["traceback"][-1]
    assert "none is measured instead" in found["export"]["not measured"]
    assert found["bandwidth"]["figures"].keys() == KERNELS | {"kernels", "copy"}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are looked up in /proc")
def test_a_section_whose_process_dies_costs_itself_alone(tmp_path: Path) -> None:
    """As a fault of the GPU may end it."""
    out = tmp_path / "results.json"
    running = subprocess.Popen(command(out, "--sections", "torch,bandwidth"), stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "torch: begins\n"
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + HANG
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int(found[0]), signal.SIGKILL)
    printed, _ = running.communicate(timeout=HANG)
    assert running.returncode == 1, printed
    assert sections(out)["torch"]["failed"] == {"error": "its process ended with -9"}
    assert sections(out)["bandwidth"]["figures"].keys() == KERNELS | {"kernels", "copy"}


def test_results_of_another_device_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    out.write_text(json.dumps({"gpu": "another", "sections": {}}))
    done = rehearse(out, "--sections", "bandwidth")
    assert done.returncode == 2
    assert "results of another, this is emulated" in done.stderr
    assert json.loads(out.read_text())["gpu"] == "another"


@pytest.mark.parametrize("out", [None, ROOT / "benchmarks" / "results" / "rehearsal.json"])
def test_a_rehearsal_is_no_result(out: Path | None) -> None:
    arguments = ["--rehearse", *(["--out", str(out)] if out else [])]
    script = str(ROOT / "benchmarks" / "gpu_check.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no measurement" in done.stderr
    assert out is None or not out.exists()


def test_unknown_sections_are_refused(tmp_path: Path) -> None:
    done = rehearse(tmp_path / "results.json", "--sections", "bandwidth,other")
    assert done.returncode == 2
    assert "no sections other; there are: tests, bandwidth" in done.stderr
