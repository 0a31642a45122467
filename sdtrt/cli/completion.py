"""The command `completion`: a script for bash, zsh or fish, made by shtab of the one parser of arguments."""

import argparse
from collections.abc import Iterator

from sdtrt.cli.parsers import build_parser
from sdtrt.process.install import extra
from sdtrt.process.streams import print_result

FILES = {
    "bundle",
    "calibrate",
    "decoder",
    "encoder",
    "fast",
    "inputs",
    "model",
    "out",
    "output",
    "png",
    "root",
    "site",
}


def completion(options: argparse.Namespace) -> int:
    with extra("completion"):
        import shtab

    parser = build_parser()
    for action in actions_of(parser):
        if action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    print_result(shtab.complete(parser, options.shell))
    return 0


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions_of(command)
