"""Text on the standard streams, also where a stream is missing or its encoding lacks characters."""

import contextlib
import os
import sys
from typing import TextIO

from sdtrt.process.text import json_text


def print_result(text: str, end: str = "\n") -> None:
    """Print to standard output, or do nothing if it is closed.

    Raises:
        OSError: the text cannot be written, for example because the disk is full.
    """
    stream = open_stream(sys.stdout)
    if stream:
        stream.write(encodable(text + end, stream))


def print_message(text: str, end: str = "\n", *, file: TextIO | None = None) -> None:
    """Print to standard error. A message that cannot be written is lost: no work fails because of it.

    Arguments:
        text: str, the message.
        end: str, what follows it.
        file: the stream to print to; default: `sys.stderr`.
    """
    stream = open_stream(file or sys.stderr)
    if stream:
        with contextlib.suppress(OSError):
            stream.write(encodable(text + end, stream))
            stream.flush()


def print_json(value: object, *, one_line: bool = False, to_messages: bool = False) -> None:
    """Print JSON, ASCII only, to standard output or to standard error. NaN and infinity become null."""
    text = json_text(value, indent=None if one_line else 2)
    (print_message if to_messages else print_result)(text)


def flush_results() -> None:
    """Write what standard output still holds; `OSError` if that fails."""
    stream = open_stream(sys.stdout)
    if stream:
        stream.flush()


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    stream = open_stream(sys.stderr)
    return stream is not None and stream.isatty()


def open_stream(stream: TextIO | None) -> TextIO | None:
    """Return a standard stream, or None if it is missing or closed."""
    return None if stream is None or stream.closed else stream


def encodable(text: str, stream: TextIO) -> str:
    """Return a text in which escapes stand for the characters that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None)
    return text.encode(encoding, "backslashreplace").decode(encoding) if encoding else text


def open_missing() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise the next file that the program opens takes the number of the stream. A library that prints to standard
    error would then write into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def close_all() -> bool:
    """Flush standard output and standard error before the program ends; return whether the results were written.

    The rest of a stream that cannot be written goes to the null device. Otherwise Python reports the failure once more.
    """
    written = _flushed(sys.stdout)
    _flushed(sys.stderr)
    return written


def _flushed(stream: TextIO | None) -> bool:
    if open_stream(stream) is None or stream is None:
        return True
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True
