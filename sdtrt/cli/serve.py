"""The command that serves images over HTTP: `serve`."""

import argparse
import os
import signal
import socket
import sys
import threading
import warnings

from sdtrt.cli.parsers.arguments import machine_options
from sdtrt.cli.parsers.serve import TOKEN, fill_in
from sdtrt.engine.codec import EngineCodec
from sdtrt.errors import ImageWarning
from sdtrt.process.environment import variable
from sdtrt.process.install import extra
from sdtrt.process.signals import die
from sdtrt.process.streams import flush_results, print_json, print_message

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
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
