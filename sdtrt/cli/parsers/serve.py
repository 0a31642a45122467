"""Arguments of the command `serve`, which variables of the environment can set, too."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sdtrt.cli.parsers.arguments import (
    add_machine,
    mebibytes,
    port,
    positive_count,
    seconds,
    start_command,
    whole_number,
)
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.process.environment import variable
from sdtrt.process.threads import available_cpus

PREFIX = "SDTRT_SERVE_"  # of the variables of the environment that stand for options
TOKEN = f"{PREFIX}TOKEN"  # no option: other users of the machine see those
WORKERS = 2  # by default, where the process may use so many processors


class Option(NamedTuple):
    """An option of `serve` that an environment variable can set, too: SDTRT_SERVE_MAX_BODY for --max-body."""

    name: str
    kind: Callable[[str], Any]
    default: Any
    text: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.removeprefix("--").replace("-", "_").upper()

    @property
    def attribute(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")

    def value(self) -> Any:
        """Return the value that the environment gives, else the default; `ValueError` names the variable."""
        text = variable(self.variable)
        if text is None:
            return self.default() if callable(self.default) else self.default
        try:
            return self.kind(text)
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"environment variable {self.variable}: {error}") from error
        except ValueError as error:
            raise ValueError(f"environment variable {self.variable}: invalid value {text!r}; {self.text}") from error


OPTIONS = (
    Option("--host", str, "127.0.0.1", "address to listen at (default: this machine alone)"),
    Option("--port", port, 8000, "default 8000"),
    Option("--root", str, None, "folder or fsspec location whose .sdt files are served"),
    Option("--site", Path, None, "folder of the built viewer (default: web/dist of the sources)"),
    Option(
        "--workers",
        positive_count,
        lambda: min(WORKERS, available_cpus()),
        f"requests that are computed at once (default {WORKERS}, or one per core)",
    ),
    Option("--waiting", whole_number, 16, "requests that may wait for that (default 16)"),
    Option("--max-body", mebibytes, 64 << 20, "refuse bodies of more than so many MiB (default 64)"),
    Option("--timeout", seconds, 60.0, "give up a request after so many seconds (default 60)"),
    Option("--batch-wait", seconds, 0.005, "on a GPU: wait so long for requests of one kind (default 0.005 s)"),
    Option(
        "--max-pixels",
        whole_number,
        DEFAULT_LIMITS.max_pixels,
        f"refuse larger images (default {DEFAULT_LIMITS.max_pixels})",
    ),
    Option("--max-age", whole_number, 3600, "for how many seconds answers may be cached (default 3600)"),
)


def fill_in(options: argparse.Namespace) -> None:
    """Set the options that the command line leaves out."""
    for option in OPTIONS:
        if getattr(options, option.attribute) is None:
            setattr(options, option.attribute, option.value())


def add_serve_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.serve:serve")
    for option in OPTIONS:
        command.add_argument(option.name, type=option.kind, help=option.text)
    add_machine(command, f"model of the service: a name or a bundle's folder (default {BUILT_IN})", BUILT_IN)
    command.epilog = (
        f"Each option but those of the model has a variable of the environment: {PREFIX}ROOT for --root. "
        f"{TOKEN} holds the token that requests must bring."
    )


PARSERS = {"serve": add_serve_arguments}
