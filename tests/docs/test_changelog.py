"""The newest entry of the changelog is this version's, or says that it is not released."""

import re
from pathlib import Path

from sdtrt._version import __version__

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def test_newest_entry() -> None:
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG.read_text("utf-8"), re.MULTILINE)
    assert headings[0] in {"Unreleased", __version__}
    assert len(headings) == len(set(headings))
