"""The command that serves images over HTTP: `serve`."""

import argparse
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sdtrt.cli.arguments import add_command, add_machine, mebibytes, port, positive_count, seconds, whole_number
from sdtrt.cli.inputs import extra, machine_options
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.networks.bundle import BUILT_IN
from sdtrt.errors import ImageWarning
from sdtrt.process.environment import variable
from sdtrt.process.signals import die
from sdtrt.process.streams import flush_results, print_json, print_message
from sdtrt.process.threads import available_cpus

PREFIX = "SDTRT_SERVE_"  # of the variables of the environment that stand for options
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN = f"{PREFIX}TOKEN"  # no option: other users of the machine see those
WORKERS = 2  # by default, where the process may use so many processors
CONNECTIONS = 512
KEPT = 75  # seconds that an idle connection is kept: longer than clients and proxies keep theirs, which then close it
DRAINING = 30  # seconds that requests in work have when the service is to end


def serve(options: argparse.Namespace) -> int:
    with extra("serve"):
        import uvicorn

        from sdtrt.serve.application import application
        from sdtrt.serve.handlers import Settings
        from sdtrt.serve.storage import FileStore
    from sdtrt.viewer import SITE

    fill_in(options)
    token = variable(TOKEN)
    settings = Settings(
        root=options.root,
        workers=options.workers,
        waiting=options.waiting,
        max_nbytes=options.max_body,
        max_pixels=options.max_pixels,
        timeout=options.timeout,
        batch_wait=options.batch_wait,
        max_age=options.max_age,
        token=token,
        hosts=LOOPBACK if options.host in LOOPBACK and token is None else None,
        site=options.site or SITE,
    )
    if options.root:
        FileStore(options.root)  # a folder that is not there is noticed before the model is opened
    codec = EngineCodec(options.model, **machine_options(options))
    app = application(codec, settings)
    warnings.simplefilter("ignore", ImageWarning)  # of images that others send
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=DRAINING,
    )
    # uvicorn drains, and hands the signal on when that is done.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family) as listener:
        # Connections inherit it: without, heads of answers wait 40 ms for their bodies.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = f"[{options.host}]" if family == socket.AF_INET6 else options.host
        address = f"http://{host}:{listener.getsockname()[1]}"
        if options.json:
            print_json({"address": address, "pipeline": codec.pipeline.name}, one_line=True)
            flush_results()
        else:
            print_message(f"sdtrt serve: {address} ({codec.pipeline.name})")
        try:
            uvicorn.Server(config).run([listener])
        except KeyboardInterrupt:
            if is_busy():
                die(signal.SIGINT)
            raise
        finally:
            if is_busy():
                os._exit(0)  # Python would wait for what is in work, however long that takes
    return 0


def is_busy() -> bool:
    """Return whether a thread still computes for a request."""
    return any(thread.name.startswith("sdtrt") for thread in threading.enumerate() if thread.is_alive())


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


def add_commands(commands: Any) -> None:
    command = add_command(commands, "serve", serve, "images over HTTP")

    for option in OPTIONS:
        command.add_argument(option.name, type=option.kind, help=option.text)
    add_machine(command, f"model of the service: a name or a bundle's folder (default {BUILT_IN})", BUILT_IN)
    command.epilog = (
        f"Each option but those of the model has a variable of the environment: {PREFIX}ROOT for --root. "
        f"{TOKEN} holds the token that requests must bring."
    )
