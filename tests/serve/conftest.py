"""A service on loopback, in this process, with a codec that all tests share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from environment import HANG

from sdtrt.engine.codec import EngineCodec
from sdtrt.serve.application import application
from sdtrt.serve.handlers import Settings

Serving = Callable[..., httpx.Client]


@pytest.fixture(scope="session")
def engine_codec() -> EngineCodec:
    return EngineCodec("tiny", threads=1)


@contextmanager
def running(codec: EngineCodec, **settings: Any) -> Iterator[httpx.Client]:
    """Yield a client of a service."""
    server = uvicorn.Server(uvicorn.Config(application(codec, Settings(**settings)), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def running_service() -> Callable[..., Any]:
    """A context manager that starts a service and yields a client."""
    return running


@pytest.fixture
def serving(engine_codec: EngineCodec) -> Iterator[Serving]:
    """A function that starts a service until the end of the test, and returns a client."""
    with ExitStack() as stack:
        yield lambda codec=engine_codec, **settings: stack.enter_context(running(codec, **settings))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, real_files: dict[str, bytes]) -> Path:
    """A folder of `.sdt` files, with a subfolder, a link that leads out of it, and another file."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "below").mkdir()
    for name, data in real_files.items():
        (folder / f"{name}.sdt").write_bytes(data)
    (folder / "below" / "colour.sdt").write_bytes(real_files["colour"])
    (folder / "secret.txt").write_text("not an .sdt file")
    (folder.parent / "outside.sdt").write_bytes(real_files["colour"])
    (folder / "link.sdt").symlink_to(folder.parent / "outside.sdt")
    return folder


@pytest.fixture(scope="session")
def shared(engine_codec: EngineCodec, root: Path) -> Iterator[httpx.Client]:
    """A client of a service that tests share."""
    with running(engine_codec, root=str(root)) as client:
        yield client
