"""The command line, in processes of its own where streams or exit codes of the process are the point."""

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from environment import HANG
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.cli.inputs import open_image
from sdtrt.engine.format.limits import Limits

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Photo = Callable[[int, int], np.ndarray]


@pytest.fixture
def pictures(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the current one: two pictures and a file that is none."""
    Image.fromarray(photo(40, 30)).save(tmp_path / "a.png")
    Image.fromarray(photo(33, 17)).save(tmp_path / "b.png")
    (tmp_path / "bad.png").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_encode_info_verify_decode(pictures: Path, run_cli: Run) -> None:
    assert run_cli("encode", "a.png", "-q", "70").returncode == 0
    data = Path("a.sdt").read_bytes()
    assert data == sdtrt.encode("a.png", quality=70)
    done = run_cli("info", "a.sdt")
    assert done.returncode == 0
    assert done.stdout.startswith(b"a.sdt: 40x30, 3 channels, %d bytes" % len(data))
    assert run_cli("verify", "a.sdt").stdout.decode().splitlines() == ["a.sdt: ok"]
    assert run_cli("decode", "a.sdt", "-o", "back.png").returncode == 0
    with Image.open("back.png") as back:
        assert back.tobytes() == sdtrt.decode(data).tobytes()


def test_commands_between_pipes_pass_files_through(pictures: Path, run_cli: Run) -> None:
    packed = run_cli("encode", "-", stdin=Path("b.png").read_bytes())
    assert packed.stdout == sdtrt.encode("b.png")
    assert b"33x17" in run_cli("info", "-", stdin=packed.stdout).stdout
    back = run_cli("decode", "-", "-o", "-", "--format", "webp", stdin=packed.stdout)
    with Image.open(io.BytesIO(back.stdout)) as image:
        assert (image.format, image.size) == ("WEBP", (33, 17))
    quiet = run_cli("encode", "a.png", "-o", "-", "--quiet")
    assert (quiet.stdout, quiet.stderr) == (sdtrt.encode("a.png"), b"")
    assert names(pictures) == ["a.png", "b.png", "bad.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_commands_named_pipe_as_input_is_read_once(pictures: Path, run_cli: Run) -> None:
    """They can be read once, and not from anywhere."""
    for name, data in (("p.png", Path("b.png").read_bytes()), ("p.sdt", sdtrt.encode("b.png"))):
        os.mkfifo(name)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(Path(name).write_bytes, data)
            done = run_cli("encode" if name == "p.png" else "decode", name, "-o", "-")
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_json_beside_a_piped_result(pictures: Path, run_cli: Run) -> None:
    done = run_cli("encode", "a.png", "-o", "-", "--json")
    assert done.stdout == sdtrt.encode("a.png")
    assert json.loads(done.stderr)[0]["nbytes"] == len(done.stdout)


def main(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def test_commands_several_inputs_go_into_a_folder(pictures: Path) -> None:
    Path("out").mkdir()
    assert main("encode", "a.png", "b.png", "-o", "out") == 0
    assert names(pictures / "out") == ["a.sdt", "b.sdt"]
    assert main("decode", "out/a.sdt", "out/b.sdt", "--format", "bmp") == 0
    assert names(pictures / "out") == ["a.bmp", "a.sdt", "b.bmp", "b.sdt"]
    with Image.open("out/b.bmp") as image:
        assert (image.format, image.size) == ("BMP", (33, 17))


def test_encode_bad_file_among_good_ones_fails_alone(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("encode", "a.png", "bad.png", "missing.png", "b.png") == 1
    assert names(pictures) == ["a.png", "a.sdt", "b.png", "b.sdt", "bad.png"]
    errors = capsys.readouterr().err
    assert "sdtrt: bad.png: not an image" in errors
    assert "sdtrt: missing.png: No such file or directory\n" in errors
    assert "2 of 4 inputs failed" in errors
    assert "BytesIO" not in errors

    Path("a.sdt").write_bytes(Path("a.sdt").read_bytes()[:-1])
    for command in ("info", "verify"):
        assert main(command, "a.sdt", "b.sdt") == 1
        printed = capsys.readouterr()
        assert printed.out.startswith("b.sdt: ")
        assert "sdtrt: a.sdt: damaged or truncated" in printed.err
    assert main("decode", "a.sdt", "b.sdt", "--force") == 1
    with Image.open("b.png") as image:
        assert image.size == (33, 17)


def test_commands_json_reports_results_and_errors(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("encode", "a.png", "bad.png", "--json") == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["input"], good["output"], good["width"], good["height"]) == ("a.png", "a.sdt", 40, 30)
    assert good["nbytes"] == Path("a.sdt").stat().st_size
    assert set(bad) == {"input", "output", "error"}

    assert main("info", "a.sdt", "--json") == 0
    (about,) = json.loads(capsys.readouterr().out)
    assert about["latent_shape"] == [40, 4, 5]
    assert about["bits_per_pixel"] == pytest.approx(8 * good["nbytes"] / 1200)

    assert main("verify", "a.sdt", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"input": "a.sdt"}]
    assert main("decode", "a.sdt", "-o", "back.png", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["mode"] == "RGB"

    assert main("models", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "tiny"
    assert main("doctor", "--json") == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"sdtrt", "numpy", "model tiny"} <= {finding["subject"] for finding in findings}


def test_models_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("models") == 0
    assert capsys.readouterr().out.startswith("tiny: latent space tiny")
    assert main("doctor") == 0
    assert sdtrt.__version__ in capsys.readouterr().out


def test_doctor_sees_a_damaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bundle.json").write_text("{")
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path))
    assert main("doctor") == 1
    assert "NO" in capsys.readouterr().out
    assert main("models") == 1


def test_existing_outputs_are_refused(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.sdt").write_text("mine")
    assert main("encode", "a.png") == 1
    assert "--force" in capsys.readouterr().err
    assert Path("a.sdt").read_text() == "mine"
    assert main("encode", "a.png", "--force") == 0
    assert Path("a.sdt").read_bytes() == sdtrt.encode("a.png")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonesuch",),
        ("encode",),
        ("encode", "a.png", "-q", "0"),
        ("encode", "a.png", "-q", "101"),
        ("encode", "a.png", "-q", "nan"),
        ("encode", "a.png", "-q", "high"),
        ("encode", "a.png", "--threads", "0"),
        ("encode", "a.png", "--backend", "nonesuch"),
        ("encode", "a.png", "b.png", "-o", "-"),
        ("encode", "a.png", "./a.png"),
        ("encode", "-", "-"),
        ("encode", ""),
        ("decode", "a.sdt", "--threads", "-1"),
        ("decode", "a.sdt", "--backend", "nonesuch"),
        ("decode", "a.sdt", "--format", "nonesuch"),
        ("decode", "a.sdt", "--format", "psd"),
        ("decode", "a.sdt", "--max-pixels", "many"),
        ("info", "a.sdt", "--nonesuch"),
    ],
)
def test_commands_wrong_usage_exits_with_2(
    pictures: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    Path("a.sdt").write_bytes(sdtrt.encode("a.png"))
    before = names(pictures)
    assert main(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "sdtrt" in printed.err
    assert names(pictures) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "a.png", "-o", "missing/a.sdt"), "missing does not exist"),
        (("encode", "a.png", "b.png", "-o", "missing"), "missing does not exist"),
        (("encode", "a.png", "-o", "b.png/a.sdt"), "b.png"),
        (("encode", "a.png", "-o", "x.sdt", "-m", "nonesuch"), "'nonesuch'"),
        (("encode", "a.png", "-o", "x.sdt", "--device", "cuda"), "--device cpu"),
        (("encode", "folder.png"), "directory"),
        (("decode", "a.sdt", "-o", "x.nonesuch"), ".nonesuch"),
        (("decode", "a.sdt", "-o", "x.psd"), ".psd"),
        (("decode", "a.sdt", "-o", "x.png", "--max-pixels", "100"), "limit"),
        (("decode", "a.sdt", "-o", "x.png", "-m", "nonesuch"), "nonesuch"),
        (("info", "a.sdt", "--max-pixels", "0"), "limit"),
        (("verify", "a.png"), "not an .sdt file"),
    ],
)
def test_commands_unreadable_input_exits_with_1(
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    real_files: dict[str, bytes],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    Path("a.sdt").write_bytes(real_files["colour"])
    Path("alpha.sdt").write_bytes(real_files["alpha"])
    Path("folder.png").mkdir()
    before = names(pictures)
    assert main(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert names(pictures) == before


def test_encode_folder_without_permission_is_refused(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, *_, **__: not str(path).endswith("locked"))
    assert main("encode", "a.png", "-o", "locked/a.sdt") == 1
    assert "permission denied" in capsys.readouterr().err


def test_encode_interrupt_leaves_no_output(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main("encode", "a.png", "b.png")
    assert "interrupted" in capsys.readouterr().err
    assert names(pictures) == ["a.png", "b.png", "bad.png"]


@pytest.mark.parametrize("debug", ["option", "variable", ""])
@pytest.mark.parametrize("kind", [TypeError, KeyError, struct.error, RecursionError, AssertionError])
def test_batch_reader_that_raises_anything_goes_on(
    kind: type[Exception],
    debug: str,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Readers of damaged files raise more than their documentation says."""

    def broken(source: str, frame: int, limits: Limits) -> Image.Image:
        if source == "a.png":
            raise kind("no <_io.BytesIO object at 0x7f12ab34>")
        return open_image(source, frame, limits)

    monkeypatch.setattr("sdtrt.cli.images.open_image", broken)
    monkeypatch.setenv("SDTRT_DEBUG", "1" if debug == "variable" else "")
    options = ["--debug"] if debug == "option" else []
    assert main("encode", "a.png", "b.png", *options) == 1
    printed = capsys.readouterr().err
    assert f"sdtrt: a.png: unexpected {kind.__name__}: " in printed
    assert ("Traceback" in printed) == bool(debug)
    assert "1 of 2 inputs failed" in printed
    messages = "\n".join(line for line in printed.splitlines() if line.startswith("sdtrt: "))
    assert "0x7f12ab34" not in messages
    sdtrt.verify(Path("b.sdt"))


def test_debug_shows_the_traceback_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("engines", "list", "nonesuch", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert main("engines", "list", "nonesuch") == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--max-bytes", "--bpp", "--target-psnr"])
def test_rate_that_is_not_positive_is_named_by_its_option(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("0", "-1", "nan"):
        assert main("encode", "a.png", option, value) == 2
        assert option in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged metadata
def test_encode_damaged_image_works_or_prints_one_line(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever Pillow makes of them: a picture, or an error of one line."""
    rng = np.random.default_rng(4)
    sources = []
    for kind in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        with Image.open("a.png") as image:
            image.save(f"whole.{kind}")
        data = Path(f"whole.{kind}").read_bytes()
        for n in range(6):
            damaged = bytearray(data[: rng.integers(len(data))] if n % 2 else data)
            for _ in range(3 if damaged else 0):
                damaged[rng.integers(min(len(damaged), 150))] = rng.integers(256)
            sources.append(f"{kind}{n}.{kind}")
            Path(sources[-1]).write_bytes(damaged)
    Path("out").mkdir()
    assert main("encode", *sources, "-o", "out", "--quiet") == 1
    capsys.readouterr()
    for path in Path("out").iterdir():
        assert main("verify", str(path)) == 0


STREAMS = pytest.mark.skipif(sys.platform == "win32", reason="streams of POSIX")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sdtrt", *arguments]


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@STREAMS
def test_commands_closed_pipe_exits_with_1(pictures: Path) -> None:
    for arguments in (("encode", "a.png", "-o", "-"), ("models",), ("models", "--json")):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            command(*arguments), stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, timeout=HANG
        )
        os.close(writing)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr


@STREAMS
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_commands_full_disk_exits_with_1(pictures: Path) -> None:
    for arguments in (("encode", "a.png", "-o", "-"), ("models",)):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command(*arguments), stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, timeout=HANG
            )
        assert done.returncode == 1
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr


@STREAMS
@pytest.mark.parametrize("stream", ["<&-", ">&-"])
def test_encode_closed_standard_stream_exits_with_1(pictures: Path, stream: str) -> None:
    arguments = ("encode", "-") if stream == "<&-" else ("encode", "a.png", "-o", "-")
    shell = ["sh", "-c", f'"$@" {stream}', "sh", *command(*arguments)]
    done = subprocess.run(shell, capture_output=True, env=ENVIRONMENT, check=False, timeout=HANG)
    assert done.returncode == 1
    assert b"is closed" in done.stderr
    assert b"Traceback" not in done.stderr


def on_a_terminal(*arguments: str) -> str:
    """Run the command line with standard error on a terminal and return what appears there."""
    pty = pytest.importorskip("pty")
    shown, terminal = pty.openpty()
    try:
        with subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=terminal) as process:
            os.close(terminal)
            text = b""
            while True:
                try:
                    piece = os.read(shown, 4096)
                except OSError:  # how Linux says that the other end is closed
                    break
                if not piece:
                    break
                text += piece
        assert process.returncode == 0
    finally:
        os.close(shown)
    return text.decode()


@STREAMS
def test_progress_is_for_terminals(pictures: Path, run_cli: Run) -> None:
    text = on_a_terminal("encode", "a.png", "b.png")
    assert "] 0/2" in text
    assert "] 2/2" in text
    assert "#" not in on_a_terminal("encode", "a.png", "b.png", "--force", "--quiet")
    assert "#" not in on_a_terminal("encode", "a.png", "--force")
    assert b"#" not in run_cli("encode", "a.png", "b.png", "--force").stderr


def test_version_and_the_script(run_cli: Run) -> None:
    assert run_cli("--version").stdout.decode().split() == ["sdtrt", sdtrt.__version__]
    script = Path(sys.executable).with_name("sdtrt")
    if script.exists():
        assert subprocess.check_output([script, "--version"]).decode().split() == ["sdtrt", sdtrt.__version__]


def test_decode_to_latents_and_encode_from_latents_round_trip(
    run_cli: Run, tmp_path: Path, real_files: dict[str, bytes], codec: sdtrt.Codec
) -> None:
    (tmp_path / "a.sdt").write_bytes(real_files["colour"])
    assert run_cli("decode", "--to-latents", tmp_path / "a.sdt").returncode == 0
    latents = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(latents, codec.decode_latents(real_files["colour"]))
    done = run_cli("encode", "--from-latents", tmp_path / "a.npy", "-q", "100", "-o", tmp_path / "b.sdt")
    assert done.returncode == 0, done.stderr
    again = codec.decode_latents((tmp_path / "b.sdt").read_bytes())
    assert np.square(again - latents).mean() < 0.1 * latents.var()


def test_encode_layers_1_has_no_residual(pictures: Path, run_cli: Run) -> None:
    for layers, there in (((), True), (("--layers", "2"), True), (("--layers", "1"), False)):
        assert run_cli("encode", "a.png", "-f", "-q", "90", *layers).returncode == 0
        assert ("residual" in sdtrt.info("a.sdt").bytes_by_section) == there
    assert run_cli("encode", "a.png", "-f", "--layers", "3").returncode == 2


@pytest.mark.parametrize("data", [b"", b"text", "cut", "flat", "words", "objects"])
def test_encode_from_unfit_latents_is_refused(run_cli: Run, tmp_path: Path, data: bytes | str) -> None:
    whole = np.zeros((40, 2, 2), np.float32)
    arrays = {"flat": whole[0], "words": np.array(["x"]), "objects": np.array([{}])}
    stream = io.BytesIO()
    np.save(stream, arrays.get(str(data), whole), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(
        data if isinstance(data, bytes) else stream.getvalue()[: -9 if data == "cut" else None]
    )
    done = run_cli("encode", "--from-latents", tmp_path / "a.npy")
    assert done.returncode == 1
    assert not (tmp_path / "a.sdt").exists()


def test_decode_denoise_without_unet_is_refused(pictures: Path, run_cli: Run) -> None:
    assert run_cli("encode", "a.png", "-q", "5").returncode == 0
    for wish in ("off", "0", "auto"):
        assert run_cli("decode", "a.sdt", "--denoise", wish, "-f").returncode == 0
    refused = run_cli("decode", "a.sdt", "--denoise", "2", "-f")
    assert refused.returncode == 1
    assert b"model tiny has no UNet to denoise with" in refused.stderr
    wrong = run_cli("decode", "a.sdt", "--denoise", "much")
    assert wrong.returncode == 2
    assert b"'much', expected a number of steps from 0 to 1000, auto or off" in wrong.stderr


def test_decode_look_takes_known_looks_only(pictures: Path, run_cli: Run) -> None:
    assert run_cli("encode", "a.png", "-q", "5").returncode == 0
    for look in ("faithful", "fast", "auto"):
        assert run_cli("decode", "a.sdt", "--look", look, "-f").returncode == 0
    with_preview = run_cli("decode", "a.sdt", "--look", "faithful", "--preview", "3", "-f")
    assert with_preview.returncode == 2
    assert b"--preview cannot be used with --look" in with_preview.stderr
    wrong = run_cli("decode", "a.sdt", "--look", "pretty")
    assert wrong.returncode == 2
    assert b"invalid choice: 'pretty'" in wrong.stderr


def test_encode_max_bytes_is_nearly_reached_and_never_exceeded(run_cli: Run, tmp_path: Path, photo: Photo) -> None:
    Image.fromarray(photo(160, 120)).save(tmp_path / "p.png")
    assert run_cli("encode", "--max-bytes", "700", tmp_path / "p.png").returncode == 0
    assert 680 <= (tmp_path / "p.sdt").stat().st_size <= 700
    assert run_cli("encode", "--bpp", "0.5", tmp_path / "p.png", "-f").returncode == 0
    assert 1150 <= (tmp_path / "p.sdt").stat().st_size <= 1200
    small = run_cli("encode", "--max-bytes", "7", tmp_path / "p.png", "-f")
    assert small.returncode == 1
    assert b"too few" in small.stderr
    assert run_cli("encode", "--max-bytes", "700", "-q", "5", tmp_path / "p.png").returncode == 2


def test_encode_target_psnr_is_reached(run_cli: Run, tmp_path: Path, photo: Photo) -> None:
    pixels = photo(160, 120)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    assert run_cli("encode", "--target-psnr", "30", tmp_path / "p.png").returncode == 0
    error = pixels - np.asarray(sdtrt.decode((tmp_path / "p.sdt").read_bytes()), float)
    assert 30 <= 10 * np.log10(255**2 / np.square(error).mean()) < 30.3
    sizes = {}
    for effort in ("1", "5", "9"):
        assert run_cli("encode", "--effort", effort, tmp_path / "p.png", "-f").returncode == 0
        sizes[effort] = (tmp_path / "p.sdt").stat().st_size
    assert sizes["1"] > sizes["5"]
    above = run_cli("encode", "--target-psnr", "90", tmp_path / "p.png", "-f")
    assert above.returncode == 1
    assert b"the best file found has" in above.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--target-psnr", "30", "-q", "5"),
        ("--target-psnr", "30", "--from-latents"),
        ("--effort", "0"),
        ("--effort", "ten"),
        ("--method", "deflate"),
        ("--method", "palette", "-q", "5"),
    ],
)
def test_encode_options_that_exclude_each_other_exit_with_2(
    run_cli: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "p.png").write_bytes(b"")
    done = run_cli("encode", *words, tmp_path / "p.png")
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "p.sdt").exists()
