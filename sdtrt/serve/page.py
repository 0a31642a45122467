"""The front page, with a policy that lets nothing run but what is written in it, and the viewer if there is one."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.responses import HTMLResponse, Response

from sdtrt.viewer import ISOLATED


def page_response(*, decodes: bool) -> Response:
    """Return the page, which decodes by itself what comes back, with the files of the viewer, or has it decoded."""
    if not decodes:
        return HTMLResponse(_page(), headers={"Content-Security-Policy": _policy("")})
    told = _page().replace("<html ", '<html data-viewer="viewer/" ', 1)
    return HTMLResponse(told, headers=ISOLATED | {"Content-Security-Policy": _policy(" 'self'")})


@cache
def _page() -> str:
    return resources.files("sdtrt.serve").joinpath("page.html").read_text("utf-8")


@cache
def _policy(more: str) -> str:
    script, style = (_hash_of(element) for element in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}{more}; style-src {style}; img-src blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash_of(element: str) -> str:
    """Return the hash of the one script or style sheet in the page, as policies name it (CSP 3, 8.3)."""
    match = re.search(f"<{element}>(.*?)</{element}>", _page(), re.DOTALL)
    assert match is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}'"
