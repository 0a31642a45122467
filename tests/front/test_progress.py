"""The bar for the tiles of one picture."""

import sys

import numpy as np
import pytest

import sdtrt
from sdtrt.progress import TileBar


@pytest.mark.parametrize(
    ("terminal", "quiet", "drawn"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_bar_for_tiles(
    terminal: bool, quiet: bool, drawn: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with sdtrt.Codec.open("tiny", device="cpu", tile=24, overlap=8, report=TileBar(quiet=quiet)) as codec:
        codec.encode(np.zeros((16, 16, 3), np.uint8))
        assert capsys.readouterr().err == ""  # one tile needs none
        codec.encode(np.zeros((16, 64, 3), np.uint8))
    told = capsys.readouterr().err
    assert ("/4  " in told and "tiles" in told) == drawn
    assert told.endswith("\r\033[K") == drawn  # and nothing is left of it
