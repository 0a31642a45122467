"""Real engines, built by TensorRT for RTX without a GPU."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from sdtrt.engine.networks.backends import trt_library as trt
from sdtrt.engine.networks.backends.engine_index import EngineIndex, kernels_file, require_valid
from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.engine.networks.backends.shapes import ShapeRange
from sdtrt.engine.networks.backends.trt import TensorRt, usable_engines
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.pipeline import open_pipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.export import engines
from sdtrt.export.engines import EngineBuildOptions, build_engines

Run = Callable[..., Any]
SMALL = "64x64"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sdtrt" / "engines" / "tiny"


def listed(run_cli: Run) -> list[tuple[str, str, str]]:
    entries = json.loads(run_cli("engines", "list", "--json").stdout)
    return [(e["key"]["network"], e["key"]["target"], e["state"]["kind"]) for e in entries]


def test_engines_build_list_and_clean(run_cli: Run, cache: Path) -> None:
    first = run_cli("engines", "build", "--target", "sm89,sm120", "--shapes", SMALL)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count(b"built in") == 6
    again = run_cli("engines", "build", "--target", "sm89,sm120")
    assert again.stdout.count(b"kept") == 6
    assert b"nothing to build for tiny: 6 engines valid" in again.stdout
    everything = [(n, t, "valid") for n in ("encoder", "decoder", "fast") for t in ("sm89", "sm120")]
    assert sorted(listed(run_cli)) == sorted(everything)
    (cache / "stray.engine").write_bytes(b"x")
    (cache / "notes.txt").write_bytes(b"x")
    assert b"removed 0 engines and 1 file that no index lists; engines left: 6" in run_cli("engines", "clean").stdout
    assert b"removed 6 engines" in run_cli("engines", "clean", "--all").stdout
    assert b"tiny has no engines" in run_cli("engines", "list").stdout
    assert sorted(path.name for path in cache.iterdir()) == ["engines.json", "notes.txt"]


def test_build_engines_other_shapes_replace_old_engines(run_cli: Run, cache: Path) -> None:
    assert run_cli("engines", "build", "--shapes", SMALL).returncode == 0
    before = {plan.file for plan in EngineIndex.of(find_bundle("tiny")).engines}
    assert run_cli("engines", "build", "--shapes", "64x64..64x128..128x128*2").returncode == 0
    index = EngineIndex.of(find_bundle("tiny"))
    assert index.shapes == ("64x64..64x128..128x128*2",)
    assert before.isdisjoint(plan.file for plan in index.engines)
    assert {path.name for path in cache.glob("*.engine")} == {plan.file for plan in index.engines}


def test_build_engines_truncated_engine_is_rebuilt(cache: Path) -> None:
    bundle = find_bundle("tiny")
    order = EngineBuildOptions(bundle, ("portable",), shapes=(SMALL,))
    plan = build_engines(order)[1]
    data = (cache / plan.file).read_bytes()
    (cache / plan.file).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="run: sdtrt engines build tiny"):
        require_valid(bundle, plan)
    built = []
    build_engines(order, lambda plan, fresh: built.append(fresh))
    assert built == [False, True, False]
    assert (cache / plan.file).stat().st_size > len(data) // 2


def test_library_fault_malformed_engine_is_reported(cache: Path) -> None:
    library = trt.import_tensorrt("tensorrt_rtx")
    plan = build_engines(EngineBuildOptions(find_bundle("tiny"), ("sm89",), shapes=(SMALL,)))[0]
    assert library.engine_fault(cache / plan.file) is None
    (cache / "other").write_bytes(b"no engine" * 100)
    assert library.engine_fault(cache / "other") == "malformed engine"


@pytest.mark.parametrize("target", ["sm90", "sm11", "h200"])
def test_build_engines_unknown_target_raises(target: str) -> None:
    with pytest.raises(DeviceError, match=f"not build for {target}; expected .*sm120"):
        build_engines(EngineBuildOptions(find_bundle("tiny"), (target,)))


@pytest.mark.parametrize("shapes", ["63x64", "64x64,63x64", "huge", "262144x262144", "64x64,", f"{10**20}x8"])
def test_build_engines_invalid_shapes_raise(run_cli: Run, cache: Path, shapes: str) -> None:
    done = run_cli("engines", "build", "--shapes", shapes)
    assert done.returncode == 2
    assert b"shapes" in done.stderr
    assert not cache.exists()


def test_canonical_shapes_removes_duplicates(cache: Path) -> None:
    bundle = find_bundle("tiny")
    first, *_ = build_engines(EngineBuildOptions(bundle, ("sm89", "sm89"), shapes=("64x64*1", "064x64..64x64..64x64")))
    assert EngineIndex.of(bundle).shapes == ("64x64",)
    assert build_engines(EngineBuildOptions(bundle, ("sm89",)))[0] == first


@pytest.mark.parametrize("option", [("--workspace", "-5"), ("--workspace", "9999999999"), ("--library", "os")])
def test_engines_build_invalid_options_fail(run_cli: Run, option: tuple[str, str]) -> None:
    assert run_cli("engines", "build", *option).returncode == 2


def test_engines_build_quiet_prints_nothing(run_cli: Run) -> None:
    done = run_cli("engines", "build", "--shapes", SMALL, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_choose_library_tensorrt_without_gpu_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trt.import_tensorrt("tensorrt_rtx")

    class Proper(trt.Library):
        needs_no_gpu = False

    monkeypatch.setattr(engines, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(engines, "import_tensorrt", lambda name: Proper("tensorrt", "10.16", real.module))
    monkeypatch.setattr(engines, "architecture", _no_gpu)
    with pytest.raises(DeviceError, match=r"tensorrt builds on the GPU.*no GPU here.*tensorrt-rtx"):
        build_engines(EngineBuildOptions(find_bundle("tiny")))


def test_choose_library_without_tensorrt_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed", list)
    with pytest.raises(DeviceError, match=r"no TensorRT.*pip install .*\[tensorrt\]"):
        build_engines(EngineBuildOptions(find_bundle("tiny")))


def _no_gpu() -> str:
    raise DeviceError("no GPU here")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[defaultAllocator.cpp] Requested amount of GPU memory could not be allocated: OutOfMemory", DeviceError),
        ("Could not find any implementation for node {ForeignNode[...]}", DeviceError),
        ("Assertion failed: shape mismatch", BundleError),
    ],
)
def test_build_error_distinguishes_out_of_memory(line: str, kind: type[Exception]) -> None:
    log = trt.Log(trt.import_tensorrt("tensorrt_rtx").module)
    log.lines.append(line)
    error = engines.build_error("decoder", log)
    assert type(error) is kind
    assert line in str(error)


def test_build_engines_wrong_hash_raises(tmp_path: Path, cache: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(find_bundle("tiny").folder, copy)
    with (copy / "decoder.onnx").open("r+b") as file:
        file.seek(-9, 2)
        file.write(b"!")
    with pytest.raises(BundleError, match=r"decoder\.onnx is damaged"):
        build_engines(EngineBuildOptions(find_bundle(copy), ("sm89",), shapes=(SMALL,)))
    assert len(EngineIndex.of(find_bundle(copy)).engines) == 1  # the encoder's


def test_usable_engines_fewest_sizes_first_and_remedy_without_engines(cache: Path) -> None:
    """Those for the fewest sizes come first; where there is none, what to run is said."""
    bundle = find_bundle("tiny")
    with pytest.raises(BundleError, match=r"no engine of tiny's encoder \(none was built\); run: sdtrt engines build"):
        usable_engines(bundle, "encoder")
    shapes = ("64x64..64x64..128x128*2", "64x64")
    build_engines(EngineBuildOptions(bundle, ("portable",), shapes=shapes))
    found = [ShapeRange.parse(plan.key.shapes) for plan in usable_engines(bundle, "decoder")]
    assert [str(one) for one in found] == ["64x64", shapes[0]]
    assert [one.covers((1, 64, 64)) for one in found] == [True, True]
    assert [one.covers((2, 72, 64)) for one in found] == [False, True]
    assert [one.covers((3, 64, 64)) for one in found] == [False, False]


def test_load_engine_without_gpu_raises(cache: Path) -> None:
    with contextlib.suppress(DeviceError):
        pytest.skip(f"there is a GPU: {architecture()}")
    bundle = find_bundle("tiny")
    build_engines(EngineBuildOptions(bundle, ("portable",), shapes=(SMALL,)))
    with pytest.raises(BundleError, match=r"tensorrt_rtx .* cannot load encoder-.*CUDA driver"):
        TensorRt(cast(Any, None)).load(bundle, "encoder")
    with pytest.raises(DeviceError, match=r"(?s)trt on cuda: no GPU.*--device cpu"):
        open_pipeline(TiledRunner.of(bundle), "trt")


def test_delete_engines_removes_compiled_caches(run_cli: Run, cache: Path) -> None:
    bundle = find_bundle("tiny")
    plan = build_engines(EngineBuildOptions(bundle, ("portable",), shapes=(SMALL,)))[0]
    kernels_file(cache / plan.file).write_bytes(b"kernels")
    assert run_cli("engines", "clean", "--all").returncode == 0
    assert [path.name for path in cache.iterdir()] == ["engines.json"]
