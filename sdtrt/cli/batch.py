"""Work on many inputs, one after the other: go on after a bad one, report, say how it ended."""

import argparse
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from PIL import Image

from sdtrt.cli.files import Check, check_not_input, exists, is_stdout, require_writable
from sdtrt.errors import SdtrtError
from sdtrt.process.environment import variable
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import printable, printable_message, without_addresses
from sdtrt.progress import Watch, clear_bar, progress

Record = dict[str, Any]
Line = str | Callable[[Record], str]  # to be filled in from a record, or what makes it
EXPECTED = (SdtrtError, OSError, ValueError, Image.DecompressionBombError)
DEBUG = "SDTRT_DEBUG"


def each_file(
    options: argparse.Namespace,
    targets: list[str],
    work: Callable[[str, str], Record],
    line: Line,
    *,
    check: Check | None = None,
    always: bool = False,
) -> int:
    """Do `work` for each input, go on after a bad one, report; return the exit code.

    `line` describes a result; results are the output itself if `always`, else a courtesy that `--quiet` drops. An
    output that exists, or that `check` refuses, is that input's result: `work` is not called for it.
    """
    records: list[Record] = []
    pairs = list(zip(options.inputs, targets, strict=True))
    with Watch(f"sdtrt {options.name}", quiet=options.quiet):
        for source, target in progress(pairs, quiet=options.quiet, name=lambda pair: printable(pair[0])):
            record: Record = {"input": source} if always else {"input": source, "output": target}
            refused = {} if always else refusal(options, source, target, check)
            record |= refused or attempted(work, source, target, options)
            records.append(record)
            report(record, line, options, always)
    if options.json:
        # Standard output may be taken by the result itself.
        print_json(records, to_messages=not always and any(map(is_stdout, targets)))
    failed = sum("error" in record for record in records)
    if failed and len(records) > 1:
        fail(f"{failed} of {len(records)} inputs failed")
    return 1 if failed else 0


def refusal(options: argparse.Namespace, source: str, target: str, check: Check | None = None) -> Record:
    """Return why an output is not to be written, as a part of its record; an empty one if it can be."""
    if getattr(options, "skip_existing", False) and exists(target):
        return {"skipped": True}
    try:
        check_not_input(source, target)
        require_writable(target, force=options.force)
        if check:
            check(target)
    except (OSError, ValueError) as error:
        return {"error": in_words(error, source)}
    return {}


def any_work(options: argparse.Namespace, targets: list[str], check: Check | None = None) -> bool:
    """Return whether any output can be written: if not, no model needs to be opened."""
    return any(not refusal(options, "", target, check) for target in targets)


def show_traceback(options: argparse.Namespace) -> None:
    """Print the traceback of the error that is being handled, if `--debug` or the environment asks for that."""
    if getattr(options, "debug", False) or variable(DEBUG):
        clear_bar()
        print_message(traceback.format_exc(), end="")


def attempted(work: Callable[[str, str], Record], source: str, target: str, options: argparse.Namespace) -> Record:
    """Return what `work` returns, or its error; and what was warned of meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = work(source, target)
        except Exception as error:  # one bad input must not end the others, whatever its reader raises
            record = {"error": in_words(error, source)}
            show_traceback(options)
    told = sorted({named(str(warning.message), source) for warning in caught})
    return record | {"warnings": told} if told else record


def in_words(error: Exception, name: str = "") -> str:
    """Return what went wrong; of the system's errors not the number, nor the file that is of this name."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if str(error.filename or "") in ("", name) else f"{error.filename}: {error.strerror}"
    text, kind = named(str(error), name), type(error).__name__
    if isinstance(error, EXPECTED):
        return text or kind
    return f"unexpected {kind}: {text or 'no message'}; --debug shows where"


def named(message: str, name: str) -> str:
    """Return a library's message in which the name of the input stands for an object's memory address."""
    return without_addresses(message, repr(name) if name else "the file")


def report(record: Record, line: Line, options: argparse.Namespace, always: bool) -> None:
    clear_bar()
    source, target = printable(record["input"]), printable(record.get("output", ""))
    if not options.quiet:
        for warning in record.get("warnings", []):
            print_message(printable_message(f"sdtrt: {source}: {warning}"))
    if "error" in record:
        fail(f"{source}: {record['error']}")
    elif options.json or (options.quiet and not always):
        return
    elif always:
        print_result(f"{source}: {described(record, line)}")
    elif "skipped" in record:
        print_message(f"{source} -> {target}: exists, skipped")
    else:
        print_message(f"{source} -> {target}: {described(record, line)}")


def described(record: Record, line: Line) -> str:
    return line.format(**record) if isinstance(line, str) else line(record)


def fail(message: str) -> int:
    """Print an error and return the exit code 1."""
    print_message(printable_message(f"sdtrt: {message}"))
    return 1
