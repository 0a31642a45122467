"""What `doctor` finds on a machine that has, or lacks, each thing."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from extras import needs

import sdtrt
from sdtrt.doctor import Finding, examine
from sdtrt.engine.networks.backends import gpu, trt_library
from sdtrt.errors import DeviceError

OPENVINO, ORT, ENGINES = "backend openvino, device cpu", "backend ort, device cpu", "build of engines"


def findings() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine()}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What `export.engines` finds: TensorRT libraries that are installed, each with what it can, and the GPU."""
    needs("onnx")
    from sdtrt.export import engines

    machine = SimpleNamespace(libraries={}, gpu=None)

    def imported(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, version="1.2.3", **machine.libraries[name])

    def architecture() -> str:
        if machine.gpu is None:
            raise DeviceError("no GPU 0")
        return machine.gpu

    monkeypatch.setattr(engines, "installed", lambda: [*machine.libraries])
    monkeypatch.setattr(engines, "import_tensorrt", imported)
    monkeypatch.setattr(engines, "architecture", architecture)
    return machine


def test_examine_with_onnxruntime_finds_a_way_on_the_cpu_and_the_model() -> None:
    found = findings()
    assert found[ORT].ok
    assert found["model tiny"].ok


def test_examine_without_gpu_says_so_and_finds_nothing_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    monkeypatch.setattr(gpu, "_require_driver", lambda index: None)
    found = findings()
    assert "cuda-core" in found["gpu"].detail
    assert found["backend trt, device cuda"].ok is None
    assert found["backend ort, device cuda"].ok is None


def test_examine_without_a_driver_does_not_import_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libno-such-driver.so")
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    assert findings()["gpu"].detail.startswith("no GPU 0: NVIDIA's driver is not installed (libno-such-driver.so")


def test_examine_without_onnxruntime_finds_openvino(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    """Nothing is amiss: there is another way on the CPU."""
    needs("openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = findings()
    assert found[ORT].ok is None
    assert "[cpu]" in found[ORT].detail
    assert found[OPENVINO].ok
    assert found[OPENVINO].detail.startswith("OpenVINO 20")
    if bfloat16:
        assert found[OPENVINO].detail.endswith(", precision bf16")
    else:
        assert ", precision fp32: " in found[OPENVINO].detail
        assert found[OPENVINO].detail.endswith(" has no bfloat16")


def test_examine_without_openvino_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, no_openvino: None, bfloat16: bool
) -> None:
    """Also where the processor has no bfloat16, since OpenVINO computes in fp32 as well."""
    found = findings()
    assert found[OPENVINO].ok is None
    assert "[openvino]" in found[OPENVINO].detail
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = findings()
    assert found[ORT].ok is False
    assert found[OPENVINO].ok is False


@pytest.mark.parametrize("gpu", [None, "sm89"])
def test_examine_with_a_builder_says_for_what_engines_can_be_built(engines: SimpleNamespace, gpu: str | None) -> None:
    engines.gpu = gpu
    engines.libraries["tensorrt_rtx"] = {"builds": True, "needs_no_gpu": True}
    found = findings()[ENGINES]
    assert found.ok
    assert found.detail == f"tensorrt_rtx 1.2.3, for target {gpu or 'portable'}: sdtrt engines build"


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ({}, "no TensorRT that can build engines is installed; "),
        ({"tensorrt_lean": {"builds": False, "needs_no_gpu": False}}, "is installed (tensorrt_lean)"),
        ({"tensorrt": {"builds": True, "needs_no_gpu": False}}, "tensorrt builds on the GPU that the engine is for"),
    ],
)
def test_examine_without_a_builder_names_the_extras(
    engines: SimpleNamespace, library: dict[str, dict[str, bool]], words: str
) -> None:
    engines.libraries |= library
    found = findings()[ENGINES]
    assert found.ok is None
    assert words in found.detail
    assert "[tensorrt-rtx]" in found.detail


@pytest.mark.parametrize("libraries", [[], ["tensorrt_rtx"]])
def test_examine_without_onnx_names_all_that_is_missing(libraries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("sdtrt.doctor.installed", lambda: libraries)
    for name in [name for name in sys.modules if name.startswith("sdtrt.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sdtrt, "export", raising=False)
    found = findings()[ENGINES]
    assert found.ok is None
    assert "[cpu,onnx]" in found.detail
    assert (trt_library.install_hint() in found.detail) is not bool(libraries)
