"""JSON that every parser reads (RFC 8259), and text that every terminal shows."""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

ESCAPED = frozenset({"Cc", "Zl", "Zp"})  # categories: control characters and line separators
ADDRESS = re.compile(r"<[\w.]+ (?:\w+ )?object at 0x[0-9A-Fa-f]+>")
DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder the text around them


def json_text(value: Any, *, indent: int | None = None, default: Any = str) -> str:
    """Return a value as strict JSON, in ASCII.

    NaN and infinities become null, since JSON has no such numbers. A lone surrogate, which stands for a byte of a file
    name that is not UTF-8, becomes an escape such as `\\xe9`.

    Arguments:
        value: what `json.dumps` takes.
        indent: spaces for each level, None (the default) for one line.
        default: a function of objects that JSON does not know (default `str`).
    """
    import json

    return json.dumps(_strict(value), indent=indent, default=lambda other: _strict(default(other)), allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, Mapping):
        return {_strict(name) if isinstance(name, str) else name: _strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return value


def without_surrogates(text: str) -> str:
    """Return a text without lone surrogates: a byte that is not UTF-8 becomes an escape such as `\\xe9`."""
    return "".join(_escape(sign) if "\ud800" <= sign <= "\udfff" else sign for sign in text)


def _escape(surrogate: str) -> str:
    code = ord(surrogate)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def printable(text: str) -> str:
    """Return a text on one line: control characters, line separators and surrogates become escapes."""
    return "".join(_shown(sign) for sign in without_surrogates(text))


def _shown(sign: str) -> str:
    return repr(sign)[1:-1] if sign in DIRECTIONS or unicodedata.category(sign) in ESCAPED else sign


def printable_message(text: str) -> str:
    """Return a message as `printable` does, but keep the newlines before indented lines."""
    return "\n  ".join(map(printable, text.split("\n  ")))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, `1 file` or `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def error_text(error: Exception) -> str:
    """Return the kind and the message of an error on one line; an object in memory is called "the data"."""
    return f"{type(error).__name__}: {without_addresses(printable(str(error)))}"


def without_addresses(text: str, name: str = "the data") -> str:
    """Return a text in which a name replaces each object that is given by its address in memory."""
    return ADDRESS.sub(lambda _: name, text)
