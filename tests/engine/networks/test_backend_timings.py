"""Measured times of the backends, and the choice that `auto` makes by them."""

import sys
from pathlib import Path

import pytest
from extras import needs

from sdtrt import Codec
from sdtrt.doctor import examine
from sdtrt.doctor import measure as measure_and_save
from sdtrt.engine import backend_benchmark
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.networks import backend_timings
from sdtrt.engine.networks.backend_timings import BackendTiming, by_speed, load_timings, save_timings
from sdtrt.engine.networks.backends import openvino
from sdtrt.engine.networks.backends.cache import Cache
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.pipeline import BACKENDS_BY_SPEED, available_on_cpu, candidates
from sdtrt.errors import DeviceError

FP32 = BackendTiming("ort", "fp32", first_ms=300, decode_ms=200)
INT8 = BackendTiming("ort", "int8", first_ms=400, decode_ms=100)
OPENVINO = BackendTiming("openvino", "int8", first_ms=500, decode_ms=50)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sdtrt" / "backends"


def names(precision: str = "auto", *, single_call: bool = False) -> list[tuple[str, str]]:
    """Return the candidates on the CPU."""
    found = candidates(precision, single_call=single_call)
    return [(backend.name, wanted) for backend, wanted in found if backend.device == "cpu"]


def precision_of(codec: EngineCodec) -> str:
    return "int8" if codec.pipeline._loader.int8 else "fp32"  # type: ignore[attr-defined]


def test_without_times_the_order_is_that_of_the_list() -> None:
    assert load_timings() == []
    assert [backend for backend, _ in candidates("auto", single_call=False)] == [*BACKENDS_BY_SPEED]


def test_times_are_kept_and_order_the_backends_on_the_cpu(cache: Path) -> None:
    assert save_timings([FP32, INT8, OPENVINO])
    assert load_timings() == [FP32, INT8, OPENVINO]
    assert names()[:3] == [("openvino", "int8"), ("ort", "int8"), ("ort", "fp32")]
    assert names(single_call=True)[:3] == [("ort", "fp32"), ("ort", "int8"), ("openvino", "int8")]
    assert names("fp32")[0] == ("ort", "fp32")
    first = next(candidates("auto", single_call=False))
    assert first[0].device == "cuda", "a GPU comes first"


def test_eight_bits_must_gain_a_tenth() -> None:
    hardly_faster = BackendTiming("ort", "int8", first_ms=290, decode_ms=190)
    assert by_speed([hardly_faster, FP32], single_call=False) == [FP32, hardly_faster]


def test_codecs_take_the_fastest_backend_and_precision() -> None:
    save_timings([FP32, INT8])
    with Codec.open(device="cpu") as codec:
        assert codec._engine_codec is not None
        assert precision_of(codec._engine_codec) == "int8"
    assert precision_of(EngineCodec("tiny", device="cpu", single_call=True)) == "fp32"
    assert precision_of(EngineCodec("tiny", device="cpu", precision="fp32", backend="ort")) == "fp32"


def test_a_measured_backend_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    save_timings([INT8])
    usual = OrtCpu.unavailable_reason

    def without_int8(bundle: object, index: int, precision: str) -> str:
        return "none" if precision == "int8" else usual(bundle, index, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(OrtCpu, "unavailable_reason", staticmethod(without_int8))
    assert precision_of(EngineCodec("tiny", device="cpu", backend="ort")) == "fp32"


@pytest.mark.parametrize(
    ("dependency", "value"),
    [("_processor", lambda: "another"), ("available_cpus", lambda: 99), ("__version__", "99")],
)
def test_times_of_another_machine_or_version_do_not_count(
    dependency: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_timings([FP32])
    monkeypatch.setattr(backend_timings, dependency, value)
    assert load_timings() == []


def test_a_damaged_file_counts_as_none(cache: Path) -> None:
    save_timings([FP32])
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert load_timings() == []


@pytest.mark.parametrize(
    "contents",
    [
        b"null",
        b"3",
        b"{",
        b"\xff",
        b'[{"backend": "ort"}]',
        b'[{"backend": "ort", "precision": "fp16", "first_ms": 1, "decode_ms": 1}]',
        b'[{"backend": [], "precision": "fp32", "first_ms": 1, "decode_ms": 1}]',
        b'[{"backend": "ort", "precision": "fp32", "first_ms": "a", "decode_ms": 1}]',
        b'[{"backend": "ort", "precision": "fp32", "first_ms": NaN, "decode_ms": 1}]',
    ],
)
def test_a_file_of_another_version_counts_as_none(contents: bytes) -> None:
    save_timings([FP32])
    Cache("backends", 1 << 16).put(backend_timings._file_name(), contents)
    assert load_timings() == []


def test_times_in_a_folder_that_can_only_be_read_count(monkeypatch: pytest.MonkeyPatch) -> None:
    save_timings([FP32])

    def touch(path: Path) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(Path, "touch", touch)
    assert load_timings() == [FP32]


def test_without_openvino_only_onnx_runtime_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("cpu")
    openvino._started_core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert available_on_cpu(find_bundle("tiny")) == [("ort", "fp32"), ("ort", "int8")]
    monkeypatch.undo()
    openvino._started_core.cache_clear()


def test_measured_bf16_leaves_the_precision_to_openvino() -> None:
    """In `auto` OpenVINO computes a network in fp32 if bf16 breaks it; in `bf16` it refuses the network."""
    save_timings([BackendTiming("openvino", "bf16", first_ms=1, decode_ms=1), FP32])
    assert names()[0] == ("openvino", "auto")
    assert names("bf16")[0] == ("openvino", "bf16")


def test_doctor_shows_times_and_what_auto_takes() -> None:
    def lines() -> dict[str, str]:
        return {finding.subject: finding.detail for finding in examine() if finding.subject.startswith("time of")}

    assert list(lines()) == ["time of backends"]
    save_timings([FP32, INT8])
    assert lines()["time of ort int8"].endswith("the fastest on the CPU for many images")
    assert lines()["time of ort fp32"].endswith("the fastest on the CPU for one image")


def test_a_backend_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("cpu")
    monkeypatch.setattr(backend_benchmark, "available_on_cpu", lambda bundle: [("ort", "fp32")])
    messages = list[str]()
    measure_and_save(messages.append)
    assert messages == ["timing ort in fp32 (1 of 1)"]
    (timing,) = load_timings()
    assert (timing.backend, timing.precision) == ("ort", "fp32")
    assert timing.first_ms > timing.decode_ms > 0


def test_a_backend_that_fails_is_named_and_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("cpu")
    monkeypatch.setattr(backend_benchmark, "available_on_cpu", lambda bundle: [("ort", "bf16"), ("ort", "fp32")])
    (failure,) = measure_and_save()
    assert failure.startswith("backend ort in bf16 cannot be measured")
    assert [timing.precision for timing in load_timings()] == ["fp32"]
    monkeypatch.setattr(backend_benchmark, "available_on_cpu", lambda bundle: [("ort", "bf16")])
    with pytest.raises(DeviceError, match="no backend can be measured"):
        measure_and_save()


def test_measuring_runs_no_code_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("cpu")
    (tmp_path / "numpy.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend_benchmark, "available_on_cpu", lambda bundle: [("ort", "fp32")])
    assert measure_and_save() == []


def test_a_cache_that_cannot_be_written_is_a_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir()
    cache.write_text("a file")
    monkeypatch.setattr("sdtrt.doctor.measure_backends", lambda report: ([FP32], []))
    (failure,) = measure_and_save()
    assert "cannot be written into" in failure
    assert "XDG_CACHE_HOME" in failure
