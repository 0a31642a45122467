"""Inputs and outputs of the command line: whole files or standard streams, written whole or not at all."""

import sys
from pathlib import Path

from sdtrt.atomic import replace_file

STREAM = "-"


def read_input(source: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`."""
    if source != STREAM:
        return Path(source).read_bytes()
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer.read()


def is_file(source: str) -> bool:
    """Return whether an input is a file on disk, that can be read more than once and from anywhere."""
    return source != STREAM and Path(source).is_file()


def write_output(target: str, data: bytes, *, force: bool) -> None:
    """Write a file, or standard output for `-`.

    The file appears complete, by rename, or not at all; `FileExistsError` if there is one already and not `force`.
    """
    if target == STREAM:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a device or pipe is written to, a rename would replace it
        path.write_bytes(data)
        return
    require_writable(target, force=force)
    replace_file(path, data)


def require_writable(target: str, *, force: bool) -> None:
    """Raise `OSError` if `write_output` would: to be asked before long work."""
    path = Path(target)
    if target == STREAM or (path.exists() and not path.is_file()):
        return
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; --force replaces it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist; a folder named with -o is made if it ends in /")


def prepare_outputs(sources: list[str], output: str | None, suffix: str) -> list[str]:
    """Return where each input's output goes.

    Without `output`: beside the input, with `suffix` (`-` for standard input). With it: that file for one input, a
    file of the input's name in that folder for several, or if it is a folder; one that ends in `/` is made.
    `ValueError` if two outputs coincide.
    """
    named_folder = output is not None and (output.endswith("/") or Path(output).is_dir())
    into_folder = named_folder or (output not in {None, STREAM} and len(sources) > 1)
    if output == STREAM and len(sources) > 1:
        raise ValueError("several inputs cannot share standard output; name a folder with -o")
    if output is not None and not into_folder:
        return [output]
    if output is None:
        targets = [STREAM if s == STREAM else str(Path(s).with_suffix(suffix)) for s in sources]
    else:
        targets = [
            str(Path(output) / Path(STREAM if s == STREAM else Path(s).name).with_suffix(suffix)) for s in sources
        ]
    twice = {t for t in targets if targets.count(t) > 1}
    if twice:
        raise ValueError(f"several inputs would be written to {min(twice)}")
    if output is not None and output.endswith("/"):
        Path(output).mkdir(exist_ok=True)
    return targets
