"""Arguments of the command `completion`."""

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_completion_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(command="sdtrt.cli.completion:completion")


PARSERS = {"completion": add_completion_arguments}
