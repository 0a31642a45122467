"""The viewer in a service: its files, and the front page that decodes with them."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sdtrt.viewer import SITE_HEADERS

Serving = Callable[..., httpx.Client]


def test_viewer_files_are_served_and_revalidated(serving: Serving, site: Path) -> None:
    client = serving(site=site, token="sesame")
    for name, kind in (
        ("", "text/html; charset=utf-8"),
        ("src/client.js", "text/javascript; charset=utf-8"),
        ("sw.js", "text/javascript; charset=utf-8"),
        ("runtime.wasm", "application/wasm"),
    ):
        answer = client.get(f"/viewer/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert {key: answer.headers[key] for key in SITE_HEADERS} == SITE_HEADERS
        assert answer.headers["cache-control"] == "no-cache"
        known = client.get(f"/viewer/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("name", ["nowhere", "../secret", "%2e%2e/secret", "..%2fsecret", "/secret", "src/", "src"])
def test_viewer_other_paths_are_404(serving: Serving, site: Path, name: str) -> None:
    client = serving(site=site)
    request = client.build_request("GET", "/viewer/x")
    request.url = request.url.copy_with(raw_path=f"/viewer/{name}".encode())
    assert client.send(request).status_code == 404


def test_page_with_viewer_decodes_itself(serving: Serving, site: Path) -> None:
    page = serving(site=site).get("/")
    assert 'data-viewer="viewer/"' in page.text
    assert " 'self'; style-src" in page.headers["content-security-policy"]
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"


def test_page_without_viewer_lets_the_service_decode(serving: Serving, tmp_path: Path) -> None:
    client = serving(site=tmp_path)
    page = client.get("/")
    assert "data-viewer=" not in page.text
    assert "'self'; style-src" not in page.headers["content-security-policy"]
    assert "cross-origin-embedder-policy" not in page.headers
    assert client.get("/viewer/").status_code == 404
