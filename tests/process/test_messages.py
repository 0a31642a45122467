"""Texts of summaries and errors: plurals, sizes that have grown, names in words, one line for each backend."""

import pytest

from sdtrt.cli.dataset import label, share_of_bytes
from sdtrt.cli.messages import message_of
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.pipeline import open_pipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.errors import DeviceError


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.451, "45.1 % of the bytes"), (1, "100.0 % of the bytes"), (14.418, "14.42 times the bytes")],
)
def test_share_of_bytes_that_have_grown_is_a_factor(ratio: float, text: str) -> None:
    assert share_of_bytes(ratio) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pixels", "3 pixels"),
        ("nbytes", "3 bytes"),
        ("made_nbytes", "3 bytes made"),
        ("latents_nbytes", "3 bytes of latents"),
    ],
)
def test_label_has_no_field_names(name: str, text: str) -> None:
    assert f"3 {label(name)}" == text


def test_backend_errors_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ort", "trt"):
        monkeypatch.setattr(f"sdtrt.engine.networks.backends.{module}.gpu_unavailable_reason", lambda *_: "no GPU")
    with pytest.raises(DeviceError) as error:
        open_pipeline(TiledRunner.of(find_bundle("tiny")), device="cuda")
    first, *backends, last = str(error.value).split("\n  ")
    assert first == "no backend can run model tiny here"
    assert [line.split(": ")[0] for line in backends] == ["trt on cuda", "ort on cuda"]
    assert last.startswith("the next step: sdtrt doctor, or the CPU: --device cpu")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (FileNotFoundError(2, "No such file or directory", "b.png"), "b.png: No such file or directory"),
        (ValueError("cannot read <_io.BytesIO object at 0x7f00>"), "cannot read 'a.png'"),
        (OSError("bad <PIL.x.File object at 0x7F00>"), "bad 'a.png'"),
        (KeyError("width"), "unexpected KeyError: 'width'; --debug shows where"),
        (TypeError(), "unexpected TypeError: no message; --debug shows where"),
        (ValueError(), "ValueError"),
    ],
)
def test_message_of_names_the_file_and_unexpected_types(error: Exception, text: str) -> None:
    assert message_of(error, "a.png") == text
