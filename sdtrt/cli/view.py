"""The command that shows files in a browser: `view`. What it calls is imported when run."""

import argparse

from sdtrt.process.streams import flush_results, print_json, print_result


def view(options: argparse.Namespace) -> int:
    import threading
    import webbrowser

    from sdtrt.viewer import SITE, ViewerServer

    try:
        with ViewerServer(options.site or SITE, options.inputs) as server:
            if options.json:
                print_json({"address": server.address}, one_line=True)
            else:
                print_result(server.address)
            flush_results()
            if not options.no_browser:  # beside the server: those in a terminal return only when they end
                threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
            server.serve_forever()
    except KeyboardInterrupt:  # the way to end it, also while it starts
        pass
    return 0
