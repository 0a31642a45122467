"""The front page, with a content security policy that allows its own script and, if it is built, the viewer."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.responses import HTMLResponse, Response

from sdtrt.viewer import ISOLATION_HEADERS


def page_response(*, decodes: bool) -> Response:
    """Return the front page.

    Arguments:
        decodes: whether the page decodes `.sdt` files itself, by the files of the viewer. Otherwise the page sends them
            to the service.
    """
    if not decodes:
        return HTMLResponse(_page(), headers={"Content-Security-Policy": _policy("")})
    html = _page().replace("<html ", '<html data-viewer="viewer/" ', 1)
    return HTMLResponse(html, headers=ISOLATION_HEADERS | {"Content-Security-Policy": _policy(" 'self'")})


@cache
def _page() -> str:
    return resources.files("sdtrt.serve").joinpath("page.html").read_text("utf-8")


@cache
def _policy(script_sources: str) -> str:
    script, style = (_inline_hash(element) for element in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}{script_sources}; style-src {style}; img-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _inline_hash(element: str) -> str:
    """Return the CSP hash source of the page's only script or style element (CSP 3, 8.3)."""
    match = re.search(f"<{element}>(.*?)</{element}>", _page(), re.DOTALL)
    assert match is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}'"
