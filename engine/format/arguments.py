"""Checks of what callers hand over: each error names the argument, its value, and what is expected.

A value of a wrong type is a `TypeError`, one out of range a `ValueError`. Numbers of NumPy count as numbers; truth
values do not.
"""

import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

MAX_SHOWN = 60  # characters of a value in a message


def checked_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return a whole number from `low` to `high`; `high` None is without an upper bound."""
    expected = f"a whole number from {low} to {high}" if high is not None else f"a whole number, at least {low}"
    if not is_integer(value):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    number = int(value)  # type: ignore[call-overload]
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} is {digits(number)}, expected {expected}")
    return number


def is_integer(value: object) -> bool:
    """Return whether a value is a whole number of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def checked_number(name: str, value: object, low: float, high: float = math.inf, *, above: bool = False) -> float:
    """Return a finite number from `low` to `high`; `above` excludes `low` itself."""
    expected = f"a number from {low:g} to {high:g}"
    if high == math.inf:
        expected = f"a finite number {'above' if above else 'from'} {low:g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is {value_text(value)}, expected {expected}") from error
    if not low <= number <= high or math.isinf(number) or (above and number == low):
        raise ValueError(f"{name} is {number:g}, expected {expected}")
    return number


def checked_truth(name: str, value: object) -> bool:
    """Return a truth value: a text such as "no" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value_text(value)}, expected True or False")
    return bool(value)


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return a text that is one of `choices`."""
    expected = f"expected one of {', '.join(choices)}"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value_text(value)}, {expected}")
    if value not in choices:
        raise ValueError(f"{name} {value!r}, {expected}")
    return value


def checked_instance(name: str, value: Any, kind: type, expected: str) -> Any:
    """Return a value of a type, of which `expected` is the description."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    return value


def checked_items(name: str, value: Any, expected: str) -> Iterator[Any]:
    """Return an iterator over several items; a text or bytes are one item, not several."""
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value_text(value)}, expected several: {expected}")
    return iter(value)


def value_text(value: object) -> str:
    """Return a value and its type for a message, on one line and not too long."""
    kind = type(value).__name__
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of the value's class; Python itself refuses to write integers of thousands of digits
        return f"a value that cannot be shown ({kind})"
    text = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return f"{text} ({kind})"


def digits(number: int) -> str:
    """Return a whole number for a message; Python refuses to write one of thousands of digits."""
    if abs(number) < 10**MAX_SHOWN:
        return str(number)
    return f"above 1e{MAX_SHOWN}" if number > 0 else f"below -1e{MAX_SHOWN}"
