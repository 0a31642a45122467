"""docs/format.md suffices: a decoder written from it alone agrees with the vectors and refuses the broken ones."""

import runpy
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
CASES = sorted(path.parent for path in (TESTS / "vectors").glob("*/input.sdt"))
decode = runpy.run_path(str(TESTS / "independent_decoder.py"))["decode"]


@pytest.mark.parametrize("case", [case for case in CASES if not case.name.startswith("x_")], ids=lambda case: case.name)
def test_symbols(case: Path) -> None:
    symbols = decode((case / "input.sdt").read_bytes())
    assert symbols.dtype == np.int16
    np.testing.assert_array_equal(symbols, np.load(case / "symbols.npy"), strict=True)


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("x_")], ids=lambda case: case.name)
def test_refused(case: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode((case / "input.sdt").read_bytes())
