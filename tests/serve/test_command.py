"""The command `sdtrt serve`, in a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from environment import HANG

from sdtrt import cli


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Yield the process and a client of a service that is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sdtrt", "serve", "--port", str(port), "--threads", "1", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG) as client:
            ready = rf"sdtrt serve: http://127\.0\.0\.1:{port} \((ort|openvino) on the CPU\)\n"
            assert re.fullmatch(ready, process.stderr.readline())
            until_ready(client)
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def until_ready(client: httpx.Client) -> None:
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.05)
    raise TimeoutError


def test_serve_json_prints_the_address() -> None:
    command = [sys.executable, "-m", "sdtrt", "serve", "--json", "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = json.loads(process.stdout.readline())
        process.kill()
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", said["address"])
    assert said["pipeline"].endswith("on the CPU")


def test_serve_sigterm_finishes_running_requests(real_files: dict[str, bytes]) -> None:
    with served() as (process, client), ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.post, "/decode", content=real_files["layers"]) for _ in range(4)]
        while "sdtrt_places_taken 0" in client.get("/metrics").text:
            assert not all(answer.done() for answer in answers)
        process.send_signal(signal.SIGTERM)
        assert {answer.result().status_code for answer in answers} == {200}
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_serve_environment_variables_set_options(tmp_path: Path, site: Path, real_files: dict[str, bytes]) -> None:
    (tmp_path / "a.sdt").write_bytes(real_files["colour"])
    variables = {"ROOT": str(tmp_path), "TOKEN": "abc", "MAX_AGE": "7", "SITE": str(site)}
    with served(**{f"SDTRT_SERVE_{name}": value for name, value in variables.items()}) as (_, client):
        assert client.get("/viewer/").text == "<!doctype html>"
        assert client.get("/files/a.sdt").status_code == 401
        answer = client.get("/files/a.sdt", headers={"Authorization": "Bearer abc"})
        assert (answer.content, answer.headers["cache-control"]) == (real_files["colour"], "private, max-age=7")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--root", "/no/such/folder"], "no such folder"),
        (["--timeout", "0"], "more than 0"),
        (["--max-body", "0"], "MiB"),
        (["--workers", "-1"], "at least"),
        (["--workers", "0"], "at least"),
    ],
)
def test_serve_invalid_option_exits_with_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(["serve", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert re.search(words, capsys.readouterr().err)


def test_serve_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("sdtrt.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert cli.main(["serve"]) == 1
    assert "serve]'" in capsys.readouterr().err
