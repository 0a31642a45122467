"""Signals that end the program: it dies by them, after its temporary files are gone, and says no more than a line."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt import cli
from sdtrt.process import signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    """Start the command line in a process group of its own, with default handlers whatever this process ignores."""

    def reset() -> None:
        for name in NAMES:
            signal.signal(getattr(signal, name), signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "sdtrt", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=reset,  # noqa: PLW1509  # this process starts no threads here
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (60, 90 + n, 3), np.uint8)).save(tmp_path / f"{n}.png")
    return tmp_path


def wait_for(condition: "threading.Event | Path", process: subprocess.Popen[bytes]) -> None:
    """Wait until a file appears."""
    assert isinstance(condition, Path)
    end = time.monotonic() + 120
    while not condition.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def clean(stderr: bytes) -> bool:
    return not any(words in stderr for words in (b"Traceback", b"Exception ignored", b"Warning"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [1, 2])
def test_encode_ended_by_signal_dies_by_it(photos: Path, name: str, times: int) -> None:
    number = getattr(signal, name)
    sources = [f"{n}.png" for n in range(6)]
    with start("encode", *sources * 1, "--effort", "7", cwd=photos) as process:
        wait_for(photos / "0.sdt", process)
        for _ in range(times):
            os.killpg(process.pid, number)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == -number
    assert clean(stderr), stderr
    assert {path.suffix for path in photos.iterdir()} == {".png", ".sdt"}
    assert not [path for path in photos.iterdir() if path.name.startswith(".")]
    for path in photos.glob("*.sdt"):
        sdtrt.verify(path.read_bytes())


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("words", [("info", "--help"), ("models",), ("encode", "0.png", "-f")])
def test_interrupt_at_any_moment_prints_no_traceback(photos: Path, words: tuple[str, ...], delay: float) -> None:
    """Python itself prints one while it starts; it has done so long before this module was imported."""
    code = "import sys, os; os.write(1, b'.'); sys.argv = ['sdtrt', *sys.argv[1:]]; "
    code += "from sdtrt.__main__ import program; sys.exit(program())"
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); {code}", *words]
    with subprocess.Popen(command, cwd=photos, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode in {-signal.SIGINT, 0}  # 0: the work was done
    assert clean(stderr), stderr


@pytest.mark.parametrize("name", NAMES)
def test_dataset_ended_by_signal_with_its_workers_prints_no_traceback(photos: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    number = getattr(signal, name)
    for delay in (0.5, 1.5, 3.0):
        with start("dataset", "encode", ".", "out", "--workers", "2", "--shard-size", "1", cwd=photos) as process:
            time.sleep(delay)
            os.killpg(process.pid, number)
            _, stderr = process.communicate(timeout=120)
        assert process.returncode in {-number, 0}
        assert clean(stderr), stderr


def test_shell_loop_ends_at_interrupt(photos: Path) -> None:
    script = 'for n in 1 2 3; do echo round $n; "$@"; done'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "sdtrt", "encode"]
    command += [*(f"{n}.png" for n in range(6)), "--effort", "9"]
    reset = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", reset, *command],
        cwd=photos,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(photos / "0.sdt", process)
        os.killpg(process.pid, signal.SIGINT)
        stdout, _ = process.communicate(timeout=120)
    assert stdout == b"round 1\n"


def test_ignored_signals_stay_ignored(photos: Path) -> None:
    """As for commands in the background of a script, and those that `nohup` starts."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    code += "import sys; sys.argv = ['sdtrt', *sys.argv[1:]]; from sdtrt.__main__ import program; sys.exit(program())"
    command = [sys.executable, "-c", code, "encode", *(f"{n}.png" for n in range(6))]
    with subprocess.Popen(command, cwd=photos, stderr=subprocess.PIPE) as process:
        wait_for(photos / "0.sdt", process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert len(list(photos.glob("*.sdt"))) == 6


@pytest.fixture
def default_handlers() -> "object":
    """Python's own handlers, whatever the tests were started with."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("default_handlers")
def test_main_in_process_restores_handlers() -> None:
    before = [signal.getsignal(getattr(signal, name)) for name in NAMES]
    assert cli.main(["models", "--json"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert [signal.getsignal(getattr(signal, name)) for name in NAMES] == before

    def mine(*_: object) -> None:
        pass

    signal.signal(signal.SIGTERM, mine)
    with signals.ending_signals():
        assert signal.getsignal(signal.SIGTERM) is mine  # the caller's own handler counts
        assert isinstance(signal.getsignal(signal.SIGINT), signals.EndingHandler)
    assert signal.getsignal(signal.SIGTERM) is mine


@pytest.mark.usefixtures("default_handlers")
def test_main_in_a_thread_touches_no_handlers() -> None:
    found: list[object] = []

    def work() -> None:
        with signals.ending_signals():
            found.extend(signal.getsignal(getattr(signal, name)) for name in NAMES)
        found.append(cli.main(["models", "--json"]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL, 0]


@pytest.mark.usefixtures("default_handlers")
@pytest.mark.parametrize(("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", signals.SignalExit)])
def test_second_quick_signal_is_ignored(name: str, error: type[BaseException]) -> None:
    number = getattr(signal, name)
    with signals.ending_signals():
        with pytest.raises(error):
            signal.raise_signal(number)
        signal.raise_signal(number)


def test_later_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ended = [0.0], list[int]()
    monkeypatch.setattr(signals, "die", ended.append)
    handler = signals.EndingHandler(clock=lambda: now[0])
    with pytest.raises(signals.SignalExit) as stop:
        handler(signal.SIGTERM, None)
    assert stop.value.code == 128 + signal.SIGTERM
    for seconds, expected in ((0.5, []), (1.5, [signal.SIGINT])):
        now[0] = seconds
        handler(signal.SIGINT, None)
        assert ended == expected
