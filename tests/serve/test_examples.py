"""The `curl` commands of README.md and serve.md run unchanged against a service."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from environment import HANG
from PIL import Image

import sdtrt

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/serve.md"])
def test_documentation_curl_commands_run(
    serving: Callable[..., httpx.Client],
    codec: sdtrt.Codec,
    photo: Callable[[int, int], np.ndarray],
    tmp_path: Path,
    page: str,
) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert "\nsdtrt serve --root packed/" in text
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "beach.sdt").write_bytes(codec.encode(photo(500, 40)))
    Image.fromarray(photo(120, 90)).save(tmp_path / "photo.jpg")
    address = str(serving(root=str(tmp_path / "packed")).base_url).rstrip("/")
    commands = re.findall("^curl .*", text, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        asked = command.replace("curl", "curl -sSf", 1).replace("http://127.0.0.1:8000", address)
        subprocess.run(["sh", "-c", asked], check=True, cwd=tmp_path, timeout=HANG)
    assert sdtrt.info(tmp_path / "photo.sdt").width == 120
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (400, 32)
