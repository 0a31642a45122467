"""Standard streams that are closed, full or of a small character set, and names that cannot be printed."""

import argparse
import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import file_name
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.process import streams
from sdtrt.process.text import counted, printable, printable_message, without_surrogates

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="shells and file names of POSIX")
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG", "SDTRT_"))}
NO_TERMINAL_PRINTS = {"kernels/build.py", "export/prior/train.py", "export/training_loop.py"}  # programs of developers
ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp437:strict"},
    {"PYTHONIOENCODING": "cp850:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


def run(*arguments: object, shell: str = '"$@"', cwd: Path | None = None, **environment: str) -> "Done":
    """Run the command line by a shell command."""
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "sdtrt", *map(os.fspath, arguments)]  # type: ignore[call-overload]
    done = subprocess.run(command, capture_output=True, cwd=cwd, env=PLAIN | environment, check=False, timeout=300)
    for words in (b"Traceback", b"Exception ignored"):
        assert words not in done.stderr, done.stderr.decode(errors="replace")
    return done


Done = subprocess.CompletedProcess[bytes]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a picture and its file."""
    Image.new("RGB", (40, 30), (90, 120, 60)).save(tmp_path / "a.png")
    (tmp_path / "a.sdt").write_bytes(sdtrt.encode(tmp_path / "a.png"))
    return tmp_path


def subcommands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command, subcommands too."""
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from subcommands(command, (*path, name))


class Narrow(io.TextIOWrapper):
    """A standard stream of one encoding that refuses what it lacks."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict")


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp850", "utf-8"])
@pytest.mark.parametrize("words", sorted(subcommands(cli.build_parser())), ids=" ".join)
def test_help_in_any_encoding_is_printed(
    words: tuple[str, ...], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help"])
    assert stop.value.code == 0
    assert out.errors == "strict"  # a program that calls `main` keeps its streams
    assert b"usage: sdtrt" in out.buffer.getvalue()  # type: ignore[attr-defined]


@POSIX
@pytest.mark.parametrize("environment", ASCII, ids=str)
def test_output_in_small_encodings_is_escaped(small: Path, environment: dict[str, str]) -> None:
    name = file_name("caf\u00e9 \u2713.sdt")
    (small / name).write_bytes((small / "a.sdt").read_bytes())
    assert run("decode", "--help", **environment).returncode == 0
    done = run("verify", name, file_name("missing \u2713.sdt"), cwd=small, **environment)
    assert done.returncode == 1
    assert b"caf" in done.stdout
    assert b": ok" in done.stdout
    assert b"No such file" in done.stderr
    assert json.loads(run("info", name, "--json", cwd=small, **environment).stdout)[0]["input"]
    usage = run("encode", "a.png", "--quality", file_name("\u2713"), cwd=small, **environment)
    assert usage.returncode == 2
    assert b"quality" in usage.stderr


@POSIX
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_work(small: Path, closed: str) -> None:
    done = run("encode", "missing.png", "a.png", "-f", shell=f'"$@" {closed}', cwd=small)
    assert done.returncode == 1
    assert done.stdout == b""  # messages for standard error do not go elsewhere
    sdtrt.verify((small / "a.sdt").read_bytes())


@POSIX
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [("info", "a.sdt"), ("info", "--help")])
def test_closed_streams_leave_the_exit_code(small: Path, closed: str, words: tuple[str, ...]) -> None:
    assert run(*words, shell=f'"$@" {closed}', cwd=small).returncode == 0


@POSIX
def test_closed_standard_error_is_not_reused_for_files(small: Path) -> None:
    """What libraries write to standard error would otherwise be in the output."""
    code = "import os, sys; from sdtrt.process import streams; streams.open_missing(); os.write(2, b'x')\n"
    code += "file = open('out', 'wb'); assert file.fileno() > 2; os.write(2, b'noise'); file.close()"
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-c", code], cwd=small, check=False)
    assert done.returncode == 0
    assert (small / "out").read_bytes() == b""


@pytest.mark.parametrize("missing", [("stdout",), ("stderr",), ("stdin", "stdout", "stderr")])
def test_missing_streams_in_process_are_tolerated(
    small: Path, missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in programs without a console on Windows."""
    for name in missing:
        monkeypatch.setattr(sys, name, None)
    source = str(small / "a.png")
    assert cli.main(["encode", source, source.replace("a.png", "none.png"), "-f"]) == 1
    assert cli.main(["info", str(small / "a.sdt"), "--json"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["encode"])


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [("info", "a.sdt"), ("info", "a.sdt", "--json"), ("doctor",), ("--version",), ("dataset", "encode", "--help")],
)
def test_full_device_is_an_error(small: Path, words: tuple[str, ...]) -> None:
    done = run(*words, shell='"$@" >/dev/full', cwd=small)
    assert done.returncode == 1
    assert b"sdtrt: No space left" in done.stderr


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_for_messages_is_no_failure(small: Path) -> None:
    assert run("encode", "a.png", "-f", shell='"$@" 2>/dev/full', cwd=small).returncode == 0


@POSIX
@pytest.mark.parametrize("words", [("info", "a.sdt"), ("encode", "--help"), ("models", "--json")])
def test_broken_pipe_ends_silently(small: Path, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sdtrt", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=small, env=PLAIN, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


ODD = [b"caf\xe9", b"two\nlines", b"\x1b[31mred", "\u202egnp".encode(), b"\x9b1m"]


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
@pytest.mark.parametrize("command", ["verify", "info", "decode", "encode", "compare"])
@pytest.mark.parametrize("as_json", [False, True])
def test_odd_names_do_not_end_a_batch(
    command: str, as_json: bool, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = ".png" if command in {"encode", "compare"} else ".sdt"
    inputs = [os.fsdecode(name) + suffix for name in ODD]
    monkeypatch.chdir(small)
    for name in inputs:
        Path(name).write_bytes(Path(f"a{suffix}").read_bytes())
    out, err = Narrow("utf-8"), Narrow("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr("sdtrt.progress.FIRST_LINE_SECONDS", 1e9)  # no lines of progress, however slow the machine
    inputs += [f"none\n{suffix}", f"a{suffix}"]
    options = {"encode": ["-f"], "decode": ["-f"]}.get(command, [])
    assert cli.main([command, *inputs, *options, *(["--json"] if as_json else [])]) == 1
    out.flush()
    printed = (out.buffer.getvalue() + err.buffer.getvalue()).decode()  # type: ignore[attr-defined]
    assert not {"\x1b", "\u202e", "\x9b"} & set(printed)
    if as_json:
        records = json.loads(out.buffer.getvalue())  # type: ignore[attr-defined]
        assert [record["input"] for record in records] == [*map(without_surrogates, inputs)]
    else:
        assert len(printed.splitlines()) == len(inputs) + 1  # and how many have failed
        assert f"a{suffix}: " in printed or f"a{suffix} -> " in printed


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_name_that_is_not_utf_8_does_not_end_a_batch_in_a_strict_locale(small: Path) -> None:
    Path(os.fsdecode(os.fsencode(small) + b"/caf\xe9.sdt")).write_bytes((small / "a.sdt").read_bytes())
    done = run("verify", b"caf\xe9.sdt", "a.sdt", cwd=small, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stdout) == (0, b"caf\\xe9.sdt: ok\na.sdt: ok\n")


def test_printable_escapes_only_what_cannot_be_shown() -> None:
    assert printable("caf\u00e9 \U0001f600 a\\b") == "caf\u00e9 \U0001f600 a\\b"
    assert printable("a\nb\x1b[0m\udce9\u2028") == "a\\nb\\x1b[0m\\xe9\\u2028"
    assert printable_message("one\n  two\nthree") == "one\n  two\\nthree"


def test_print_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    streams.print_json({"a": float("inf"), "b": [float("nan"), 1.5], "c": ("\udce9", Path("x"))})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"a": None, "b": [None, 1.5], "c": ["\\xe9", "x"]}


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_counted_has_plurals(number: int, text: str) -> None:
    assert counted(number, "file") == text


def test_printing_goes_through_one_module() -> None:
    """`print` fails, or goes to the wrong stream, where a standard stream is missing or narrow."""
    callers = {
        path.relative_to(ROOT).as_posix()
        for floor in ("sdtrt", "engine", "kernels", "export")
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in callers if not name.startswith("export/training/")} <= NO_TERMINAL_PRINTS


@POSIX
@pytest.mark.parametrize("arguments", [("encode", "a.png"), ("decode", "a.sdt"), ("decode", "--to-latents", "a.sdt")])
def test_commands_write_no_bytes_to_a_terminal(small: Path, arguments: tuple[str, ...]) -> None:
    """Bytes could change the state of the terminal. `--force` writes them all the same."""
    master, terminal = os.openpty()

    def command(*more: str) -> Done:
        words = [sys.executable, "-m", "sdtrt", *arguments, "-o", "-", *more]
        return subprocess.run(words, stdout=terminal, stderr=subprocess.PIPE, cwd=small, env=PLAIN, check=False)

    try:
        done = command()
        assert done.returncode == 1
        assert b"standard output is a terminal; redirect it, name a file with -o, or add --force" in done.stderr
        assert command("--force").returncode == 0
        assert os.read(master, 3)
    finally:
        os.close(master)
        os.close(terminal)
