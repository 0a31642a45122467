"""The suite's own switches: features that are turned off, extras that are missing, and the environment of tests."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import environment
import extras
import features
import pytest
from environment import HANG

ROOT = Path(__file__).parents[1]
PROBE = """
import importlib.util, os
from sdtrt.process.threads import available_cpus
from sdtrt.engine.networks.backends import openvino, trt_library
from sdtrt.errors import DeviceError
try:
    types = openvino.capabilities()
except DeviceError:
    types = None
there = [name for name in ("cuda", "openvino", "png", "pycuda", "pyvips") if importlib.util.find_spec(name)]
print({"modules": there + trt_library.installed(), "processors": available_cpus(), "types": types,
       "bfloat16": openvino.may_have_bfloat16()})
"""


def probed(without: str, *arguments: str) -> dict[str, object]:
    """Return what a Python that starts with features turned off finds of the machine."""
    outer = os.environ | {features.VARIABLE: without, "PYTHONPATH": str(features.HERE)}
    command = [sys.executable, *arguments, "-c", PROBE]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=outer, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout)


def test_hide_all_leaves_no_feature_to_find() -> None:
    assert probed("all") == {"modules": [], "processors": 1, "types": None, "bfloat16": False}


def test_hide_bfloat16_leaves_the_other_types_and_libraries() -> None:
    extras.needs("openvino")
    found, plain = probed("bfloat16"), probed("")
    assert found["modules"] == plain["modules"]
    assert found["types"] == [name for name in plain["types"] if name != "BF16"]
    assert found["bfloat16"] is False


@pytest.mark.parametrize(("types", "expected"), [(["BF16", "FP32"], ["FP32"]), (["FP32"], ["FP32"])])
def test_without_bfloat16_takes_it_from_what_a_processor_has(
    types: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdtrt.engine.networks.backends import openvino

    monkeypatch.setattr(openvino, "CPU_FEATURES", openvino.CPU_FEATURES)
    monkeypatch.setattr(openvino, "capabilities", lambda: types)
    features.without_bfloat16(openvino)
    assert openvino.capabilities() == expected
    assert openvino.best_precision() == "fp32"
    assert not openvino.may_have_bfloat16()


def test_features_of_lists_are_checked() -> None:
    assert features.features_of("") == frozenset()
    assert features.features_of("bfloat16, large") == {"bfloat16", "large"}
    assert features.features_of("all") == set(features.FEATURES)
    with pytest.raises(ValueError, match="SDTRT_TEST_WITHOUT names bf16; expected all or bfloat16, processors, "):
        features.features_of("bf16,large")


def test_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    used = {extra for needed in extras.NEEDS.values() for extra in needed}
    assert used <= extras.MODULES.keys() <= project["optional-dependencies"].keys()
    assert [path for path in extras.NEEDS if not (extras.TESTS / path).exists()] == []


def test_extras_of_a_file_are_those_of_its_folders() -> None:
    assert extras.extras_of(extras.TESTS / "dataset" / "test_ray.py") == ["dataset", "ray"]
    assert extras.extras_of(extras.TESTS / "front" / "test_cli.py") == []


@pytest.fixture
def none_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra that is not installed, nor turned off."""
    monkeypatch.setitem(extras.MODULES, "none-such", ("none_such",))


def test_needs_skips_by_name_where_an_extra_is_missing(none_such: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(extras.VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"extra none-such.*no module none_such.*pip install -e"):
        extras.needs("cpu", "none-such")


def test_needs_fails_where_extras_are_required(none_such: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(extras.VARIABLE, "required")
    with pytest.raises(pytest.fail.Exception, match=r"needs the extra none-such.*forbids to skip"):
        extras.needs("none-such")


def test_needs_skips_what_is_turned_off_even_where_extras_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(extras.VARIABLE, "required")
    monkeypatch.setattr(extras, "HIDDEN", frozenset({"large"}))
    monkeypatch.setitem(sys.modules, "png", None)
    with pytest.raises(pytest.skip.Exception, match="no module png"):
        extras.needs("large")


def test_needs_passes_where_the_extra_is_there() -> None:
    extras.needs("cpu")


def test_define_removes_what_changes_the_outcome() -> None:
    found = {
        **dict.fromkeys(("SDTRT_MODELS", "SDTRT_SERVE_ROOT", "COLUMNS", "NO_COLOR", "PYTHONWARNINGS"), "x"),
        **{"SDTRT_KILLS": "9", "LC_ALL": "C", "HOME": "/root", "XDG_CACHE_HOME": "/cache", "NO_PROXY": "a.example"},
    }
    environment.define(found, "/new")
    assert found == {
        **{"SDTRT_KILLS": "9", "LC_ALL": "C", "HOME": "/new", "USERPROFILE": "/new"},
        **{"NO_PROXY": f"a.example,{environment.LOOPBACK}", "no_proxy": environment.LOOPBACK},
    }


def test_environment_of_this_test_is_the_defined_one() -> None:
    from sdtrt.engine.networks.backends.cache import user_cache

    assert not [name for name in os.environ if name.startswith(("SDTRT_MODELS", "SDTRT_SERVE_"))]
    assert environment.REMOVED.isdisjoint(os.environ)
    assert user_cache().is_relative_to(os.environ["HOME"])
    assert "sdtrt-home-" in os.environ["HOME"]
    umask = os.umask(0o022)
    assert umask == 0o022
