"""Arguments of the command `view`."""

import argparse
from pathlib import Path

from sdtrt.cli.parsers.arguments import (
    start_command,
)


def add_view_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.view:view")
    command.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help=".sdt files")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.add_argument("--site", type=Path, help="folder of the built viewer (default: web/dist of the sources)")


PARSERS = {"view": add_view_arguments}
