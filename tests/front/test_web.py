"""The JavaScript decoder's own checks, where Node and its packages are: types; tests, in Chromium if it is there."""

import shutil
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKING), reason=LACKING)
@pytest.mark.parametrize("script", ["check", "test"])
def test_script(script: str) -> None:
    command = [str(shutil.which("npm")), "run", "--silent", script]
    done = subprocess.run(command, cwd=WEB, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
