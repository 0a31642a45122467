"""Headless Chromium, driven over a pipe: pages in, pictures out, without a network."""

import base64
import io
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from packages import CHROMIUM, program
from PIL import Image

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--allow-file-access-from-files",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
)
# Chromium reads commands from descriptor 3 and answers on 4.
PIPED = 'exec nice -n 10 "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
SETTLE = """(async () => {
  const style = document.createElement("style");
  style.textContent = %s;
  document.head.appendChild(style);
  await document.fonts.ready;
  await Promise.all([...document.images].map(image => image.decode().catch(() => image.remove())));
  scrollTo(0, %f * (document.documentElement.scrollHeight - innerHeight));
})()"""


@dataclass(frozen=True)
class View:
    """A window of `width` x `height` CSS pixels, and how many of the screen's one of those is wide."""

    width: int
    height: int
    scale: float


@dataclass(frozen=True)
class Page:
    """HTML, or the file of a page; `css` is added to it, and it is scrolled by `scroll`, from 0 to 1."""

    html: str | Path
    css: str = ""
    scroll: float = 0.0


class Browser:
    """One Chromium that sees no fonts but those of a fontconfig file; `hinting` is none, slight, medium or full."""

    def __init__(self, fonts_conf: Path, hinting: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="pages-", ignore_cleanup_errors=True)
        arguments = [*FLAGS, f"--font-render-hinting={hinting}", f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(
            ["sh", "-c", PIPED, "sh", program(*CHROMIUM), *arguments, "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"FONTCONFIG_FILE": str(fonts_conf)},
        )
        self._sent = 0
        self._unread = b""
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self._send("Browser.close")
        self._process.wait(30)
        self._profile.cleanup()

    def shot(self, page: Page, view: View) -> Image.Image:
        """Return what the window shows of a page, in the screen's pixels."""
        size = {"width": view.width, "height": view.height, "deviceScaleFactor": view.scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._open(page.html)
        expression = SETTLE % (json.dumps(page.css), page.scroll)
        self._call("Runtime.evaluate", expression=expression, awaitPromise=True)
        data = self._call("Page.captureScreenshot", format="png")["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def _open(self, html: str | Path) -> None:
        """Go to a page and wait until it is loaded."""
        if isinstance(html, str):
            file = Path(self._profile.name) / "page.html"
            file.write_text(html, encoding="utf-8")
            html = file
        # The scripts of a page would have to be waited for, and some write the date.
        self._call("Emulation.setScriptExecutionDisabled", value=True)
        answer = self._call("Page.navigate", url=html.resolve().as_uri())
        if "errorText" in answer:
            raise RuntimeError(f"{html}: {answer['errorText']}")
        while self._read().get("method") != "Page.loadEventFired":
            pass
        self._call("Emulation.setScriptExecutionDisabled", value=False)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._send(method, **parameters)
        while (answer := self._read()).get("id") != self._sent:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _send(self, method: str, **parameters: Any) -> None:
        self._sent += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._sent, "method": method, "params": parameters} | session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._unread:
            part = os.read(self._process.stdout.fileno(), 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer
