"""Remedies name the place that the package came from, never an index that does not have it."""

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from environment import needs_names_in_utf_8

from sdtrt.process import install as remedies
from sdtrt.process.install import install_command, repair_command

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets the package be installed from a direct_url.json, of an index for None."""
    monkeypatch.setattr(remedies, "_checkout", lambda: None)

    class Distribution:
        def __init__(self, origin: dict[str, Any] | None) -> None:
            self.origin = origin

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if self.origin is None else json.dumps(self.origin)

    def install(origin: dict[str, Any] | None) -> None:
        monkeypatch.setattr(metadata, "distribution", lambda name: Distribution(origin))

    return install


def test_install_command_checkout_names_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remedies, "_checkout", lambda: ROOT)
    monkeypatch.chdir(tmp_path)
    assert shlex.split(install_command("gpu")) == ["pip", "install", "-e", f"{ROOT}[gpu]"]
    monkeypatch.chdir(ROOT)
    assert install_command("cpu", "export") == "pip install -e '.[cpu,export]'"


@pytest.mark.parametrize("name", ["sdtrt", "with spaces", "ünicode"])
def test_install_command_folder_names_it(installed: Any, tmp_path: Path, name: str) -> None:
    needs_names_in_utf_8()
    folder = tmp_path / name
    folder.mkdir()
    installed({"url": folder.as_uri(), "dir_info": {}})
    assert shlex.split(install_command("gpu")) == ["pip", "install", f"{folder}[gpu]"]


def test_install_command_wheel_names_it(installed: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "sdtrt-0.1.0-py3-none-any.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert shlex.split(install_command("cpu")) == ["pip", "install", f"{wheel}[cpu]"]


def test_install_command_folder_gone_says_clone(installed: Any, tmp_path: Path) -> None:
    installed({"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert install_command("cpu") == "pip install '.[cpu]', in a clone of sdtrt"


def test_install_command_repository_names_commit(installed: Any) -> None:
    installed({"url": "https://example.com/s.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install_command("cpu") == "pip install 'sdtrt[cpu] @ git+https://example.com/s.git@abc'"


def test_install_command_index_names_package(installed: Any) -> None:
    installed(None)
    assert install_command("cpu") == "pip install 'sdtrt[cpu]'"


def test_install_command_not_installed_says_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(remedies, "_checkout", lambda: None)
    monkeypatch.setattr(metadata, "distribution", missing)
    assert "clone" in install_command("cpu")


def test_repair_command_checkout_restores_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "_checkout", lambda: ROOT)
    folder = ROOT / "engine" / "data" / "bundles" / "tiny"
    command = shlex.split(repair_command(folder))
    assert command == ["git", "-C", str(ROOT), "checkout", "--", "engine/data/bundles/tiny"]


def test_repair_command_installed_reinstalls(installed: Any, tmp_path: Path) -> None:
    installed({"url": tmp_path.as_uri(), "dir_info": {}})
    command = shlex.split(repair_command(Path("/anywhere/tiny")))
    assert command == ["pip", "install", "--force-reinstall", "--no-deps", str(tmp_path)]


def test_sources_name_no_index() -> None:
    """Every remedy of this kind comes from one function."""
    sources = [path for floor in ("sdtrt", "engine", "export", "kernels") for path in (ROOT / floor).rglob("*.py")]
    assert len(sources) > 100
    assert [path.name for path in sources if "pip install" in path.read_text("utf-8")] == ["install.py"]
