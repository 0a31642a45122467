"""The run time works where nothing of the export stage is installed, and loads nothing before it is needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from environment import HANG

PRELUDE = """
import sys

class Without:
    names = {"torch", "diffusers", "onnx", "onnxscript", "transformers", "tensorrt", "tensorrt_lean", "tensorrt_rtx"}
    asked_for = set()

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name not in self.names:
            return self.finder.find_spec(name, path, target)
        self.asked_for.add(name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
COMMANDS = [
    "encode",
    "decode",
    "info",
    "verify",
    "doctor",
    "models",
    "export",
    "import",
    "engines",
    "engines build",
    "completion",
]
NEEDED_LATER = {"onnxruntime", "openvino", "cuda", "pycuda", "scipy", "skimage", "sdtrt.export"}


def run(code: str, *arguments: str | Path) -> str:
    """Run `code` in a fresh interpreter without the libraries of the export stage and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def sdtrt(*arguments: str | Path) -> str:
    return run("from sdtrt.cli import main\nsys.exit(main(sys.argv[1:]))", *arguments)


def test_import_loads_nothing_heavy() -> None:
    loaded = run("import sdtrt\nprint(*(name for name, module in sys.modules.items() if module), sep='\\n')").split()
    assert NEEDED_LATER.isdisjoint(loaded)


def test_import_asks_for_nothing_of_the_export_stage() -> None:
    assert run("import sdtrt, sdtrt.cli\nprint(*Without.asked_for)").strip() == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    assert f"sdtrt {command}" in sdtrt(*command.split(), "--help")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["export", "--model", "x", "--out", "y"], r"pip install .*\[(cpu,)?export\]"),
        (["import", "--encoder", "x", "--decoder", "y", "--out", "z"], r"pip install .*\[(cpu,)?onnx\]"),
        (["engines", "build"], r"pip install .*\[(cpu,)?onnx\]"),
    ],
)
def test_what_to_install_is_said(command: list[str], extra: str) -> None:
    code = "import contextlib, io\nfrom sdtrt.cli import main\nerr = io.StringIO()\n"
    code += "with contextlib.redirect_stderr(err): code = main(sys.argv[1:])\nprint(code, err.getvalue())"
    assert run(code, *command).startswith("1 sdtrt: this needs libraries that are not installed")
    assert re.search(extra, run(code, *command))


def test_engines_can_be_listed(tmp_path: Path) -> None:
    code = "import os\nos.environ['XDG_CACHE_HOME'] = sys.argv.pop()\n"
    code += "from sdtrt.cli import main\nmain(['engines', 'list'])"
    assert "no engines" in run(code, tmp_path)


def test_round_trip(tmp_path: Path) -> None:
    picture, packed, back = (tmp_path / name for name in ("in.png", "packed.sdt", "back.png"))
    run("from PIL import Image\nImage.new('RGB', (40, 24), 'teal').save(sys.argv[1])", picture)
    sdtrt("encode", picture, "-o", packed)
    assert "40" in sdtrt("info", packed)
    sdtrt("verify", packed)
    sdtrt("decode", packed, "-o", back)
    assert run("from PIL import Image\nprint(Image.open(sys.argv[1]).size)", back).strip() == "(40, 24)"


@pytest.mark.parametrize("command", ["doctor", "models"])
def test_report(command: str) -> None:
    assert sdtrt(command)
