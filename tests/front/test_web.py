"""Tests of the JavaScript decoder: its type check and tests, and its encoder against the Python codec.

They need Node and the packages of web/. The tests in Chromium run only where Chromium is installed.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.image import psnr

WEB = Path(__file__).parents[2] / "web"
MIN_NODE = 20  # major version, as in web/package.json
ENCODE = """
import { readFile, writeFile } from "node:fs/promises";
import { Encoder } from "./src/encoder.js";
import { load } from "./test/vectors.js";
const [source, target, width, height, quality] = process.argv.slice(1);
const data = new Uint8ClampedArray(await readFile(source)), image = { width: +width, height: +height, data };
await writeFile(target, await new Encoder({ load }).encode(image, { quality: +quality }));
"""


def skip_reason() -> str:
    """Return why the tests cannot run here, "" if they can."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "no Node"
    version = subprocess.run([node, "--version"], capture_output=True, check=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < MIN_NODE:
        return f"Node {version}, the decoder's tests need {MIN_NODE} or later"
    return "" if (WEB / "node_modules").is_dir() else "run `npm ci` in web/ first"


SKIP_REASON = skip_reason()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(SKIP_REASON), reason=SKIP_REASON)]


@pytest.mark.parametrize("script", ["check", "test"])
def test_npm_script_succeeds(script: str) -> None:
    command = [str(shutil.which("npm")), "run", "--silent", script]
    result = subprocess.run(command, cwd=WEB, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("width", "repeats"), [(301, 1), (410, 4)])
def test_javascript_encoder_matches_python_in_size_and_psnr(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], tmp_path: Path, width: int, repeats: int
) -> None:
    pixels = np.tile(photo(width, 43), (1, repeats, 1))
    source, target = tmp_path / "pixels", tmp_path / "javascript.sdt"
    source.write_bytes(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]).tobytes())
    arguments = [source, target, repeats * width, 43, 60]
    command = ["node", "--input-type=module", "-e", ENCODE, "--", *map(str, arguments)]
    subprocess.run(command, cwd=WEB, check=True)
    javascript, python = target.read_bytes(), codec.encode(pixels, quality=60, layers=1)
    sdtrt.verify(javascript)
    assert abs(len(javascript) - len(python)) <= len(python) / 100
    psnrs = [psnr(np.asarray(codec.decode(data)), pixels) for data in (javascript, python)]
    assert abs(psnrs[0] - psnrs[1]) < 0.1
