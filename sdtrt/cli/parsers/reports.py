"""Arguments of the commands `info`, `verify`, `models` and `doctor`."""

import argparse

from sdtrt.cli.parsers.arguments import add_inputs, add_limit, start_command


def add_info_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.reports:info")
    add_files(command)


def add_verify_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.reports:verify")
    add_files(command)


def add_files(command: argparse.ArgumentParser) -> None:
    add_inputs(command, ".sdt files, - or /dev/stdin for standard input")
    add_limit(command)


def add_models_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.reports:models")


def add_doctor_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.reports:doctor")
    command.add_argument(
        "--measure",
        action="store_true",
        help="time the backends on this CPU, 10 to 20 s; from then on, auto takes the fastest backend and precision",
    )


PARSERS = {
    "info": add_info_arguments,
    "verify": add_verify_arguments,
    "models": add_models_arguments,
    "doctor": add_doctor_arguments,
}
