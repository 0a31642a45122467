"""The command that shows files in a browser: `view`. What it calls is imported when run."""

import argparse
from pathlib import Path
from typing import Any

from sdtrt.cli.arguments import add_command
from sdtrt.text import json_text


def view(options: argparse.Namespace) -> int:
    import threading
    import webbrowser

    from sdtrt.viewer import SITE, ViewerServer

    try:
        with ViewerServer(options.site or SITE, options.inputs) as server:
            print(json_text({"address": server.address}) if options.json else server.address, flush=True)
            if not options.no_browser:  # beside the server: those in a terminal return only when they end
                threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
            server.serve_forever()
    except KeyboardInterrupt:  # the way to end it, also while it starts
        pass
    return 0


def add_commands(commands: Any) -> None:
    command = add_command(commands, "view", view, "files in a browser, decoded there, until Ctrl-C")
    command.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help=".sdt files")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.add_argument("--site", type=Path, help="folder of the built viewer (default: web/dist of the sources)")
