"""Messages of libraries are kept, shown if the work fails or if asked for; their errors arrive; stages are said."""

import io
import logging
import sys
import time
import warnings

import pytest

from sdtrt.errors import PictureWarning
from sdtrt.export import stages
from sdtrt.export.libraries import captured, quietly
from sdtrt.export.stages import stage


def noise(name: str) -> None:
    """What a library says in the midst of its work, by all ways that there are."""
    logging.getLogger(name).warning("noise of a logger")
    logging.getLogger(f"{name}.inner.module").warning("noise of an inner logger")
    warnings.warn("noise of a warning", FutureWarning, stacklevel=1)
    with quietly():
        print("noise on standard output")
        print("noise on standard error", file=sys.stderr)
        warnings.warn("noise of a call", UserWarning, stacklevel=1)


@pytest.mark.parametrize("name", ["diffusers", "torch.onnx", "transformers", "onnxscript"])
def test_captured_success_is_silent(capfd: pytest.CaptureFixture[str], name: str) -> None:
    with captured(verbose=False):
        noise(name)
    assert capfd.readouterr() == ("", "")


def test_captured_failure_shows_all(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        noise("diffusers")
        noise("diffusers")
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError), captured(verbose=False):
        fail()
    lines = capfd.readouterr().err.splitlines()
    assert sum("noise" in line for line in lines) == 6  # each once
    assert "libraries said" in lines[0]


def test_captured_errors_of_libraries_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    with captured(verbose=False):
        logging.getLogger("diffusers.models").error("the disk is full")
    assert "the disk is full" in capfd.readouterr().err


def test_captured_own_warnings_arrive() -> None:
    with pytest.warns(PictureWarning, match="colours"), captured(verbose=False):
        warnings.warn("colours are lost", PictureWarning, stacklevel=1)


def test_captured_verbose_shows_all(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(Warning, match="noise"), captured(verbose=True):
        noise("diffusers")
    out, err = capfd.readouterr()
    assert "noise on standard output" in out
    assert "noise on standard error" in err


def test_captured_end_restores_loggers() -> None:
    logger = logging.getLogger("diffusers")
    before = logger.handlers, logger.propagate
    with captured(verbose=False):
        assert logger.handlers != before[0]
    assert (logger.handlers, logger.propagate) == before


@pytest.mark.parametrize("quiet", [False, True])
def test_stage_without_terminal_prints_start_and_lines(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(stages, "EVERY", 0.01)
    with stage("unet: to ONNX", quiet=quiet), quietly():
        end = time.monotonic() + 30
        while stream.getvalue().count("\n") < 3 and not quiet and time.monotonic() < end:
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    if quiet:
        assert not lines
        return
    assert lines[0] == "unet: to ONNX"
    assert lines[1] == "unet: to ONNX: 0 s so far"
    assert len(lines) >= 3


def test_stage_on_terminal_prints_start_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(stages, "EVERY", 0.001)
    with stage("encoder", quiet=False):
        time.sleep(0.05)
    assert stream.getvalue() == "encoder\n"


def test_stage_without_standard_error_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with stage("encoder", quiet=False):
        pass
