"""Screenshots of pages by Chromium, without network access."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

from chromium import PROGRAMS, Chromium
from packages import program
from PIL import Image

FLAGS = (
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--allow-file-access-from-files",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
)
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
    """A window of `width` x `height` CSS pixels; `scale` is the number of device pixels per CSS pixel."""

    width: int
    height: int
    scale: float


@dataclass(frozen=True)
class Page:
    """HTML, or the path of an HTML file, with additional `css`. `scroll` is the position, 0 (top) to 1 (bottom)."""

    html: str | Path
    css: str = ""
    scroll: float = 0.0


class Browser(Chromium):
    """A Chromium that has only the fonts of a fontconfig file; `hinting` is none, slight, medium or full."""

    def __init__(self, fonts_conf: Path, hinting: str) -> None:
        command = ["nice", "-n", "10", program(*PROGRAMS), *FLAGS, f"--font-render-hinting={hinting}"]
        super().__init__(command, {"FONTCONFIG_FILE": str(fonts_conf)})

    def screenshot(self, page: Page, view: View) -> Image.Image:
        """Return the window with a page, in device pixels."""
        size = {"width": view.width, "height": view.height, "deviceScaleFactor": view.scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._open(page.html)
        self.evaluate(SETTLE % (json.dumps(page.css), page.scroll))
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def _open(self, html: str | Path) -> None:
        if isinstance(html, str):
            file = self.folder / "page.html"
            file.write_text(html, encoding="utf-8")
            html = file
        # Scripts would make screenshots depend on time: they finish late, and some write the date.
        self.call("Emulation.setScriptExecutionDisabled", value=True)
        self.go(html.resolve().as_uri())
        self.call("Emulation.setScriptExecutionDisabled", value=False)
