"""The command that serves pictures over HTTP: `serve`."""

import argparse
import os
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from sdtrt.cli.arguments import add_command, add_machine, mebibytes, port, seconds, thread_count, whole_number
from sdtrt.cli.inputs import extra, machine_options
from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.coding.threads import processors
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.networks.bundle import BUILT_IN
from sdtrt.errors import PictureWarning
from sdtrt.text import json_text

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
    from sdtrt.viewer import SITE

    token = os.environ.get(TOKEN) or None
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
    codec = PictureCodec(options.model, **machine_options(options))
    app = application(codec, settings)
    warnings.simplefilter("ignore", PictureWarning)  # of pictures that others send
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=DRAINING,
    )
    # uvicorn drains, and hands the signal on when that is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family) as listener:
        # Connections inherit it: without, heads of answers wait 40 ms for their bodies.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = f"[{options.host}]" if family == socket.AF_INET6 else options.host
        address = f"http://{host}:{listener.getsockname()[1]}"
        if options.json:
            print(json_text({"address": address, "pipeline": codec.pipeline.name}), flush=True)
        else:
            print(f"sdtrt serve: {address} ({codec.pipeline.name})", file=sys.stderr)
        try:
            uvicorn.Server(config).run([listener])
        finally:
            sys.stderr.flush()
            if any(thread.name.startswith("sdtrt") for thread in threading.enumerate() if thread.is_alive()):
                os._exit(0)  # Python would wait for what is in work, however long that takes
    return 0


def add_commands(commands: Any) -> None:
    command = add_command(commands, "serve", serve, "pictures over HTTP")

    def add(option: str, kind: Any, default: Any, text: str) -> None:
        """Add an option that a variable of the environment sets too: SDTRT_SERVE_MAX_BODY for --max-body.

        An empty variable counts as one that is not set.
        """
        variable = PREFIX + option.removeprefix("--").replace("-", "_").upper()
        command.add_argument(option, type=kind, default=os.environ.get(variable) or default, help=text)

    add("--host", str, "127.0.0.1", "address to listen at (default: this machine alone)")
    add("--port", port, 8000, "default 8000")
    add("--root", str, None, "folder or fsspec location whose .sdt files are served")
    add("--site", Path, None, "folder of the built viewer (default: web/dist of the sources)")
    workers = min(WORKERS, processors())
    add("--workers", thread_count, workers, f"requests that are computed at once (default {WORKERS}, or one per core)")
    add("--waiting", whole_number, 16, "requests that may wait for that (default 16)")
    add("--max-body", mebibytes, "64", "refuse bodies of more than so many MiB (default 64)")
    add("--timeout", seconds, 60.0, "give up a request after so many seconds (default 60)")
    add("--batch-wait", seconds, 0.005, "on a GPU: wait so long for requests of one kind (default 0.005 s)")
    add("--max-pixels", whole_number, DEFAULT_LIMITS.max_pixels, "refuse larger pictures (default %(default)s)")
    add("--max-age", whole_number, 3600, "for how many seconds answers may be cached (default 3600)")
    add_machine(command, f"model of the service: a name or a bundle's folder (default {BUILT_IN})", BUILT_IN)
    command.epilog = (
        f"Each option but those of the model has a variable of the environment: {PREFIX}ROOT for --root. "
        f"{TOKEN} holds the token that requests must bring."
    )
