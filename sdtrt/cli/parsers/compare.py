"""Arguments of the command `compare`."""

import argparse

from sdtrt.cli.parsers.arguments import (
    add_frame,
    add_inputs,
    add_limit,
    add_machine,
    add_roi,
    positive_count,
    quality,
    start_command,
)
from sdtrt.engine.networks.choices import BUILT_IN

QUALITY = 25


def add_compare_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.compare:compare_command")
    add_inputs(command, "image files, - or /dev/stdin for standard input")
    rate = command.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=quality, help=f"of sdtrt, 1 to 100 (default {QUALITY})")
    rate.add_argument("--max-bytes", type=positive_count, metavar="N", help="the largest size of each file")
    add_roi(command)
    command.add_argument("-o", "--output", default="compare.html", help="the report (default %(default)s)")
    command.add_argument("--png", metavar="FILE", help="also write a contact sheet")
    command.add_argument("-f", "--force", action="store_true", help="replace existing files")
    add_frame(command)
    add_limit(command)
    add_machine(command, f"model: a name or a bundle's folder (default {BUILT_IN})", BUILT_IN)


PARSERS = {"compare": add_compare_arguments}
