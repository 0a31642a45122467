"""Messages of the command line about errors."""

import argparse
import sys

from sdtrt.errors import SdtrtError
from sdtrt.process.environment import variable
from sdtrt.process.streams import print_message
from sdtrt.process.text import printable_message, without_addresses
from sdtrt.progress import clear_bar

DEBUG = "SDTRT_DEBUG"


def fail(message: str) -> int:
    """Print an error and return the exit code 1."""
    print_message(printable_message(f"sdtrt: {message}"))
    return 1


def message_of(error: Exception, name: str = "") -> str:
    """Return the message of an error; errors of the system without their number, and without the file `name`."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if str(error.filename or "") in ("", name) else f"{error.filename}: {error.strerror}"
    text, kind = name_the_input(str(error), name), type(error).__name__
    if isinstance(error, SdtrtError | OSError | ValueError) or _is_decompression_bomb(error):
        return text or kind
    return f"unexpected {kind}: {text or 'no message'}; --debug shows where"


def name_the_input(message: str, name: str) -> str:
    """Return a library's message in which the name of the input replaces the memory address of an object."""
    return without_addresses(message, repr(name) if name else "the file")


def _is_decompression_bomb(error: Exception) -> bool:
    """Return whether Pillow refused an image for its size. If Pillow is not imported, it did not."""
    return isinstance(error, getattr(sys.modules.get("PIL.Image"), "DecompressionBombError", ()))


def show_traceback(options: argparse.Namespace) -> None:
    """Print the traceback of the current error with `--debug` or the environment variable SDTRT_DEBUG."""
    if getattr(options, "debug", False) or variable(DEBUG):
        import traceback

        clear_bar()
        print_message(traceback.format_exc(), end="")
