"""JSON that is written is strict: no NaN, no infinity, no lone surrogate."""

import ast
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdtrt.process.text import json_text, printable, without_surrogates

ROOT = Path(__file__).parents[2]
FLOORS = ("sdtrt", "engine", "export", "kernels")


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        ({"a": [math.inf, (-math.inf, 1.5)]}, {"a": [None, [None, 1.5]]}),
        ({"psnr": np.float64("inf")}, {"psnr": None}),
        ({"caf\udce9": "x\udcff"}, {"caf\\xe9": "x\\xff"}),
        (["\ud83d", "é", "日本"], ["\\ud83d", "é", "日本"]),
        ({1: None, "path": Path("a/b")}, {"1": None, "path": "a/b"}),
    ],
)
def test_json_text_odd_values_give_strict_json(value: Any, expected: Any) -> None:
    text = json_text(value)
    assert text.isascii()
    assert json.loads(text, parse_constant=refuse) == expected
    json.dumps(json.loads(text), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b é.png", "a b é.png"),
        ("caf\udce9", "caf\\xe9"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\u202egnp", "\\u202egnp"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_odd_signs_are_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
    without_surrogates(text).encode()


def calls_of_dumps() -> Iterator[tuple[str, ast.Call]]:
    for path in (path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"json.dumps", "json.dump", "JSONResponse"}:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_sources_every_json_is_written_strictly() -> None:
    found = dict(calls_of_dumps())
    strict = {place for place, call in found.items() if "allow_nan=False" in ast.unparse(call)}
    assert strict
    assert sorted(found.keys() - strict) == []
