"""The worked example of docs/format.md is a real file that holds what the text says; its levels are those of priors."""

import re
from pathlib import Path

import numpy as np

from sdtrt.engine.coding.latent_file import decode_symbols
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.format import container
from sdtrt.engine.format.latent_space import PRIOR_NAMES

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")
SECTION = TEXT.split("## 6. A worked example")[1]


def test_example() -> None:
    dump = SECTION.split("```")[1]
    data = bytes.fromhex("".join(re.match(r"(?:[0-9a-f]{2} ?)*", line)[0] for line in dump.strip().splitlines()))
    file = container.read(data)
    width, height = re.search(r"(\d+)x(\d+) pixels", SECTION).groups()
    assert (file.header.width, file.header.height) == (int(width), int(height))

    expected = np.zeros((40, 1, 2), np.int16)
    for channel, row, column, symbol in re.findall(r"\((\d+),\s(\d+),\s(\d+)\)\sis\s(-?\d+)", SECTION):
        expected[int(channel), int(row), int(column)] = int(symbol)
    assert expected.any()
    np.testing.assert_array_equal(decode_symbols(file), expected)


def test_levels() -> None:
    for identifier, name in PRIOR_NAMES.items():
        levels, ends = re.search(rf"^\| {identifier} \| (\d) \| ([\d, ]+) \|$", TEXT, re.MULTILINE).groups()
        assert tuple(map(int, ends.split(", "))) == shipped_prior(name).cuts
        assert int(levels) == len(shipped_prior(name).cuts) + 1
