"""Timing and provenance of the benchmarks' harness."""

import runpy
from itertools import count
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "harness.py"


@pytest.fixture(scope="module")
def harness() -> dict[str, Any]:
    return runpy.run_path(str(HARNESS))


def test_interleaved_medians_take_turns_and_drop_the_warm_up(harness: dict[str, Any]) -> None:
    calls: list[str] = []
    values = count()

    def measure(name: str) -> float:
        calls.append(name)
        return next(values)

    medians = harness["interleaved_medians"]([lambda: measure("a"), lambda: measure("b")], 2)
    assert calls == ["a", "b"] * 3
    assert medians == [3, 4]  # of 2 and 4, and of 3 and 5


def test_interleaved_medians_with_turns_of_two_round_runs_up(harness: dict[str, Any]) -> None:
    calls: list[int] = []
    harness["interleaved_medians"]([lambda: calls.append(1) or 0.0], 3, 2)
    assert len(calls) == 2 + 4


@pytest.mark.parametrize(("argument", "expected"), [("/home/me/kodak", "kodak"), ("../kodak", "kodak"), ("a/b", "a/b")])
def test_without_folders_keeps_only_relative_paths(harness: dict[str, Any], argument: str, expected: str) -> None:
    assert harness["without_folders"](argument) == expected
