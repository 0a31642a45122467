"""The JavaScript decoder's own checks, where Node and its packages are: types; tests, in Chromium if it is there."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.image import psnr

WEB = Path(__file__).parents[2] / "web"
NODE = 20  # the least major version that web/package.json takes


def lacking() -> str:
    """Return why the checks cannot be run here, nothing if they can."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "no Node"
    version = subprocess.run([node, "--version"], capture_output=True, check=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE:
        return f"Node {version}, the decoder's tests need {NODE} or later"
    return "" if (WEB / "node_modules").is_dir() else "run `npm ci` in web/ first"


LACKING = lacking()
ENCODE = """
import { readFile, writeFile } from "node:fs/promises";
import { Encoder } from "./src/encoder.js";
import { load } from "./test/vectors.js";
const [source, target, width, height, quality] = process.argv.slice(1);
const data = new Uint8ClampedArray(await readFile(source)), picture = { width: +width, height: +height, data };
await writeFile(target, await new Encoder({ load }).encode(picture, { quality: +quality }));
"""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKING), reason=LACKING)]


@pytest.mark.parametrize("script", ["check", "test"])
def test_npm_script_passes(script: str) -> None:
    command = [str(shutil.which("npm")), "run", "--silent", script]
    done = subprocess.run(command, cwd=WEB, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("width", "times"), [(301, 1), (410, 4)])
def test_file_of_the_web_encoder_is_decoded_by_python(
    codec: sdtrt.Codec, photo: Callable[[int, int], np.ndarray], tmp_path: Path, width: int, times: int
) -> None:
    """Python decodes it, to as good a picture as its own file of the same quality holds, and of the same size."""
    pixels = np.tile(photo(width, 43), (1, times, 1))
    (tmp_path / "pixels").write_bytes(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]).tobytes())
    places = [tmp_path / "pixels", tmp_path / "found.sdt"]
    command = ["node", "--input-type=module", "-e", ENCODE, "--", *map(str, [*places, times * width, 43, 60])]
    subprocess.run(command, cwd=WEB, check=True)
    found, own = places[1].read_bytes(), codec.encode(pixels, quality=60, layers=1)
    sdtrt.verify(found)
    assert abs(len(found) - len(own)) <= len(own) / 100
    near, nearer = (psnr(np.asarray(codec.decode(data)), pixels) for data in (found, own))
    assert abs(near - nearer) < 0.1
