"""Messages of libraries are kept, shown if the work fails or if asked for; their errors arrive."""

import io
import logging
import sys
import warnings

import pytest

from sdtrt.errors import ImageWarning
from sdtrt.export.libraries import captured, quietly
from sdtrt.progress import Watch, announce


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
    assert "messages of libraries" in lines[0]


def test_captured_errors_of_libraries_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    with captured(verbose=False):
        logging.getLogger("diffusers.models").error("the disk is full")
    assert "the disk is full" in capfd.readouterr().err


def test_captured_own_warnings_arrive() -> None:
    with pytest.warns(ImageWarning, match="colours"), captured(verbose=False):
        warnings.warn("colours are lost", ImageWarning, stacklevel=1)


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


def test_watch_prints_while_libraries_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, seconds = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", stream)
    with Watch("sdtrt export", quiet=False, clock=lambda: seconds[0], tick=0) as watch:
        announce("unet: to ONNX", quiet=False)
        with captured(verbose=False), quietly():
            seconds[0] = 6.0
            watch.look()
    assert stream.getvalue().splitlines() == ["unet: to ONNX", "sdtrt export: unet: to ONNX, 6 s so far"]


def test_captured_progress_bar_keeps_its_last_state(capsys: pytest.CaptureFixture[str]) -> None:
    """So that its many states do not push out the messages that help."""
    with captured(verbose=False) as messages, quietly():
        print("a hint", end="\r\n")
        print(*(f"{percent} %" for percent in range(200)), sep="\r")
        print("done")
    assert list(messages.lines) == ["a hint", "199 %", "done"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_captured_message_that_does_not_fit_its_arguments_ends_nothing(
    capsys: pytest.CaptureFixture[str], level: int
) -> None:
    with captured(verbose=False) as messages:
        logging.getLogger("torch.odd").log(level, "%d steps of %d", "many")
    text = capsys.readouterr().err if level == logging.ERROR else "\n".join(messages.lines)
    assert "torch.odd: %d steps of %d" in text or level == logging.INFO
