"""What `doctor` finds on a machine that lacks things."""

import re
import sys

import pytest

from sdtrt.doctor import Finding, examine


def detail_of_openvino(findings: dict[str, Finding]) -> str:
    return findings["backend openvino, device cpu"].detail


def test_a_whole_machine() -> None:
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend ort, device cpu"].ok
    assert findings["model tiny"].ok
    assert findings["backend trt, device cuda"].ok is None


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is amiss: there is another way on the CPU."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend ort, device cpu"].ok is None
    assert "[cpu]" in findings["backend ort, device cpu"].detail
    assert findings["backend openvino, device cpu"].ok
    assert re.match(r"OpenVINO [\d.]+, precision (bf16|fp32: .* has no bfloat16)$", detail_of_openvino(findings))


def test_without_openvino(monkeypatch: pytest.MonkeyPatch, no_openvino: None) -> None:
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend openvino, device cpu"].ok is None
    assert "[openvino]" in detail_of_openvino(findings)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend ort, device cpu"].ok is False
    assert findings["backend openvino, device cpu"].ok is False
