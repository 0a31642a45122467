"""The commands and the code of dataset.md run unchanged, except where they need a bucket or a cluster."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from environment import HANG

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("s3://", "--ray")


def test_documentation_commands_run(make_source: Callable[[str, Path], str], tmp_path: Path) -> None:
    Path(make_source("folder", tmp_path)).rename(tmp_path / "photos")
    make_source("tar", tmp_path)
    for number in range(2):
        (tmp_path / f"s-{number}.tar").rename(tmp_path / f"train-{number}.tar")
    text = (ROOT / "docs" / "dataset.md").read_text("utf-8")
    commands = [line for line in re.findall("^sdtrt .*", text, re.MULTILINE) if not any(e in line for e in ELSEWHERE)]
    assert len(commands) == 6
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, env=environment, timeout=HANG)
    blocks = re.findall("```python\n(.*?)```", text, re.DOTALL)
    shown = (f"{blocks[0]}    print(caption)\n", f"{blocks[1]}        print(captions)\n")
    for code in shown:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, check=True)
        assert b"caption 3" in done.stdout
    assert len(list((tmp_path / "back").rglob("*.webp"))) == 7
