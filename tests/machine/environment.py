"""One environment for the suite, whoever runs it: variables, home folder, new files' modes, and Ctrl-C."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import MutableMapping

import pytest

SUITE = ("SDTRT_KILLS", "SDTRT_TORTURE", "SDTRT_TEST_")  # prefixes of what the suite itself reads
REMOVED = {  # what changes output, warnings or folders
    *("CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR"),
    *("LOCALAPPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONUNBUFFERED", "PYTHONVERBOSE", "PYTHONWARNINGS"),
}
HANG = 600  # seconds that nothing here takes, however busy the machine is: only what hangs does
LOOPBACK = "127.0.0.1,localhost"  # not reached through a proxy


def define(environment: MutableMapping[str, str], home: str) -> None:
    """Give variables the values that tests expect; those of locale, threads and temporary files stay."""
    for name in [*environment]:
        if name in REMOVED or (name.startswith("SDTRT_") and not name.startswith(SUITE)):
            del environment[name]
    environment |= {"HOME": home, "USERPROFILE": home}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (environment.get(name), LOOPBACK)))


def enter() -> str:
    """Define the environment of this process and those it starts; return its new, empty home folder."""
    home = tempfile.mkdtemp(prefix="sdtrt-home-")
    define(os.environ, home)
    os.umask(0o022)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return home


def file_name(text: str) -> str:
    """Return a text as the name of a file whose bytes are UTF-8; in some locales Python's names are not."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def needs_names_in_utf_8() -> None:
    """Skip the test that calls this where Python's file names are ASCII, as by LC_ALL=C without its UTF-8 mode."""
    if sys.getfilesystemencoding() != "utf-8":
        pytest.skip(f"file names are {sys.getfilesystemencoding()} in this locale")


def leave(home: str) -> None:
    """Remove the home folder."""
    shutil.rmtree(home, ignore_errors=True)
