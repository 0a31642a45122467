"""The examples of docs/embedding.md run, section by section; those for device memory where there is a GPU."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.errors import DeviceError

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
START, *SECTIONS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ABOUT = "about = sdtrt.info(data)\n"


def lacks(section: str) -> str:
    """Return what this machine lacks for a section, an empty text if nothing."""
    modules = {line.split()[1].partition(".")[0] for line in section.splitlines() if line.startswith("import ")}
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return f"no {missing[0]}"
    if "decode_into" in section:
        try:
            architecture()
        except DeviceError as error:
            return f"no device: {error}"
    return ""


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split()[1])
def test_section(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Callable[[int, int], np.ndarray]
) -> None:
    if lacks(section):
        pytest.skip(lacks(section))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo(40, 30)).save("photo.jpg")
    names: dict[str, object] = {}
    exec(START + ABOUT + section, names)
    if "asyncio" in section:
        exec("image = asyncio.run(pixels_of(data))", names)
        assert isinstance(names["image"], Image.Image)
