"""Validation of arguments. Each error gives the argument's name, its value and the expected values.

A value of a wrong type raises `TypeError`, a value out of range `ValueError`. NumPy's numbers are accepted as numbers;
truth values are not.
"""

import math
import numbers
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

MAX_SHOWN = 60  # characters of a value in a message


def checked_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return a whole number from `low` to `high`; without an upper bound if `high` is None."""
    expected = f"a whole number from {low} to {high}" if high is not None else f"a whole number, at least {low}"
    if not is_integer(value):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    number = int(value)  # type: ignore[call-overload]
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} is {digits(number)}, expected {expected}")
    return number


def is_integer(value: object) -> bool:
    """Return whether a value is an integer of Python or NumPy, and not a truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def checked_number(name: str, value: object, low: float, high: float = math.inf, *, above: bool = False) -> float:
    """Return a finite number from `low` to `high`; `above` excludes `low` itself."""
    expected = f"a number from {low:g} to {high:g}"
    if high == math.inf:
        expected = f"a finite number {'above' if above else 'from'} {low:g}"
    if is_truth(value) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is {value_text(value)}, expected {expected}") from error
    if not low <= number <= high or math.isinf(number) or (above and number == low):
        raise ValueError(f"{name} is {number:g}, expected {expected}")
    return number


def checked_truth(name: str, value: object) -> bool:
    """Return a truth value of Python or NumPy. Other types are refused, since the text "no" would be true."""
    if not is_truth(value):
        raise TypeError(f"{name} is {value_text(value)}, expected True or False")
    return bool(value)


def is_truth(value: object) -> bool:
    """Return whether a value is a truth value of Python or NumPy. Without NumPy imported, no value is NumPy's."""
    return isinstance(value, (bool, getattr(sys.modules.get("numpy"), "bool_", bool)))


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return a string, which must be one of `choices`."""
    expected = f"expected one of {', '.join(choices)}"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value_text(value)}, {expected}")
    if value not in choices:
        raise ValueError(f"{name} {value!r}, {expected}")
    return value


def checked_instance(name: str, value: Any, kind: type, expected: str) -> Any:
    """Return a value, which must be of type `kind`; `expected` describes the type in the message."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value_text(value)}, expected {expected}")
    return value


def checked_items(name: str, value: Any, expected: str) -> Iterator[Any]:
    """Return an iterator over a collection of items. Strings and bytes are single items and are refused."""
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value_text(value)}, expected several: {expected}")
    return iter(value)


def value_text(value: object) -> str:
    """Return a value and its type for a message, on one line and shortened."""
    kind = type(value).__name__
    try:
        text = " ".join(repr(value).split())
    except Exception:  # `repr` may be anyone's; and Python refuses to format integers of thousands of digits
        return f"a value that cannot be shown ({kind})"
    text = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return f"{text} ({kind})"


def digits(number: int) -> str:
    """Return an integer for a message, shortened, since Python refuses to format one of thousands of digits."""
    if abs(number) < 10**MAX_SHOWN:
        return str(number)
    return f"above 1e{MAX_SHOWN}" if number > 0 else f"below -1e{MAX_SHOWN}"
