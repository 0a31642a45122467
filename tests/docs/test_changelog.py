"""One version: the changelog's newest entry is this version's, or says that it is not released; it is what is cited."""

import re
from pathlib import Path

from sdtrt._version import __version__

ROOT = Path(__file__).parents[2]


def test_newest_entry() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] in {"Unreleased", __version__}
    assert len(headings) == len(set(headings))


def test_citation() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]
