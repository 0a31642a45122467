"""The parsers of the arguments of all commands.

Modules of this folder import neither NumPy nor Pillow nor an engine, so that help and wrong usage take no time.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from sdtrt._version import __version__
from sdtrt.process import streams
from sdtrt.process.text import printable


class Command(NamedTuple):
    """A command in the list of commands.

    Attributes:
        module: the module of this folder whose `PARSERS` holds, by name, the function that adds the arguments.
        text: the help in one line.
    """

    module: str
    text: str


COMMANDS = {
    "encode": Command("images", "images to .sdt files"),
    "decode": Command("images", ".sdt files to images"),
    "info": Command("reports", "the facts of files; of a single file also its bytes by section"),
    "verify": Command("reports", "check every part of files except the pixels"),
    "models": Command("reports", "list the models that can be named"),
    "doctor": Command("reports", "what this machine can run, and why it cannot run the rest"),
    "compare": Command(
        "compare", "compare sdtrt with JPEG, WebP and AVIF, on images or the middle of large images: an HTML report"
    ),
    "view": Command("view", "files in a browser, decoded there, until Ctrl-C"),
    "export": Command("models", "a checkpoint (Stable Diffusion, FLUX, Wan, …) to a bundle"),
    "import": Command("models", "anyone's ONNX encoder and decoder to a bundle"),
    "calibrate": Command("models", "measure a bundle's latents on photos"),
    "engines": Command("models", "TensorRT engines of a bundle"),
    "serve": Command("serve", "images over HTTP"),
    "dataset": Command("dataset", "datasets: folders, WebDataset tars, Parquet; also on a cluster"),
    "completion": Command("completion", "a script for a shell: what the Tab key completes"),
}


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


def build_parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Arguments:
        names: the commands that are parsed; other names are ignored. All commands are listed in the help, but the
            others have no arguments, and their modules are not imported. Default: all commands.
    """
    parser = Parser(
        prog="sdtrt", description="An image codec that stores photographs as a few kilobytes of autoencoder latents."
    )
    parser.add_argument("-V", "--version", action="version", version=f"sdtrt {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    parsed_names = frozenset(names)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in parsed_names:
            importlib.import_module(f"{__name__}.{module}").PARSERS[name](command)
    return parser
