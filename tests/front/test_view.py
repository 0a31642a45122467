"""`sdtrt view`: the responses of its server, and the command."""

import http.client
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from environment import HANG

from sdtrt import viewer
from sdtrt.cli import main
from sdtrt.viewer import ViewerServer

FILE = b"SDT, or so"


@pytest.fixture
def server(site: Path) -> Iterator[ViewerServer]:
    photo = site.parent / "a photo.sdt"
    photo.write_bytes(FILE)
    with ViewerServer(site, [photo]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ViewerServer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=HANG)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_viewer_server_serves_the_site(server: ViewerServer) -> None:
    status, body, headers = ask(server, "/?query")
    assert (status, body) == (200, b"<!doctype html>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "/src/client.js")[2]["Content-Type"].startswith("text/javascript")
    assert ask(server, "/runtime.wasm")[2]["Content-Type"] == "application/wasm"


def test_viewer_server_file_is_at_its_address(server: ViewerServer) -> None:
    path = urlsplit(server.address).fragment
    assert re.fullmatch(r"/[\w-]{20,}/0/a%20photo\.sdt", path)
    status, body, headers = ask(server, path)
    assert (status, body, headers["Content-Type"]) == (200, FILE, "image/x-sdt")
    status, body, headers = ask(server, path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(FILE)))


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/../secret", "/src/../../secret", "/%2e%2e/secret", "/..%2fsecret", "//secret", "/src/", "/sw.js"],
)
def test_viewer_server_other_paths_are_404(server: ViewerServer, path: str) -> None:
    assert ask(server, path)[:2] == (404, b"not found\n")


def test_viewer_server_other_host_is_421(server: ViewerServer) -> None:
    assert ask(server, "/", headers={"Host": f"example.org:{server.server_port}"})[0] == 421
    assert ask(server, "/", headers={"Host": f"localhost:{server.server_port}"})[0] == 200


def test_viewer_server_malformed_path_is_404(server: ViewerServer) -> None:
    headers = {"Host": f"127.0.0.1:{server.server_port}"}
    assert ask(server, "http://[/", headers=headers)[:2] == (404, b"not found\n")


def test_viewer_server_unreadable_file_is_404(
    server: ViewerServer, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ask(server, urlsplit(server.address).fragment)[:2] == (404, b"not found\n")


def test_viewer_server_disconnect_prints_nothing(
    server: ViewerServer, site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (site / "runtime.wasm").write_bytes(bytes(1 << 24))
    with socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        client.sendall(f"GET /runtime.wasm HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert client.recv(1)
    for _ in range(100):
        if not any("process_request" in thread.name for thread in threading.enumerate()):
            break
        time.sleep(0.05)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_viewer_server_name_that_is_not_unicode_is_served(site: Path) -> None:
    path = site.parent / os.fsdecode(b"caf\xe9.sdt")
    try:
        path.write_bytes(FILE)
    except OSError:
        pytest.skip("this file system has no such names")
    with ViewerServer(site, [path]) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert server.address.endswith("/0/caf%E9.sdt")
        assert ask(server, urlsplit(server.address).fragment)[:2] == (200, FILE)


def test_view_folder_is_refused(run_cli: Callable[..., subprocess.CompletedProcess[bytes]], site: Path) -> None:
    done = run_cli("view", "--no-browser", "--site", site, site)
    assert (done.returncode, done.stderr) == (1, f"sdtrt: {site} is not a regular file\n".encode())


def test_view_missing_site_names_the_build_command(
    run_cli: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    done = run_cli("view", "--no-browser", "--site", tmp_path)
    assert done.returncode == 1
    assert f"`make web` in {viewer.ROOT} builds it".encode() in done.stderr


def test_viewer_server_missing_site_without_sources_names_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder `web` beside an installed package belongs to another project."""
    (tmp_path / "web").mkdir()
    monkeypatch.setattr(viewer, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="installed without it; `make web` in a checkout") as refused:
        ViewerServer(tmp_path / "web" / "dist", [])
    assert "--site" in str(refused.value)


def test_view_missing_file_is_an_error(run_cli: Callable[..., subprocess.CompletedProcess[bytes]], site: Path) -> None:
    done = run_cli("view", "--no-browser", "--site", site, site / "none.sdt")
    assert done.returncode == 1
    assert b"none.sdt" in done.stderr


def test_view_serves_while_the_browser_command_runs(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`webbrowser.open` returns only at its end for browsers that run in a terminal."""
    found, servers = [], []

    class Kept(ViewerServer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            servers.append(self)

    def browse(address: str) -> None:
        with urlopen(address.partition("#")[0], timeout=HANG) as answer:
            found.append(answer.read())
        servers[0].shutdown()

    monkeypatch.setattr(viewer, "ViewerServer", Kept)
    monkeypatch.setattr("webbrowser.open", browse)
    assert main(["view", "--site", str(site)]) == 0
    assert found == [b"<!doctype html>"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_view_ctrl_c_exits_with_0(site: Path) -> None:
    """Tests that a shell starts in the background ignore SIGINT, and so would the command."""
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from sdtrt import cli; "
    command = [sys.executable, "-c", f"{start}sys.exit(cli.main())", "view", "--no-browser", "--site", str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#\n", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=HANG)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (0, "")
