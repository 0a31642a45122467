"""How many processors and threads a restricted process gets."""

import argparse
import math
import os
from pathlib import Path

import pytest

from sdtrt import cli
from sdtrt.cli.parsers.serve import fill_in
from sdtrt.process import threads
from sdtrt.process.threads import available_cpus, cpu_quota


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of control groups without limits, which stands for the machine's."""
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "CGROUPS_OF_PROCESS", tmp_path / "own")
    cpu_quota.cache_clear()
    return tmp_path


def restrict(monkeypatch: pytest.MonkeyPatch, count: int, of: int = 64) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: of)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_processors_affinity_mask_limits_number(monkeypatch: pytest.MonkeyPatch, groups: Path, count: int) -> None:
    restrict(monkeypatch, count)
    assert available_cpus() == count


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "5000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/of/the host\n", {"cpu.max": "400000 100000"}, 4),
        ("2:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "50000"}, 2),
        ("2:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 8),
        ("2:memory:/\n", {"memory/cpu.cfs_quota_us": "1", "memory/cpu.cfs_period_us": "1"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("nonsense\n", {}, 8),
        ("0::/\n", {"cpu.max": "99900000 100000"}, 8),
    ],
)
def test_processors_quota_limits_number(
    monkeypatch: pytest.MonkeyPatch, groups: Path, own: str, files: dict[str, str], expected: int
) -> None:
    (groups / "own").write_text(own)
    for name, text in files.items():
        path = groups / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    restrict(monkeypatch, 8)
    assert available_cpus() == expected


def test_processors_without_affinity_counts_machine(monkeypatch: pytest.MonkeyPatch, groups: Path) -> None:
    restrict(monkeypatch, 1, of=5)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cpus() == 5
    assert cpu_quota(groups / "none", groups / "none") == math.inf


def workers_of_service(parser: argparse.ArgumentParser) -> int:
    options = parser.parse_args(["serve"])
    fill_in(options)
    return int(options.workers)


def test_commands_restricted_process_starts_as_many_workers(monkeypatch: pytest.MonkeyPatch, groups: Path) -> None:
    restrict(monkeypatch, 1)
    monkeypatch.delenv("SDTRT_SERVE_WORKERS", raising=False)
    parser = cli.build_parser()
    assert parser.parse_args(["dataset", "stats", "folder"]).workers == 1
    assert workers_of_service(parser) == 1
    restrict(monkeypatch, 3)
    parser = cli.build_parser()
    assert parser.parse_args(["dataset", "stats", "folder"]).workers == 3
    assert workers_of_service(parser) == 2
