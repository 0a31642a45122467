"""The HTTP server of `sdtrt view`: the built viewer and some `.sdt` files, for this machine only."""

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
MEDIA_TYPES = {
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
# Files for offline use. The port differs in each run, so a browser would never use its stored copy again.
OFFLINE_FILES = {"sw.js", "files.js"}
ISOLATION_HEADERS = {  # without both, browsers disable threads with shared memory
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
SITE_HEADERS = {
    **ISOLATION_HEADERS,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def list_site_files(site: Path) -> dict[str, Path]:
    """Return the files of a built site by their URL path; an empty dict if the site is not built."""
    if not (site / "files.js").is_file():  # the build writes this file last
        return {}
    files = {path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()}
    return files | {"": site / "index.html"}


def media_type(path: Path) -> str:
    """Return the Content-Type of a file by its suffix."""
    name = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return f"{name}; charset=utf-8" if name.startswith("text/") else name


def build_hint() -> str:
    """Return instructions for building the site."""
    if (ROOT / "web" / "build.mjs").is_file():
        return f"`make web` in {ROOT} builds it, with Node 20 or later"
    return "sdtrt is installed without it; `make web` in a checkout of its sources builds web/dist; pass that to --site"


class ViewerServer(ThreadingHTTPServer):
    """Serves a site and some files on a free port of this machine.

    Each file has a path with a random token. Requests with another host in the Host header are refused.

    Arguments:
        site: the folder of the built viewer.
        files: the `.sdt` files.

    Raises:
        OSError: the site is not built, or a file is missing or is not a regular file.
    """

    daemon_threads = True

    def __init__(self, site: Path, files: Sequence[Path]) -> None:
        site_files = list_site_files(site)
        if not site_files:
            raise FileNotFoundError(f"there is no built viewer in {site}: {build_hint()}")
        self.paths = {f"/{name}": path for name, path in site_files.items() if name not in OFFLINE_FILES}
        url_paths = []
        for number, path in enumerate(files):
            path.stat()
            if not path.is_file():
                raise OSError(f"{path} is not a regular file")
            url_paths.append(f"/{secrets.token_urlsafe(16)}/{number}/{path.name}")
            self.paths[url_paths[-1]] = path
        super().__init__(("127.0.0.1", 0), ViewerHandler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        links = "&".join(quote(url_path, errors="surrogateescape") for url_path in url_paths)
        self.address = f"http://127.0.0.1:{self.server_port}/#{links}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that disconnect during a response."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ViewerHandler(BaseHTTPRequestHandler):
    """Serves the files of a `ViewerServer`."""

    server: ViewerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status, body, content_type = HTTPStatus.NOT_FOUND, b"not found\n", "text/plain; charset=utf-8"
        if self.headers.get("Host") not in self.server.hosts:  # DNS rebinding: another name for this machine
            status, body = HTTPStatus.MISDIRECTED_REQUEST, b"wrong host\n"
        elif (file := self._requested_file()) is not None:
            status, (body, content_type) = HTTPStatus.OK, file
        self.send_response(status)
        for name, value in SITE_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _requested_file(self) -> tuple[bytes, str] | None:
        """Return the bytes and the Content-Type of the requested file; None if it is unknown or unreadable."""
        try:
            path = self.server.paths[unquote(urlsplit(self.path).path, errors="surrogateescape")]
            return (path.read_bytes(), media_type(path)) if path.is_file() else None
        except (KeyError, OSError, ValueError):  # unknown path, removed file, malformed URL
            return None

    def version_string(self) -> str:
        return "sdtrt"

    def log_message(self, *args: object) -> None:
        """Log nothing, because the terminal belongs to the user."""
