"""The viewer's built site, and `.sdt` files for it, to HTTP on this machine alone."""

import secrets
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "web" / "dist"
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".sdt": "image/x-sdt",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
}
# The port is another one each time: what a browser kept for offline use would never be asked for again.
OFFLINE = {"sw.js", "files.js"}
ISOLATED = {  # both: without, browsers give a page no threads that share memory
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
HEADERS = {
    **ISOLATED,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def files_of(site: Path) -> dict[str, Path]:
    """Return the files of a built site by their paths below its address; none if it is not built."""
    if not (site / "files.js").is_file():  # what the build writes last
        return {}
    found = {path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()}
    return found | {"": site / "index.html"}


def media_type(path: Path) -> str:
    kind = TYPES.get(path.suffix, "application/octet-stream")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def how_to_build() -> str:
    """Return in words how one comes by a built site."""
    if (ROOT / "web" / "build.mjs").is_file():
        return f"`make web` in {ROOT} builds it, with Node 20 or later"
    return "sdtrt is installed without it; `make web` in a checkout of its sources builds web/dist, for --site to name"


class ViewerServer(ThreadingHTTPServer):
    """Serves a site and some files, each at a path that nobody guesses; nothing else, and no other host's pages."""

    daemon_threads = True

    def __init__(self, site: Path, files: Sequence[Path]) -> None:
        """Listen at any free port; `OSError` if the site is not built, a file is not there, or is no plain file."""
        found = files_of(site)
        if not found:
            raise FileNotFoundError(f"there is no built viewer in {site}: {how_to_build()}")
        self.paths = {f"/{name}": path for name, path in found.items() if name not in OFFLINE}
        places = []
        for number, path in enumerate(files):
            path.stat()
            if not path.is_file():
                raise OSError(f"{path} is no plain file")
            places.append(f"/{secrets.token_urlsafe(16)}/{number}/{path.name}")
            self.paths[places[-1]] = path
        super().__init__(("127.0.0.1", 0), ViewerHandler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        links = "&".join(quote(place, errors="surrogateescape") for place in places)
        self.address = f"http://127.0.0.1:{self.server_port}/#{links}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that go away half way."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ViewerHandler(BaseHTTPRequestHandler):
    """Answers what `ViewerServer` lists."""

    server: ViewerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status, body, kind = HTTPStatus.NOT_FOUND, b"not found\n", "text/plain; charset=utf-8"
        if self.headers.get("Host") not in self.server.hosts:  # a page of another name that leads here
            status, body = HTTPStatus.MISDIRECTED_REQUEST, b"wrong host\n"
        elif (found := self._found()) is not None:
            status, (body, kind) = HTTPStatus.OK, found
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self) -> tuple[bytes, str] | None:
        """Return what the path of a request names, and its media type; None if that is nothing that can be read."""
        try:
            path = self.server.paths[unquote(urlsplit(self.path).path, errors="surrogateescape")]
            return (path.read_bytes(), media_type(path)) if path.is_file() else None
        except (KeyError, OSError, ValueError):  # none of that name, one that is gone by now, or no address at all
            return None

    def version_string(self) -> str:
        return "sdtrt"

    def log_message(self, *args: object) -> None:
        """Say nothing: the terminal is the user's."""
