"""Inputs and outputs of the command line: files or standard streams. Outputs are written completely or not at all."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdtrt.atomic import check_folder, check_output, descriptor_of, is_standard_input, output_of, replace_file
from sdtrt.process.streams import open_stream

STREAM = "-"

Check = Callable[[str], object]  # raises `OSError` or `ValueError` for an output that cannot be written


def is_stdin(source: str) -> bool:
    """Return whether an input is standard input: `-`, `/dev/stdin` or another name of its descriptor."""
    return source == STREAM or is_standard_input(source)


def is_stdout(target: str) -> bool:
    """Return whether an output is standard output: `-`, `/dev/stdout` or another name of its descriptor."""
    if target == STREAM:
        return True
    try:
        return output_of(Path(target)).descriptor == 1
    except OSError:
        return False


def read_input(source: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-` and `/dev/stdin`."""
    if not is_stdin(source):
        if Path(source).is_dir():
            raise IsADirectoryError(
                "a directory, expected a file; name its files, or use sdtrt dataset for the directory"
            )
        return Path(source).read_bytes()
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer.read()


def is_file(source: str) -> bool:
    """Return whether an input is a file on disk, which can be read several times and from any position."""
    return not is_stdin(source) and Path(source).is_file()


def write_output(target: str, data: bytes, *, force: bool) -> None:
    """Write a file, or standard output for `-`.

    Arguments:
        target: a file name, or `-`. Links, devices, pipes and existing files are treated as `sdtrt.atomic` says.
        data: all bytes of the output.
        force: whether an existing file may be replaced, and bytes written to a terminal.

    Raises `FileExistsError` for an existing file without `force`, `OSError` if the output cannot be written.
    """
    require_writable(target, force=force)
    if target == STREAM:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    replace_file(Path(target), data)


def require_writable(target: str, *, force: bool) -> None:
    """Raise `OSError` if `write_output` would. Called before long work."""
    if is_stdout(target) and not force:
        stream = open_stream(sys.stdout)
        if stream and stream.isatty():
            raise OSError("standard output is a terminal; redirect it, name a file with -o, or add --force")
    if target == STREAM:
        return
    output = output_of(Path(target))
    if output.is_file and not force:
        raise FileExistsError(f"{target} exists; --force replaces it")
    if output.descriptor is None and not output.path.parent.exists():
        raise FileNotFoundError(
            f"folder {output.path.parent} does not exist; a folder named with -o is made if it ends in /"
        )
    check_output(Path(target))


def check_not_input(source: str, target: str) -> None:
    """Raise `ValueError` if an output is also the input: the input would be lost."""
    if target != STREAM and is_file(source) and _identity(source) == _identity(target):
        raise ValueError(f"the output {target} is the input {source}; name another file")


def exists(target: str) -> bool:
    """Return whether an output is an existing file; `--skip-existing` then skips the input."""
    try:
        return target != STREAM and output_of(Path(target)).is_file
    except OSError:
        return False


def check_distinct(targets: dict[str, str]) -> None:
    """Raise `ValueError` if two outputs of a command, given by option, are the same file or stream."""
    options = list(targets)
    for number, one in enumerate(options):
        for other in options[:number]:
            if _identity(targets[one]) == _identity(targets[other]):
                raise ValueError(f"{other} and {one} both name {targets[one]}; name two files")


def _identity(target: str) -> Any:
    """Return a value that is equal for two names of one file or descriptor. Names of a device never are equal."""
    if is_stdout(target):
        return 1
    output = output_of(Path(target))
    if output.is_stream:
        return object() if output.descriptor is None else output.descriptor
    return (output.status.st_dev, output.status.st_ino) if output.status else os.path.realpath(output.path)


def prepare_outputs(sources: list[str], output: str | None, suffix: str) -> list[str]:
    """Return the output of each input, and create the folder `output` if it ends in `/`.

    Without `output`, each output lies beside its input and has `suffix`; standard input goes to standard output. If
    `output` is a folder, or there are several inputs, each output lies in that folder. Otherwise it is the one output.
    Raises `ValueError` if two outputs coincide.
    """
    if output == "":
        raise ValueError("the name after -o is empty; name a file or a folder")
    named_folder = output is not None and (output.endswith("/") or _is_folder(output))
    into_folder = named_folder or (output not in {None, STREAM} and len(sources) > 1)
    if output is not None and len(sources) > 1:
        _check_shared(output)
    if output is not None and not into_folder:
        return [output]
    names = [STREAM if is_stdin(source) else _with_suffix(source, suffix) for source in sources]
    if output is None:
        targets = names
    else:
        targets = [str(Path(output, Path(name).name if name != STREAM else f"{STREAM}{suffix}")) for name in names]
    _check_targets(targets)
    if output is not None and output.endswith("/"):
        _make_folder(Path(output))
    return targets


def _with_suffix(source: str, suffix: str) -> str:
    """Return a name with another suffix. `.` and `/` stay as they are."""
    path = Path(source)
    return str(path.with_suffix(suffix) if path.name else path)


def _check_targets(targets: list[str]) -> None:
    """Raise `ValueError` if two outputs have the same name, or are names of one file."""
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise ValueError(f"several inputs would be written to {min(twice)}")
    first: dict[Any, str] = {}
    for target in targets:
        try:
            identity = _identity(target)
        except OSError:  # reported for this input later
            continue
        if (other := first.setdefault(identity, target)) != target:
            raise ValueError(f"several inputs would be written to one file, which {other} and {target} both name")


def _check_shared(output: str) -> None:
    """Raise `ValueError` if the output of several inputs is not a folder."""
    if is_stdout(output):
        raise ValueError("several inputs cannot share standard output; name a folder with -o")
    if descriptor_of(output) is not None or (os.path.lexists(output) and not _is_folder(output)):
        raise ValueError(f"several inputs cannot share {output}, which is not a folder; name a folder with -o")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # for example a name that is too long
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{folder} exists and is not a folder; name another one with -o") from error
    check_folder(folder)
