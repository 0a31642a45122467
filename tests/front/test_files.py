"""Where outputs go, and that each appears whole or not at all."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.cli import images as image_commands
from sdtrt.cli import inputs
from sdtrt.cli.files import check_distinct, exists, prepare_outputs, read_input, require_writable, write_output

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="links and descriptors of POSIX")


def test_prepare_outputs_without_output_lies_beside_the_input() -> None:
    assert prepare_outputs(["a.png", "d/b.tar.png", "c"], None, ".sdt") == ["a.sdt", str(Path("d/b.tar.sdt")), "c.sdt"]
    assert prepare_outputs(["-"], None, ".sdt") == ["-"]


def test_prepare_outputs_one_input_goes_to_the_named_output(tmp_path: Path) -> None:
    assert prepare_outputs(["a.png"], "b.sdt", ".sdt") == ["b.sdt"]
    assert prepare_outputs(["a.png"], "-", ".sdt") == ["-"]
    assert prepare_outputs(["x/a.png"], str(tmp_path), ".sdt") == [str(tmp_path / "a.sdt")]


def test_prepare_outputs_several_inputs_go_into_the_folder(tmp_path: Path) -> None:
    for folder in (str(tmp_path), "not/there/yet"):
        assert prepare_outputs(["a.png", "x/b.jpg"], folder, ".sdt") == [
            str(Path(folder, n)) for n in ("a.sdt", "b.sdt")
        ]


@pytest.mark.parametrize(
    ("sources", "output"),
    [(["a.png", "a.jpg"], None), (["x/a.png", "y/a.png"], "folder"), (["-", "-"], None), (["a.png", "b.png"], "-")],
)
def test_outputs_that_coincide(sources: list[str], output: str | None) -> None:
    with pytest.raises(ValueError, match=r"several inputs"):
        prepare_outputs(sources, output, ".sdt")


def test_write_output_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "out.sdt"
    write_output(str(path), b"one", force=False)
    with pytest.raises(FileExistsError, match="--force"):
        write_output(str(path), b"two", force=False)
    assert read_input(str(path)) == b"one"
    write_output(str(path), b"two", force=True)
    assert read_input(str(path)) == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["out.sdt"]


def test_write_output_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_output(str(tmp_path / "ours"), b"", force=False)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_write_output_interrupted_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "out.sdt"
    path.write_bytes(b"old")

    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(error):
        write_output(str(path), b"new", force=True)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.sdt"]


def test_write_output_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        write_output(str(tmp_path / "missing" / "a.sdt"), b"", force=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_write_output_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(str(pipe), b"through", force=False)
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_output(str(tmp_path), b"", force=True)


@LINKS
def test_require_writable_link_counts_as_its_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("new")
    assert exists(str(tmp_path / "link"))
    with pytest.raises(FileExistsError, match="--force"):
        require_writable(str(tmp_path / "link"), force=False)
    require_writable(str(tmp_path / "link"), force=True)
    assert not exists(str(tmp_path / "dangling"))  # nothing is there that could be lost
    require_writable(str(tmp_path / "dangling"), force=False)


@LINKS
def test_exists_streams_and_devices_are_never_skipped(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert exists(str(tmp_path / "file"))
        assert not exists(f"/dev/fd/{file.fileno()}")
    assert not exists("/dev/null")
    assert not exists("-")


@pytest.mark.parametrize("output", ["taken", "/dev/null", "/dev/stdout", "/dev/fd/1"])
@LINKS
def test_prepare_outputs_several_inputs_need_a_folder(tmp_path: Path, output: str) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(ValueError, match="several inputs cannot share"):
        prepare_outputs(["a.png", "b.png"], str(tmp_path / output), ".sdt")


@LINKS
def test_prepare_outputs_of_dev_stdin_go_to_standard_output(tmp_path: Path) -> None:
    assert prepare_outputs(["/dev/stdin"], None, ".sdt") == ["-"]
    assert prepare_outputs(["/dev/stdin"], str(tmp_path), ".sdt") == [str(tmp_path / "-.sdt")]


def test_prepare_outputs_file_named_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        prepare_outputs(["a.png"], f"{tmp_path / 'taken'}/", ".sdt")


def test_check_distinct_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    os.link(tmp_path / "a", tmp_path / "b")
    for one, other in (("a", "a"), ("a", "b"), ("new", "./new")):
        with pytest.raises(ValueError, match="both name"):
            check_distinct({"-o": f"{tmp_path}/{one}", "--png": f"{tmp_path}/{other}"})
    check_distinct({"-o": f"{tmp_path}/a", "--png": f"{tmp_path}/c"})


@LINKS
def test_check_distinct_streams() -> None:
    with pytest.raises(ValueError, match="both name"):
        check_distinct({"-o": "-", "--png": "/dev/stdout"})
    check_distinct({"-o": "/dev/null", "--png": "/dev/null"})


@pytest.fixture
def images(tmp_path: Path, photo: Callable[[int, int], np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Image.fromarray(photo(40, 30)).save(f"{name}.png")
    return tmp_path


def through_a_shell(line: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell in which `$0` is Python."""
    return subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, timeout=120, check=False, **options)


@LINKS
@pytest.mark.parametrize(
    ("name", "options"), [("/dev/stdout", ""), ("/dev/fd/1", "--skip-existing"), ("link", "-f --json"), ("-", "--json")]
)
def test_encode_standard_output_by_any_name_is_that_stream(images: Path, name: str, options: str) -> None:
    (images / "link").symlink_to("/dev/fd/1")
    line = f'printf head; "$0" -m sdtrt encode a.png -o {name} {options}; printf tail'
    data = sdtrt.encode("a.png")
    done = through_a_shell(line)
    assert done.stdout == b"head" + data + b"tail", done.stderr
    done = through_a_shell(f"({line}) > out")
    assert (images / "out").read_bytes() == b"head" + data + b"tail", done.stderr
    assert (images / "link").is_symlink()
    if "--json" in options:
        assert json.loads(done.stderr)[0]["output"] == name


@LINKS
@pytest.mark.parametrize("name", ["/dev/stdin", "link", "-"])
def test_commands_standard_input_by_any_name_is_read_from_where_it_stands(images: Path, name: str) -> None:
    (images / "link").symlink_to("/dev/fd/0")
    data = sdtrt.encode("a.png")
    (images / "in").write_bytes(b"head" + data)
    with Path("in").open("rb") as stream:
        stream.seek(4)
        os.lseek(stream.fileno(), 4, os.SEEK_SET)
        done = through_a_shell(f'"$0" -m sdtrt decode {name} -o back.png', stdin=stream)
    assert done.returncode == 0, done.stderr
    with Image.open("back.png") as image:
        assert image.tobytes() == sdtrt.decode(data).tobytes()
    done = through_a_shell(f'"$0" -m sdtrt encode {name}', input=Path("a.png").read_bytes())
    assert done.stdout == data, done.stderr


@pytest.fixture
def idle(images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing may be read, nor a model be opened."""
    sdt = sdtrt.encode("a.png")
    for name in ("a.sdt", "b.sdt"):
        Path(name).write_bytes(sdt)
    Path("taken").write_bytes(b"old")
    Path("folder").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    for unit, name in (
        (inputs, "open_codec"),
        (inputs, "read_input"),
        (image_commands, "read_input"),
        (image_commands, "info"),
    ):
        monkeypatch.setattr(unit, name, refuse)
    monkeypatch.setattr(image_commands, "find_model", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    return images


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "a.png", "-o", "taken"), "taken exists; --force replaces it"),
        (("encode", "a.png", "b.png"), "a.sdt exists; --force replaces it"),
        (("encode", "a.png", "-o", "missing/a.sdt"), "missing does not exist"),
        (("encode", "a.png", "-o", "taken/a.sdt"), "is not a folder"),
        (("encode", "a.png", "-o", "locked/a.sdt"), "permission denied"),
        (("encode", "a.png", "b.png", "-o", "missing"), "missing does not exist"),
        (("encode", "a.png", "-f", "-o", "n" * 256), "too long"),
        (("encode", "a.png", "--effort", "9", "-o", "taken"), "taken exists"),
        (("encode", "a.npy", "--from-latents", "-o", "taken"), "taken exists"),
        (("decode", "a.sdt", "-o", "taken"), "taken exists"),
        (("decode", "a.sdt", "-o", "x.nonesuch"), "Pillow cannot write .nonesuch files"),
        (("decode", "a.sdt", "-f", "-m", "tiny", "-o", "x.psd"), "Pillow cannot write .psd files"),
        (("decode", "a.sdt", "b.sdt"), "a.png exists"),
        (("decode", "a.sdt", "--to-latents", "-o", "missing/a.npy"), "missing does not exist"),
        (("decode", "a.sdt", "--to-latents", "-o", "taken"), "taken exists"),
    ],
)
def test_commands_output_that_cannot_be_written_is_noticed_before_any_work(
    idle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    Path("locked").mkdir()
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *rest, **options: Path(path).name != "locked" and access(path, *rest, **options)
    )
    before = {path: path.stat().st_mtime_ns for path in idle.rglob("*")}
    assert cli.main(arguments) == 1
    assert words in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in idle.rglob("*")} == before


def test_encode_mask_that_is_missing_is_noticed_before_any_work(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("work was begun")

    Path("text.png").write_bytes(b"no image")
    monkeypatch.setattr(inputs, "open_codec", refuse)
    for mask in ("absent.png", "text.png"):
        for command in ("encode", "compare"):
            assert cli.main([command, "a.png", "--roi", mask]) == 1
            assert mask in capsys.readouterr().err


def test_commands_skipped_outputs_need_no_model(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["encode", "a.png", "b.png", "--skip-existing", "-m", "nonesuch"]) == 0
    assert capsys.readouterr().err.count("exists, skipped") == 2


def test_encode_existing_output_is_that_inputs_error_and_others_go_on(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.sdt").write_bytes(b"old")
    assert cli.main(["encode", "a.png", "b.png", "--json"]) == 1
    refused, done = json.loads(capsys.readouterr().out)
    assert refused == {"input": "a.png", "output": "a.sdt", "error": "a.sdt exists; --force replaces it"}
    assert done["nbytes"] == Path("b.sdt").stat().st_size
    assert Path("a.sdt").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("compare", "missing.png", "-o", "taken"), b"taken exists", 1),
        (("compare", "missing.png", "--png", "taken"), b"taken exists", 1),
        (("compare", "missing.png", "--png", "missing/x.png"), b"missing does not exist", 1),
        (("compare", "missing.png", "-o", "x", "--png", "./x"), b"both name", 2),
        (("compare", "missing.png", "-o", "-", "--png", "-"), b"both name", 2),
        (("dataset", "encode", "missing.txt", "taken/below"), b"is not a folder", 1),
        (("dataset", "encode", "missing.txt", "new", "-m", "nonesuch"), b"no model named 'nonesuch'", 1),
        (("serve", "--root", "absent", "-m", "nonesuch"), b"--root absent: no such folder", 2),
    ],
)
def test_commands_options_that_cannot_be_met_are_noticed_first(
    images: Path, run_cli: Callable[..., Any], arguments: tuple[str, ...], words: bytes, code: int
) -> None:
    if arguments[0] in {"dataset", "serve"}:
        needs(arguments[0])
    Path("taken").write_bytes(b"old")
    done = run_cli(*arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert sorted(path.name for path in images.iterdir()) == ["a.png", "b.png", "taken"]
    assert Path("taken").read_bytes() == b"old"


@LINKS
@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "folder", "another spelling"])
def test_prepare_outputs_two_names_of_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = ["a.png", "b.png"]
    if kind in {"link", "hard link"}:
        Path("b.sdt").write_bytes(b"old")
    if kind == "hard link":
        os.link("b.sdt", "a.sdt")
    elif kind in {"link", "dangling"}:
        Path("a.sdt").symlink_to("b.sdt")
    elif kind == "folder":
        Path("x").mkdir()
        Path("y").symlink_to("x")
        sources = ["x/a.png", "y/a.png"]
    else:
        Path("x").mkdir()
        sources = ["a.png", "x/../a.png"]
    with pytest.raises(ValueError, match="several inputs would be written to one file"):
        prepare_outputs(sources, None, ".sdt")


@LINKS
def test_prepare_outputs_devices_may_have_several_names(tmp_path: Path) -> None:
    for name in ("a.sdt", "b.sdt"):
        (tmp_path / name).symlink_to("/dev/null")
    assert len(prepare_outputs([str(tmp_path / name) for name in ("a.png", "b.png")], None, ".sdt")) == 2


def test_prepare_outputs_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="-o is empty"):
        prepare_outputs(["a.png"], "", ".sdt")


@LINKS
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("output", ["a.png", "./a.png", "link", "hard", "folder/a.png"])
def test_encode_output_that_is_the_input_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, force: list[str]
) -> None:
    monkeypatch.chdir(images)
    Path("link").symlink_to("a.png")
    os.link("a.png", "hard")
    Path("folder").symlink_to(".")
    before = Path("a.png").read_bytes()
    assert cli.main(["encode", "a.png", "-o", output, *force]) == 1
    assert "is the input a.png; name another" in capsys.readouterr().err
    assert Path("a.png").read_bytes() == before


def test_encode_folder_among_inputs_fails_alone(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(images)
    assert cli.main(["encode", ".", "a.png", os.sep]) == 1
    assert "sdtrt: .: is a folder" in capsys.readouterr().err
    assert Path("a.sdt").is_file()


@pytest.mark.parametrize("command", ["encode", "decode", "info", "verify"])
@pytest.mark.parametrize(
    ("names", "message"),
    [(["-", "a", "-"], "- and -: standard input can be read only once"), (["a", ""], "the name of an input is empty")],
)
def test_commands_inputs_that_cannot_be_read_are_wrong_usage(
    command: str, names: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, *names])
    assert message in capsys.readouterr().err


@LINKS
def test_encode_in_a_folder_that_is_gone_writes_to_others(images: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    source = images / "a.png"
    code = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); from sdtrt import cli; "
    code += "print(cli.main(['encode', sys.argv[2]]), cli.main(['encode', 'a.png']))"
    command = [sys.executable, "-c", code, str(gone), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0 1\n", done.stderr
    assert source.with_suffix(".sdt").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("encode", "a.png", "--roi", "b.png", "-o", "b.png"),
        ("compare", "a.png", "b.png", "-o", "b.png"),
        ("compare", "a.png", "b.png", "-o", "page.html", "--png", "b.png"),
        ("compare", "a.png", "--roi", "b.png", "-o", "b.png"),
    ],
)
def test_commands_output_that_is_any_file_they_read_is_refused(
    images: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    before = (images / "b.png").read_bytes()
    assert cli.main([*words, "--force"]) in {1, 2}
    message = capsys.readouterr().err
    assert "the output b.png is the input b.png" in message or "b.png would be an .sdt file" in message
    assert (images / "b.png").read_bytes() == before
