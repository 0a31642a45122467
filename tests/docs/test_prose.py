"""Prose in Markdown is wrapped at 100 columns, and not needlessly before; code, tables and headings are as they are."""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "benchmarks", "tests") for page in ROOT.glob(f"{folder}/**/*.md")),
    ]
)
WIDTH, NARROW = 100, 80
WORD = re.compile(r"(?:`[^`]*`|[^\s`])+")  # code with spaces is one word
ONE_LINK = re.compile(r"[-*\s]*!?\[[^]]*\]\(\S+\)\S*")
NO_PROSE = re.compile(r"\|.*\||#|<!--|:::|    ")
ITEM = re.compile(r"\s*(?:- |\d+\. )")


def paragraphs(text: str) -> list[list[str]]:
    """Return the lines of each paragraph and item, without what may be wider."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if not line.strip() or NO_PROSE.match(line) or ONE_LINK.fullmatch(line):
            found.append([])
        elif ITEM.match(line):
            found.append([line])
        else:
            found[-1].append(line)
    return [lines for lines in found if lines]


def faults(text: str) -> list[str]:
    wide = [line for lines in paragraphs(text) for line in lines if len(line) > WIDTH and len(WORD.findall(line)) > 1]
    # Tables bring lines of their own, which start where figures come from.
    written = re.sub(r"<!-- table: .*?<!-- end -->", "", text, flags=re.DOTALL)
    pairs = [pair for lines in paragraphs(written) for pair in itertools.pairwise(lines)]
    return wide + [line for line, below in pairs if len(line) + 1 + len(WORD.findall(below)[0]) <= NARROW]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_wrapped(page: Path) -> None:
    assert not faults(page.read_text("utf-8"))


def test_faults_are_seen() -> None:
    assert faults("word " * 25)
    assert faults("- too\n  narrow")
    assert not faults("```\n" + "word " * 25 + "\n```\n| " + "word " * 25 + "|\n" + "[" + "word " * 25 + "](x.md)")
