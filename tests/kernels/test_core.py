"""Whether the compiled core is used, and what the program says about it."""

import subprocess
import sys

import pytest

from sdtrt import doctor
from sdtrt.kernels import core

CODE = "from sdtrt.kernels import core; print(core.compiled() is not None, core.description(), sep='\\n')"


def described(monkeypatch: pytest.MonkeyPatch, value: str) -> list[str]:
    """Return what another Python says about the core, with `SDTRT_PURE` set to a value."""
    monkeypatch.setenv(core.PURE, value)
    return subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, encoding="utf-8"
    ).stdout.splitlines()


def test_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert described(monkeypatch, "1") == ["False", "off (SDTRT_PURE=1): NumPy is used"]


@pytest.mark.parametrize("value", ["", "0"])
def test_not_pure(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    is_there, description = described(monkeypatch, value)
    assert is_there == str(core._load()[0] is not None)
    assert description.startswith("compiled, with " if is_there == "True" else "not there (")


def test_core_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(core.PURE, raising=False)
    monkeypatch.setattr(core, "_load", lambda: (None, "No module named '_core'"))
    assert core.description() == "not there (No module named '_core'): NumPy is used"


def test_doctor() -> None:
    found = {finding.subject: finding.detail for finding in doctor.examine()}
    assert found["entropy coding"] == core.description()
