"""Headless Chromium, told what to do by its DevTools protocol."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_SECONDS = 30
LOADED = """
new Promise((resolve) => document.readyState === "complete" ? resolve() : addEventListener("load", () => resolve()))
"""


class Page:
    """A page of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def go(self, address: str) -> None:
        """Show another address, and wait until it is loaded."""
        await self._ask("Page.navigate", {"url": address})
        await self.evaluate(LOADED)

    async def browser(self) -> str:
        """Return the browser's name and version."""
        return str((await self._ask("Browser.getVersion", {}))["product"])

    async def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression gives, awaited; `RuntimeError` if it throws."""
        wanted = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = await self._ask("Runtime.evaluate", wanted)
        if "exceptionDetails" in found:
            raise RuntimeError(f"the page threw: {json.dumps(found['exceptionDetails'])}")
        return found["result"].get("value")

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        async for message in self._socket:
            answer = message.json()
            if answer.get("id") == self._count:
                found: dict[str, Any] = answer["result"]
                return found
        raise RuntimeError(f"the browser ended during {method}")


def program_path(name: str | None = None) -> str:
    """Return the path of Chromium, or of the browser of that name; `FileNotFoundError` if there is none."""
    names = (name,) if name else PROGRAMS
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise FileNotFoundError(f"no {', '.join(names)}; name a Chromium by --chromium")
    return found


@asynccontextmanager
async def opened(program: str) -> AsyncIterator[Page]:
    """Start a browser that forgets all, with an empty page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await port_of(Path(profile))
            async with aiohttp.ClientSession() as client:
                pages = await (await client.get(f"http://127.0.0.1:{port}/json/list")).json(content_type=None)
                target = next(page for page in pages if page["type"] == "page")
                async with client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            browser.terminate()
            browser.wait()


async def port_of(profile: Path) -> int:
    """Return the port that a browser listens at, once it says so in its profile's folder."""
    told, end = profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
    while not (told.exists() and told.read_text().count("\n")):
        if time.monotonic() > end:
            raise TimeoutError(f"the browser did not start in {START_SECONDS} s")
        await asyncio.sleep(0.05)
    return int(told.read_text().split("\n")[0])
