"""Environment variables: a variable that is set but empty counts as unset, for each one that the project reads."""

import argparse
import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdtrt import cli
from sdtrt.cli.parsers.serve import OPTIONS, Option, fill_in
from sdtrt.doctor import examine
from sdtrt.engine.networks.backends.cache import Cache, user_cache
from sdtrt.engine.networks.bundle import bundle_folders, find_bundle, models_folder_error
from sdtrt.errors import BundleError
from sdtrt.process import environment

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX has HOME and user entries")


def no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user have no entry, as in a container with an arbitrary user id."""

    def getpwuid(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setitem(sys.modules, "pwd", SimpleNamespace(getpwuid=getpwuid))


def test_variable_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDTRT_X", raising=False)
    assert environment.variable("SDTRT_X") is None
    monkeypatch.setenv("SDTRT_X", "")
    assert environment.variable("SDTRT_X") is None
    environment.set_default("SDTRT_X", "1")
    environment.set_default("SDTRT_X", "2")
    assert environment.variable("SDTRT_X") == "1"


@pytest.mark.parametrize("floor", ["sdtrt", "engine", "kernels", "export"])
def test_environment_only_one_module_reads_it(floor: str) -> None:
    """Others could forget that an empty variable counts as unset."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    }
    assert readers <= {"sdtrt/process/environment.py"}


@pytest.mark.parametrize("value", ["", None])
def test_bundle_folders_without_models_variable_ignore_the_current_folder(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "bundle.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SDTRT_MODELS", raising=False)
    if value is not None:
        monkeypatch.setenv("SDTRT_MODELS", value)
    assert "evil" not in {folder.name for folder in bundle_folders()}
    monkeypatch.setenv("SDTRT_MODELS", ".")  # an explicit relative folder counts
    assert "evil" in {folder.name for folder in bundle_folders()}


@POSIX
@pytest.mark.parametrize(("home", "cache"), [("", ""), ("", "relative"), (None, None), ("relative", "")])
def test_user_cache_without_home_is_none(
    home: str | None, cache: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("HOME", home), ("XDG_CACHE_HOME", cache)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    no_user(monkeypatch)
    assert user_cache() is None
    kept = Cache("some", 100)
    kept.put("name", b"data")
    assert kept.get("name") is None
    assert cli.main(["engines", "list"]) == 1
    assert "set XDG_CACHE_HOME" in capsys.readouterr().err


@POSIX
def test_user_cache_home_that_is_a_file_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    kept = Cache("some", 100)
    kept.put("name", b"data")
    assert kept.get("name") is None


@POSIX
@pytest.mark.parametrize("value", ["", "relative/folder", None])
def test_user_cache_unusable_xdg_variable_gives_home(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    found = user_cache()
    assert found is not None
    assert found.is_relative_to(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert user_cache() == tmp_path / "mine" / "sdtrt"


def test_serve_variables_empty_give_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in OPTIONS:
        monkeypatch.setenv(one.variable, "")
    options = argparse.Namespace(**{one.attribute: None for one in OPTIONS})
    fill_in(options)
    assert options.workers >= 1
    assert all(getattr(options, one.attribute) == one.default for one in OPTIONS if one.attribute != "workers")


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.kind not in {str, Path}], ids=lambda one: one.name)
@pytest.mark.parametrize("value", ["many", "-1", "1e999", " "])
def test_serve_variable_with_bad_value_is_named(
    option: Option, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    pytest.importorskip("prometheus_client")
    name = option.variable
    monkeypatch.setenv(name, value)
    assert cli.main(["serve"]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "file", "unreadable"])
def test_models_variable_of_no_folder_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_bytes(b"")
    if kind == "unreadable":
        path.mkdir()
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setenv("SDTRT_MODELS", str(path))
    with pytest.raises(BundleError, match=r"no model named 'x'.* which is not a readable folder"):
        find_bundle("x")
    assert cli.main(["models"]) == 0
    assert f"$SDTRT_MODELS names {path}" in capsys.readouterr().err
    assert [finding.detail for finding in examine() if finding.subject == "folder of models"] == [models_folder_error()]
