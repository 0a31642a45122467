"""The two sets of `benchmarks/pages` are drawn from different packages and fonts."""

import runpy
from itertools import product
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "benchmarks" / "pages"


@pytest.fixture(scope="module")
def listed() -> dict[str, Any]:
    return runpy.run_path(str(HERE / "packages.py"))


@pytest.mark.parametrize("fonts", ["TEXT_FONTS", "CODE_FONTS"])
def test_no_font_is_in_both_sets(listed: dict[str, Any], fonts: str) -> None:
    training, measuring = (listed[fonts][name] for name in ("training", "measuring"))
    assert not training.keys() & measuring.keys()
    assert not set(training.values()) & set(measuring.values())


def test_no_package_is_in_both_sets_but_for_flags(listed: dict[str, Any]) -> None:
    training, measuring = (
        {pattern for patterns in listed["FILES"][name].values() for pattern in patterns}
        for name in ("training", "measuring")
    )
    shared = {
        (ours, theirs)
        for ours, theirs in product(training, measuring)
        if ours.partition(":")[0] == theirs.partition(":")[0]
    }
    assert {(ours.rpartition("/")[2], theirs.rpartition("/")[2]) for ours, theirs in shared} == {
        ("[a-m]*.svg", "[n-z]*.svg")
    }
