"""Progress: bars on a terminal, elsewhere lines after 5 s and then every 10 s, by a clock of the tests."""

import sys

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.cli.inputs import SearchCost, duration_text
from sdtrt.progress import PhaseProgress, ProgressBar, TileProgress, Watch, announce, clear_bar, progress

Captured = pytest.CaptureFixture[str]


class Hand:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("terminal", "quiet", "drawn"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_tile_progress_draws_on_a_terminal_only(
    terminal: bool, quiet: bool, drawn: bool, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    bar = TileProgress(quiet=quiet, clock=Hand())
    with sdtrt.Codec.open("tiny", device="cpu", tile=24, overlap=8, report=bar) as codec:
        codec.encode(np.zeros((16, 16, 3), np.uint8))
        assert capsys.readouterr().err == ""  # one tile needs none
        codec.encode(np.zeros((16, 64, 3), np.uint8))
    printed = capsys.readouterr().err
    assert ("/4  " in printed and "tiles" in printed) == drawn
    assert printed.endswith("\r\033[K") == drawn  # and nothing is left of it


@pytest.mark.parametrize(("quiet", "expected"), [(False, [5, 15, 25]), (True, [])])
def test_progress_bar_without_terminal_prints_after_5_s_then_every_10(
    quiet: bool, expected: list[int], capsys: Captured
) -> None:
    clock, printed = Hand(), []
    rate = ProgressBar(quiet=quiet, clock=clock)
    for second in range(30):
        rate(second, 30, "samples")
        if text := capsys.readouterr().err:
            assert text.startswith(f"{second}/30  samples")
            printed.append(second)
        clock.seconds += 1
    assert printed == expected


def test_watch_prints_during_one_long_call(capsys: Captured) -> None:
    clock, printed = Hand(), []
    with Watch("sdtrt encode", quiet=False, clock=clock, tick=0) as watch:
        for second in range(30):
            watch.look()
            if text := capsys.readouterr().err:
                assert text == f"sdtrt encode: {second} s so far\n"
                printed.append(second)
            clock.seconds += 1
    watch.look()
    assert printed == [5, 15, 25]
    assert capsys.readouterr().err == ""


def test_watch_prints_the_stage_of_every_progress_class(capsys: Captured) -> None:
    clock = Hand()
    with Watch("sdtrt", quiet=False, clock=clock, tick=0) as watch:

        def line() -> str:
            clock.seconds += 20
            watch.look()
            return capsys.readouterr().err

        names = progress(["a.png", "b.png"], quiet=False)
        next(names)
        assert line() == "sdtrt: 0 of 2 done, now a.png, 20 s so far\n"
        tiles = TileProgress(quiet=False)
        tiles(0, 4)
        tiles(3, 4)
        assert line() == "sdtrt: 0 of 2 done, now a.png, 3 of 4 tiles, 40 s so far\n"
        tiles(4, 4)
        assert line() == "sdtrt: 0 of 2 done, now a.png, 60 s so far\n"
        ProgressBar(quiet=False)(1, 3, "crops")
        assert "1/3  crops" in line()
        with PhaseProgress("decoder", quiet=False) as steps:
            steps.begin("tactics", 8)
            steps.advance("tactics", 2)
        assert "decoder: 2 of 8 steps" in line()
        announce("unet: to ONNX", quiet=False)
        assert capsys.readouterr().err == "unet: to ONNX\n"
        assert "unet: to ONNX" in line()


@pytest.mark.parametrize(("quiet", "terminal"), [(True, False), (False, True)])
def test_watch_quiet_or_on_a_terminal_prints_nothing(
    quiet: bool, terminal: bool, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    clock = Hand()
    with Watch("sdtrt", quiet=quiet, clock=clock, tick=0) as watch:
        clock.seconds += 60
        watch.look()
    assert capsys.readouterr().err == ""


def test_watch_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    looked = threading.Event()
    monkeypatch.setattr(Watch, "look", lambda _: looked.set())
    with Watch("sdtrt", quiet=False, tick=0.001):
        assert looked.wait(60)


@pytest.mark.parametrize("stream", ["missing", "closed"])
def test_progress_without_standard_error_is_silent(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", None if stream == "missing" else gone)
    clock = Hand()
    with Watch("sdtrt", quiet=False, clock=clock, tick=0) as watch:
        assert list(progress([1, 2], quiet=False)) == [1, 2]
        clock.seconds += 60
        watch.look()
        ProgressBar(quiet=False)(1, 2, "")
        TileProgress(quiet=False)(1, 2)
        announce("text", quiet=False)
        clear_bar()


def test_search_cost_is_measured_once_and_printed_before(capsys: Captured) -> None:
    clock, efforts = Hand(), []

    def encode(_: Image.Image, effort: int) -> None:
        efforts.append(effort)
        clock.seconds += 0.5

    cost = SearchCost(encode, 9, trials=1, quiet=False, clock=clock)
    cost.say("small.png", 64, 64)
    assert (efforts, capsys.readouterr().err) == ([], "")
    cost.say("a\n.png", 640, 480)  # 75 times the pixels of the measured image
    assert capsys.readouterr().err == "a\\n.png: 640x480 pixels at effort 9, this takes about 38 s\n"
    cost.say("b.png", 6400, 480)
    assert "about 6 minutes" in capsys.readouterr().err
    assert efforts == [1, 9]


@pytest.mark.parametrize(("effort", "quiet"), [(9, True), (5, False), (1, False)])
def test_search_cost_quiet_or_without_search_prints_nothing(effort: int, quiet: bool, capsys: Captured) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("measured")

    SearchCost(encode, effort, trials=1, quiet=quiet).say("a.png", 4000, 3000)
    assert capsys.readouterr().err == ""


def test_search_cost_network_that_refuses_the_probe_gives_no_number(capsys: Captured) -> None:
    def encode(*_: object) -> None:
        raise sdtrt.BundleError("no engine for 64x64")

    SearchCost(encode, 7, trials=1, quiet=False).say("a.png", 400, 300)
    assert capsys.readouterr().err == "a.png: 400x300 pixels at effort 7: this may take minutes\n"


@pytest.mark.parametrize(("seconds", "text"), [(1.4, "1 s"), (119, "119 s"), (150, "2 minutes"), (9000, "2 hours")])
def test_in_units_rounds(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
