"""The tests that are marked `gpu`: kernels against references, backends against the CPU."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from gpu import ROOT
from gpu.check import Check, CheckError, require

# Other versions of libraries may warn, which is not a failure here.
OPTIONS = ("-q", "-m", "gpu", "-rfEs", "--tb=short", "-p", "no:cacheprovider", "-W", "default")


def tests(check: Check) -> Iterator[tuple[str, Any]]:
    require("pytest", "hypothesis")
    machine = check.machine
    command = [sys.executable, "-m", "pytest", *OPTIONS, *machine.pytest_options, str(ROOT / "tests" / "gpu")]
    path = os.pathsep.join(map(str, machine.path)) + os.pathsep + os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    print(done.stdout, done.stderr, sep="\n", flush=True)
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    yield "counts", counts
    yield "skipped", reasons("SKIPPED", done.stdout)
    yield "failed", reasons("(?:FAILED|ERROR)", done.stdout)
    if done.returncode:
        last = "".join((done.stdout + done.stderr).strip().splitlines()[-1:])
        raise CheckError(f"pytest ended with {done.returncode}: {last}")


def reasons(kind: str, output: str) -> list[str]:
    """Return the reasons of pytest for tests of a kind."""
    return re.findall(rf"^{kind} (.+)$", output, re.MULTILINE)
