"""Limits of a service: slots, timeouts, sizes, hosts, tokens, clients that disconnect."""

import asyncio
import io
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from environment import HANG
from PIL import Image

from sdtrt.engine.codec import EngineCodec
from sdtrt.serve.handlers import Settings
from sdtrt.serve.workers import Workers

Serving = Callable[..., httpx.Client]


@pytest.fixture
def slow(engine_codec: EngineCodec, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Networks that wait until an event is set, at the latest at the end of the test."""
    event, decoded = threading.Event(), engine_codec.pipeline.synthesise

    def wait(*arguments: object) -> object:
        event.wait(HANG)
        return decoded(*arguments)

    monkeypatch.setattr(engine_codec.pipeline, "synthesise", wait)
    yield event
    event.set()


def wait_for(client: httpx.Client, taken: int) -> None:
    """Wait until `taken` slots are taken."""
    end = time.monotonic() + HANG
    while f"sdtrt_places_taken {taken:.1f}" not in client.get("/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_all_slots_taken_is_503(serving: Serving, slow: threading.Event, real_files: dict[str, bytes]) -> None:
    client = serving(workers=1, waiting=2)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(client.post, "/decode", content=real_files["colour"]) for _ in range(3)]
        wait_for(client, 3)
        for _ in range(5):
            answer = client.post("/decode", content=real_files["colour"])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/healthz").status_code == 200
        slow.set()
        assert {future.result().status_code for future in held} == {200}
    assert client.post("/decode", content=real_files["colour"]).status_code == 200


def test_workers_timeout_is_503(serving: Serving, slow: threading.Event, real_files: dict[str, bytes]) -> None:
    client = serving(timeout=0.2)
    answer = client.post("/decode", content=real_files["colour"])
    assert answer.status_code == 503
    assert "longer than 0.2 seconds" in answer.json()["detail"]
    slow.set()


def test_workers_call_after_timeout_does_not_begin(
    serving: Serving, engine_codec: EngineCodec, real_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, event = [], threading.Event()

    def wait(parsed: object) -> None:
        begun.append(parsed)
        event.wait(HANG)
        raise ValueError("it was long enough")

    client = serving(workers=1, waiting=9, timeout=1)
    while client.get("/readyz").status_code != 200:
        time.sleep(0.01)
    monkeypatch.setattr(engine_codec.pipeline, "synthesise", wait)
    answers = [client.post("/decode", content=real_files["colour"]).status_code for _ in range(4)]
    wait_for(client, 0)  # an answer is sent a turn of the loop before its call is cancelled
    event.set()
    assert answers == [503] * 4
    assert client.post("/verify", content=real_files["colour"]).status_code == 200
    assert len(begun) == 1


def test_workers_cancelled_call_frees_its_arguments() -> None:
    held = threading.Event()

    class Large:
        pass

    async def run() -> None:
        workers = Workers(1, 1, 1.0)
        first = workers.submit(held.wait)
        large = Large()
        known = weakref.ref(large)
        second = workers.submit(id, large)
        del large
        second.cancel()
        await asyncio.sleep(0)
        assert known() is None
        held.set()
        await first
        workers.close()

    asyncio.run(run())


def test_application_unknown_host_is_421(serving: Serving) -> None:
    client = serving(hosts=frozenset({"127.0.0.1", "localhost"}))
    assert client.get("/healthz").status_code == 200
    assert client.get("/healthz", headers={"Host": "localhost:99"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
    for malformed in ('a"b.evil.example', "evil.example/localhost", "[", "localhost@evil.example"):
        assert client.get("/healthz", headers={"Host": malformed}).status_code == 421


def test_settings_token_not_ascii_is_refused() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        Settings(token="sésame")


def test_application_client_that_does_not_read_releases_its_slot(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "large.sdt").write_bytes(b"SDT".ljust(30 << 20))
    client = serving(root=str(tmp_path), timeout=2)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port))
        connection.sendall(b"GET /files/large.sdt HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(client, 1)
        wait_for(client, 0)


def test_application_disconnected_client_releases_its_slot(
    serving: Serving, slow: threading.Event, real_files: dict[str, bytes]
) -> None:
    client = serving(workers=1)
    for _ in range(2):  # one in work, one waiting for it
        with pytest.raises(httpx.ReadTimeout):
            client.post("/decode", content=real_files["colour"], timeout=0.3)
    wait_for(client, 0)
    slow.set()
    assert 'sdtrt_requests_total{operation="decode",status="499"} 2.0' in client.get("/metrics").text
    assert client.post("/decode", content=real_files["colour"]).status_code == 200


def test_application_too_large_body_is_413(serving: Serving, real_files: dict[str, bytes]) -> None:
    client = serving(max_nbytes=1000)
    assert client.post("/verify", content=b"x" * 1001).status_code == 413
    assert client.post("/verify", content=(b"x" * 400 for _ in range(3))).status_code == 413
    assert client.post("/verify", content=(real_files["colour"] for _ in range(1))).status_code == 200


def test_application_too_large_image_is_413(serving: Serving, real_files: dict[str, bytes]) -> None:
    client = serving(max_pixels=45 * 37 - 1)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((37, 45, 3), np.uint8)).save(stream, "PNG")
    for path in ("/decode", "/info", "/verify", "/latents", "/decode?preview=8", "/decode?width=3"):
        assert client.post(path, content=real_files["colour"]).status_code == 413
    assert client.post("/encode", content=stream.getvalue()).status_code == 413


def test_application_slow_body_is_408(serving: Serving) -> None:
    client = serving(timeout=0.3)
    with socket.create_connection((client.base_url.host, client.base_url.port), HANG) as connection:
        connection.sendall(b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert b"408 Request Timeout" in connection.recv(4096)
    with socket.create_connection((client.base_url.host, client.base_url.port), HANG) as connection:
        connection.sendall(b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    wait_for(client, 0)


def test_application_missing_token_is_401(serving: Serving, real_files: dict[str, bytes], root: object) -> None:
    client = serving(token="sesame", root=str(root))
    told = {"Authorization": "Bearer sesame"}
    for path in ("/", "/healthz", "/openapi.json"):
        assert client.get(path).status_code == 200
    for said in (
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": "Basic sesame"},
        {"Authorization": "Bearer sésame".encode()},
    ):
        for method, path in (
            ("POST", "/encode"),
            ("POST", "/verify"),
            ("GET", "/metrics"),
            ("GET", "/files/colour.sdt"),
        ):
            answer = client.request(method, path, headers=said)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert client.post("/verify", content=real_files["colour"], headers=told).status_code == 200
    assert client.get("/files/colour.sdt", headers=told).headers["cache-control"] == "private, max-age=3600"


def test_application_internal_error_hides_its_text(
    serving: Serving, engine_codec: EngineCodec, real_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serving()

    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(engine_codec.pipeline, "synthesise", fail)
    answer = client.post("/decode", content=real_files["colour"])
    assert answer.status_code == 500
    assert "secret" not in answer.text
