"""How little the program imports: help, wrong usage and `info` start without NumPy, Pillow and engines."""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from environment import HANG
from PIL import Image

from sdtrt import cli
from sdtrt.cli import parsers
from sdtrt.kernels import core

VECTORS = Path(__file__).parents[1] / "vectors"
HEAVY = {"numpy", "PIL", "constriction", "threadpoolctl", "onnxruntime", "openvino", "cuda", "torch", "onnx", "shtab"}
WORK = {"sdtrt.api", "sdtrt.codec", "sdtrt.engine.codec", "sdtrt.compare", "sdtrt.dataset", "sdtrt.serve"}
# The last line of standard output has the exit code and the modules that the program has imported.
CODE = """
import sys
before = set(sys.modules)
from sdtrt.__main__ import program
sys.argv = ["sdtrt", *sys.argv[1:]]
code = program()
print()
print(code, *sorted(set(sys.modules) - before))
"""
INNER = [
    ["engines", "build"],
    ["engines", "list"],
    ["engines", "clean"],
    *(["dataset", operation] for operation in ("encode", "decode", "latents", "verify", "stats")),
]
WRONG = [
    [],
    ["nonesuch"],
    ["--nonesuch"],
    ["decode"],
    ["decode", "a.sdt", "--nonesuch"],
    ["decode", "a.sdt", "--denoise", "5000"],
    ["decode", "a.sdt", "--denoise", "some"],
    ["decode", "a.sdt", "--region", "somewhere"],
    ["decode", "a.sdt", "--preview", "5000"],
    ["decode", "a.sdt", "--look", "nonesuch"],
    ["encode", "a.png", "--effort", "10"],
    ["encode", "a.png", "--quality", "0"],
    ["encode", "a.png", "--roi-weight", "65"],
    ["encode", "a.png", "--backend", "nonesuch"],
    ["encode", "-", "/dev/stdin"],
    ["dataset", "decode", "in", "out", "--format", "bmp"],
    ["engines", "nonesuch"],
    ["serve", "--port", "99999"],
    ["completion", "nonesuch"],
]


def start(*arguments: str, cwd: Path | None = None) -> tuple[int, set[str]]:
    """Run the program in a process of its own; return its exit code and the modules that it has imported."""
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=cwd, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    code, *modules = done.stdout.splitlines()[-1].split()
    assert {"sdtrt.cli", "sdtrt.cli.parsers"} <= {*modules}
    return int(code), {*modules}


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in HEAVY}


def parsers_in(modules: set[str]) -> set[str]:
    """Return the modules of commands' parsers, without the shared one."""
    prefix = f"{parsers.__name__}."
    return {name.removeprefix(prefix) for name in modules if name.startswith(prefix)} - {"arguments"}


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_program_version_and_help_import_no_command(words: list[str]) -> None:
    code, modules = start(*words)
    assert code == 0
    assert heavy(modules) == set()
    assert parsers_in(modules) == set()
    assert {"dataclasses", "json", "sdtrt.atomic", "sdtrt.engine"}.isdisjoint(modules)


@pytest.mark.parametrize("words", [*([name] for name in parsers.COMMANDS), *INNER], ids=" ".join)
def test_help_of_command_imports_its_parser_alone(words: list[str]) -> None:
    code, modules = start(*words, "--help")
    assert code == 0
    assert heavy(modules) == set()
    assert WORK.isdisjoint(modules)
    assert parsers_in(modules) == {parsers.COMMANDS[words[0]].module}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage_imports_nothing_heavy(words: list[str]) -> None:
    code, modules = start(*words)
    assert code == 2
    assert heavy(modules) == set()
    assert WORK.isdisjoint(modules)


@pytest.mark.parametrize("vector", ["tiny_tiles_alpha", "sd1_palette", "adaptive_inline", "model_prior", "residual"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_info_imports_nothing_heavy(vector: str, options: list[str]) -> None:
    """The profiles are shipped ones, one in the file itself, and that of a model."""
    code, modules = start("info", str(VECTORS / vector / "input.sdt"), *options)
    assert code == 0
    assert heavy(modules) == set()
    assert "sdtrt.engine.format.latent_space" in modules


def test_info_of_damaged_file_imports_nothing_heavy() -> None:
    code, modules = start("info", str(VECTORS / "x_profile" / "input.sdt"))
    assert code == 1
    assert heavy(modules) == set()


def test_decode_and_encode_import_no_other_command(tmp_path: Path, photo: Callable[[int, int], np.ndarray]) -> None:
    Image.fromarray(photo(40, 30)).save(tmp_path / "a.png")
    code, of_encode = start("encode", "a.png", "--device", "cpu", cwd=tmp_path)
    assert code == 0
    code, of_decode = start("decode", "a.sdt", "-o", "b.png", "--device", "cpu", cwd=tmp_path)
    assert code == 0
    for modules in (of_encode, of_decode):
        assert {"numpy", "PIL", "sdtrt.codec"} <= modules  # so that a list without the others means something
        assert parsers_in(modules) == {"images"}
        others = ("api", "compare", "dataset", "doctor", "export", "latents", "serve", "viewer")
        assert {f"sdtrt.{name}" for name in others}.isdisjoint(modules)
        assert {"secrets", "PIL.PdfImagePlugin", "PIL.DdsImagePlugin"}.isdisjoint(modules)
    assert ("threadpoolctl" in of_decode) == (core.compiled() is None)


def test_table_of_commands_agrees_with_the_modules_of_parsers() -> None:
    folder = Path(parsers.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "arguments"}
    assert modules == {command.module for command in parsers.COMMANDS.values()}
    for module in modules:
        names = [name for name, command in parsers.COMMANDS.items() if command.module == module]
        assert [*importlib.import_module(f"{parsers.__name__}.{module}").PARSERS] == names


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers without commands below them."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for inner in action.choices.values():
            yield from leaves(inner)


def test_every_command_has_a_function() -> None:
    found = [*leaves(cli.build_parser())]
    assert len(found) == len(parsers.COMMANDS) - len({words[0] for words in INNER}) + len(INNER)
    for parser in found:
        assert callable(cli.function_of(argparse.Namespace(command=parser.get_default("command"))))
