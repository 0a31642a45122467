"""The command line: parse, call, print, exit code (0 done, 1 an input failed and the others are done, 2 usage)."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from sdtrt._version import __version__
from sdtrt.cli import compare, completion, dataset, models, pictures, reports, serve, view
from sdtrt.cli.batch import fail, in_words
from sdtrt.engine.coding.threads import products_by_one_thread
from sdtrt.errors import SdtrtError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = build_parser().parse_args(arguments)
    products_by_one_thread()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that temporary files go too
    try:
        code = int(options.command(options))
        if sys.stdout:
            sys.stdout.flush()
        return code
    except SdtrtError as error:
        return fail(str(error))
    except ValueError as error:
        print(f"sdtrt {options.name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return fail("interrupted")
    except BrokenPipeError:
        drop_stdout()
        return 1
    except OSError as error:
        drop_stdout()
        return fail(in_words(error))


def drop_stdout() -> None:
    """Let what is still buffered go nowhere: Python would fail once more to write it at exit."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sdtrt", description="An image codec that stores photographs as a few kilobytes of autoencoder latents."
    )
    parser.add_argument("-V", "--version", action="version", version=f"sdtrt {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for room in (pictures, reports, compare, view, models, serve, dataset, completion):
        room.add_commands(commands)
    return parser
