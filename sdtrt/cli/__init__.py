"""The command line: parse, call, print, exit code (0 done, 1 an input failed and the others are done, 2 usage)."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sdtrt._version import __version__
from sdtrt.cli import compare, completion, dataset, images, models, reports, serve, view
from sdtrt.cli.batch import fail, message_of, show_traceback
from sdtrt.errors import SdtrtError
from sdtrt.process import streams
from sdtrt.process.signals import SignalExit, ending_signals
from sdtrt.process.text import printable, printable_message
from sdtrt.process.threads import limit_blas_to_one_thread
from sdtrt.progress import clear_bar

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Signal handlers that are installed for the call are taken back at its end.

    Arguments:
        arguments: sequence of str, what follows the program's name; default: the arguments of the process.

    Raises:
        SystemExit: after `--help` and `--version`, wrong usage, SIGTERM or SIGHUP.
        KeyboardInterrupt: after SIGINT.
    """
    with ending_signals():
        try:
            code = run(arguments)
            streams.flush_results()
            return code
        except BrokenPipeError:
            return 1
        except OSError as error:
            return fail(message_of(error))
        except KeyboardInterrupt:
            clear_bar()
            fail("interrupted")
            raise
        except SignalExit as error:
            clear_bar()
            fail(f"ended by signal {error.number}")
            raise


def run(arguments: Sequence[str] | None) -> int:
    """Parse arguments, do what they ask for and return the exit code."""
    options = build_parser().parse_args(arguments)
    limit_blas_to_one_thread()
    try:
        return int(options.command(options))
    except OSError:
        show_traceback(options)
        raise
    except SdtrtError as error:
        show_traceback(options)
        return fail(str(error))
    except ValueError as error:
        show_traceback(options)
        streams.print_message(printable_message(f"sdtrt {options.name}: {error}"))
        return 2


class Parser(argparse.ArgumentParser):
    """Prints help and usage errors to any stream: where its encoding lacks a character, an escape stands for it."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not None and file is streams.open_stream(sys.stdout):
            streams.print_result(message, end="")
            streams.flush_results()
        else:
            streams.print_message(message, end="")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="sdtrt", description="An image codec that stores photographs as a few kilobytes of autoencoder latents."
    )
    parser.add_argument("-V", "--version", action="version", version=f"sdtrt {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for room in (images, reports, compare, view, models, serve, dataset, completion):
        room.add_commands(commands)
    return parser
