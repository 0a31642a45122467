"""Whether the compiled core is used, and what the program says about it."""

import subprocess
import sys

import numpy as np
import pytest

from sdtrt import doctor
from sdtrt.kernels import core, reference

CODE = "from sdtrt.kernels import core; print(core.compiled() is not None, core.description(), sep='\\n')"


def described(monkeypatch: pytest.MonkeyPatch, value: str) -> list[str]:
    """Return what another Python says about the core, with `SDTRT_PURE` set to a value."""
    monkeypatch.setenv(core.PURE, value)
    return subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, encoding="utf-8"
    ).stdout.splitlines()


def test_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert described(monkeypatch, "1") == ["False", "NumPy, since SDTRT_PURE=1 turns the compiled core off"]


@pytest.mark.parametrize("value", ["", "0"])
def test_not_pure(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    is_there, description = described(monkeypatch, value)
    assert is_there == str(core._load()[0] is not None)
    assert description.startswith("compiled, with " if is_there == "True" else "NumPy, three to six times as slow")


def test_core_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "compiled", lambda: None)
    monkeypatch.setattr(core, "_load", lambda: (None, core.NOT_COMPILED))
    assert core.description().startswith("NumPy, three to six times as slow as the compiled core, which is not")


@pytest.mark.skipif(core._load()[0] is None, reason="no compiled core")
def test_core_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "INTERFACE", -1)
    module, reason = core._load.__wrapped__()
    assert module is None
    assert "compiled from other sources" in reason


def test_doctor() -> None:
    found = {finding.subject: finding.detail for finding in doctor.examine()}
    assert found["entropy coding"] == core.description()


@pytest.mark.skipif(core.compiled() is None, reason="no compiled core")
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_planes_to_pixels(low: float, high: float) -> None:
    """Values half way between two pixels, outside of the range, and not finite."""
    rng = np.random.default_rng(0)
    planes = rng.uniform(low - 0.1, high + 0.1, (3, 21, 150)).astype(np.float32)
    half = (np.arange(150, dtype=np.float32) + np.float32(0.5)) * np.float32((high - low) / 255) + np.float32(low)
    planes[:, 3], planes[0, 4, :5] = half, (np.nan, np.inf, -np.inf, 3e38, -0.0)
    for width, height in ((150, 21), (131, 20), (1, 1)):
        pixels = core.planes_to_pixels(planes, width, height, low, high)
        with np.errstate(all="ignore"):
            expected = reference.planes_to_pixels(planes, width, height, low, high)
        np.testing.assert_array_equal(pixels, expected)
