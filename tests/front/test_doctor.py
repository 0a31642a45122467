"""What `doctor` finds on a machine that lacks things."""

import sys

import pytest

from sdtrt.doctor import examine


def test_a_whole_machine() -> None:
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend ort, device cpu"].ok
    assert findings["model tiny"].ok
    assert findings["backend trt, device cuda"].ok is None


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    findings = {finding.subject: finding for finding in examine()}
    assert findings["backend ort, device cpu"].ok is False
    assert "sdtrt[cpu]" in findings["backend ort, device cpu"].detail
