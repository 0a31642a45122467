"""What a service refuses, and that it stays whole meanwhile."""

import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from sdtrt.engine.codec import PictureCodec

Serving = Callable[..., httpx.Client]


@pytest.fixture
def slow(pictures: PictureCodec, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Networks that wait for an event, at most 20 seconds."""
    event, decoded = threading.Event(), pictures.pipeline.synthesise

    def wait(*arguments: object) -> object:
        event.wait(20)
        return decoded(*arguments)

    monkeypatch.setattr(pictures.pipeline, "synthesise", wait)
    return event


def wait_for(client: httpx.Client, taken: int) -> None:
    """Wait until so many requests have a place."""
    end = time.monotonic() + 10
    while f"sdtrt_places_taken {taken:.1f}" not in client.get("/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_busy(serving: Serving, slow: threading.Event, real_files: dict[str, bytes]) -> None:
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


def test_timeout(serving: Serving, slow: threading.Event, real_files: dict[str, bytes]) -> None:
    client = serving(timeout=0.2)
    answer = client.post("/decode", content=real_files["colour"])
    assert answer.status_code == 503
    assert "longer than 0.2 seconds" in answer.json()["detail"]
    slow.set()


def test_a_client_that_goes_away(serving: Serving, slow: threading.Event, real_files: dict[str, bytes]) -> None:
    client = serving(workers=1)
    for _ in range(2):  # one in work, one waiting for it
        with pytest.raises(httpx.ReadTimeout):
            client.post("/decode", content=real_files["colour"], timeout=0.3)
    wait_for(client, 0)
    slow.set()
    assert 'sdtrt_requests_total{operation="decode",status="499"} 2.0' in client.get("/metrics").text
    assert client.post("/decode", content=real_files["colour"]).status_code == 200


def test_bodies_too_large(serving: Serving, real_files: dict[str, bytes]) -> None:
    client = serving(max_nbytes=1000)
    assert client.post("/verify", content=b"x" * 1001).status_code == 413
    assert client.post("/verify", content=(b"x" * 400 for _ in range(3))).status_code == 413
    assert client.post("/verify", content=(real_files["colour"] for _ in range(1))).status_code == 200


def test_pictures_too_large(serving: Serving, real_files: dict[str, bytes]) -> None:
    client = serving(max_pixels=45 * 37 - 1)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((37, 45, 3), np.uint8)).save(stream, "PNG")
    for path in ("/decode", "/info", "/verify", "/latents", "/decode?preview=8", "/decode?width=3"):
        assert client.post(path, content=real_files["colour"]).status_code == 413
    assert client.post("/encode", content=stream.getvalue()).status_code == 413


def test_a_body_that_does_not_come(serving: Serving) -> None:
    client = serving(timeout=0.3)
    with socket.create_connection((client.base_url.host, client.base_url.port), 10) as connection:
        connection.sendall(b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert b"408 Request Timeout" in connection.recv(4096)
    with socket.create_connection((client.base_url.host, client.base_url.port), 10) as connection:
        connection.sendall(b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    wait_for(client, 0)


def test_token(serving: Serving, real_files: dict[str, bytes], root: object) -> None:
    client = serving(token="sésame", root=str(root))
    told = {"Authorization": "Bearer sésame".encode()}
    for path in ("/", "/healthz", "/openapi.json"):
        assert client.get(path).status_code == 200
    for said in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic sésame".encode()}):
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


def test_a_fault_is_told_to_nobody(
    serving: Serving, pictures: PictureCodec, real_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serving()

    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(pictures.pipeline, "synthesise", fail)
    answer = client.post("/decode", content=real_files["colour"])
    assert answer.status_code == 500
    assert "secret" not in answer.text
