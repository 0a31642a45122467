"""The command line: parse, call, print, exit code (0 done, 1 an input failed and the others are done, 2 usage)."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from sdtrt.cli.messages import fail, message_of, show_traceback
from sdtrt.cli.parsers import build_parser
from sdtrt.errors import SdtrtError
from sdtrt.process import streams
from sdtrt.process.signals import SignalExit, ending_signals
from sdtrt.process.text import printable_message
from sdtrt.process.threads import limit_blas_to_one_thread
from sdtrt.progress import clear_bar

__all__ = ["build_parser", "main"]

Function = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Signal handlers that are installed for the call are taken back at its end.

    Arguments:
        arguments: sequence of str, what follows the program's name; default: the arguments of the process.

    Raises:
        SystemExit: after `--help` and `--version`, wrong usage, SIGTERM or SIGHUP.
        KeyboardInterrupt: after SIGINT.
    """
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        function = function_of(options)  # before the block below, since an import that is interrupted ends silently
        with ending_signals():
            try:
                code = run(function, options)
                streams.flush_results()
                return code
            except KeyboardInterrupt:
                clear_bar()
                fail("interrupted")
                raise
            except SignalExit as error:
                clear_bar()
                fail(f"ended by signal {error.number}")
                raise
    except BrokenPipeError:
        return 1
    except OSError as error:
        return fail(message_of(error))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse arguments. Only the module of the command that they name is imported."""
    # No option before the command takes a value.
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    return build_parser([name]).parse_args(arguments)


def function_of(options: argparse.Namespace) -> Function:
    """Import the function of a command."""
    module, _, name = options.command.partition(":")
    function: Function = getattr(importlib.import_module(module), name)
    return function


def run(function: Function, options: argparse.Namespace) -> int:
    """Run a command and return the exit code."""
    if multiplies_matrices(options):
        limit_blas_to_one_thread()
    try:
        return function(options)
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


def multiplies_matrices(options: argparse.Namespace) -> bool:
    """Return whether a command may use BLAS; `decode` does not if the compiled core does its work."""
    if options.name != "decode":
        return True
    from sdtrt.kernels import core

    return core.compiled() is None
