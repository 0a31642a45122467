"""The documentation builds as a site, strictly: no link is dead, all of the public API is on it, nothing is fetched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from environment import HANG

import sdtrt

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r'<(?:script|img|link rel="(?:stylesheet|preconnect)")[^>]*"(?:https?:)?//')


def build(configuration: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    package = tmp_path / "importroot" / "sdtrt"  # as `make importroot` has it
    package.mkdir(parents=True)
    for path in (*(ROOT / "sdtrt").iterdir(), *(ROOT / floor for floor in ("engine", "export", "kernels"))):
        (package / path.name).symlink_to(path)
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(configuration), "-d", str(tmp_path / "site")]
    environment = os.environ | {"IMPORTROOT": str(package.parent), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=HANG, check=False)


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    done = build(ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text("utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "tutorial.html", "CONTRIBUTING.html"} <= set(pages)
    assert not [name for name, text in pages.items() if FETCHED.search(text)]
    for name in {*sdtrt.__all__, "pillow_plugin", "Codec.decode_into"} - {"__version__"}:
        assert f'id="sdtrt.{name}"' in pages["api.html"], name


DEAD = ["absent0.md", "format.md#absent1", "../CONTRIBUTING.md#absent2", "absent3.png", "../engine/absent4.py"]


@pytest.mark.slow
def test_dead_links_fail(tmp_path: Path) -> None:
    configuration = (ROOT / "mkdocs.yml").read_text("utf-8").split("nav:\n")
    rest = configuration[1].partition("theme:\n")[2]
    (tmp_path / "docs").mkdir()
    for page in ROOT.glob("docs/*.*"):
        (tmp_path / "docs" / page.name).symlink_to(page)
    (tmp_path / "docs" / "new.md").write_text("\n\n".join(f"[dead]({link})" for link in DEAD))
    head = configuration[0].replace("docs/site_links.py", str(ROOT / "docs" / "site_links.py"))
    (tmp_path / "mkdocs.yml").write_text(f"{head}theme:\n{rest}")
    done = build(tmp_path / "mkdocs.yml", tmp_path)
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    for number in range(len(DEAD)):
        assert any(f"absent{number}" in line for line in warnings), done.stderr
