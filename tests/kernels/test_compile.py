"""The kernels compile without warnings and spills, and the committed fatbin is that of the sources."""

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from extras import program

from sdtrt.kernels import build

ALL = build.SOURCES / "kernels.cu"
OPERATIONS = sorted(path for path in build.SOURCES.glob("*.cu") if path != ALL)


@pytest.fixture(scope="session")
def nvcc() -> str:
    return program("nvcc")


@pytest.fixture(scope="session")
def record() -> dict[str, Any]:
    return json.loads(build.RECORD.read_bytes())


def test_kernels_cu_includes_all_sources() -> None:
    included = re.findall(r'#include "(.+)"', ALL.read_text("utf-8"))
    assert included == [path.name for path in OPERATIONS]


@pytest.mark.slow
@pytest.mark.parametrize("source", OPERATIONS, ids=lambda path: path.name)
def test_compiles_without_warnings_and_spills(nvcc: str, source: Path, tmp_path: Path) -> None:
    command = build.command(nvcc, [80, 90], source, tmp_path / "kernels.fatbin")
    done = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    used = build.resources(done.stderr)
    assert used
    for kernel, architectures in used.items():
        assert set(architectures) == {"sm_80", "sm_90"}
        assert all(each["stack"] == each["spilled"] == 0 for each in architectures.values()), kernel


@pytest.fixture(scope="module")
def ptx(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("ptx") / "kernels.ptx"
    subprocess.run([nvcc, *build.FLAGS, "-arch=compute_80", "-ptx", "-o", output, ALL], check=True, capture_output=True)
    return output.read_text("utf-8")


@pytest.mark.slow
def test_nothing_is_fused_approximated_or_flushed(ptx: str) -> None:
    assert "div.rn.f32" in ptx
    assert set(re.findall(r"\b(?:fma|mad)\.\w+\.f32|\b\w+\.approx\S*|\b\S+\.ftz\S*", ptx)) == set()


@pytest.mark.slow
def test_every_kernel_reads_and_writes_16_bytes_at_once(ptx: str, record: dict[str, Any]) -> None:
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    assert set(bodies) == set(record["kernels"])
    for kernel, body in bodies.items():
        assert "ld.global.v4" in body, kernel
        assert "st.global.v4" in body, kernel
        assert ".local" not in body, kernel


def test_fatbin_matches_the_sources(record: dict[str, Any]) -> None:
    assert record["sources_sha256"] == build.sources_sha256(), "kernels.fatbin is stale; run: make kernels"
    assert record["fatbin_sha256"] == hashlib.sha256(build.FATBIN.read_bytes()).hexdigest(), "run: make kernels"


def test_record_has_all_kernels_and_architectures(record: dict[str, Any], host) -> None:
    assert record["architectures"] == [f"sm_{number}" for number in build.ARCHITECTURES]
    assert list(record["kernels"]) == sorted(host.signatures)
    for used in record["kernels"].values():
        assert sorted(used) == sorted(record["architectures"])
        assert all(each["spilled"] == each["stack"] == 0 for each in used.values())
