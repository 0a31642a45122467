"""Work on many inputs, one after the other: go on after a bad one, report, say how it ended."""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

from sdtrt.cli.files import Check, check_not_input, exists, is_stdout, require_writable
from sdtrt.cli.messages import fail, message_of, name_the_input, show_traceback
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import printable, printable_message
from sdtrt.progress import Watch, clear_bar, progress

Record = dict[str, Any]
Line = str | Callable[[Record], str]  # a format string for a record, or a function that returns the line


def each_file(
    options: argparse.Namespace,
    targets: list[str],
    work: Callable[[str, str], Record],
    line: Line,
    *,
    check: Check | None = None,
    always: bool = False,
) -> int:
    """Call `work` for each input, report each result, and return the exit code. An error does not stop the others.

    Arguments:
        options: the parsed arguments of the command.
        targets: the output of each input.
        work: takes an input and its output, and returns a record.
        line: describes a record.
        check: raises an error for an output that the command cannot write. Such an input fails without `work`.
        always: True if the records are the command's results: they go to standard output, also with `--quiet`.
    """
    records: list[Record] = []
    pairs = list(zip(options.inputs, targets, strict=True))
    with Watch(f"sdtrt {options.name}", quiet=options.quiet):
        for source, target in progress(pairs, quiet=options.quiet, name=lambda pair: printable(pair[0])):
            record: Record = {"input": source} if always else {"input": source, "output": target}
            refused = {} if always else refusal(options, source, target, check)
            record |= refused or run_one(work, source, target, options)
            records.append(record)
            report(record, line, options, always)
    if options.json:
        # Standard output may already receive the result itself.
        print_json(records, to_messages=not always and any(map(is_stdout, targets)))
    failed = sum("error" in record for record in records)
    if failed and len(records) > 1:
        fail(f"{failed} of {len(records)} inputs failed")
    return 1 if failed else 0


def refusal(options: argparse.Namespace, source: str, target: str, check: Check | None = None) -> Record:
    """Return the part of a record that says why an output is not written; empty if it can be written."""
    if getattr(options, "skip_existing", False) and exists(target):
        return {"skipped": True}
    try:
        check_not_input(source, target)
        require_writable(target, force=options.force)
        if check:
            check(target)
    except (OSError, ValueError) as error:
        return {"error": message_of(error, source)}
    return {}


def any_work(options: argparse.Namespace, targets: list[str], check: Check | None = None) -> bool:
    """Return whether any output can be written. Otherwise no model needs to be opened."""
    return any(not refusal(options, "", target, check) for target in targets)


def run_one(work: Callable[[str, str], Record], source: str, target: str, options: argparse.Namespace) -> Record:
    """Return the record of `work` or of its error, with the warnings that were given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = work(source, target)
        except Exception as error:  # an error of one input must not stop the others
            record = {"error": message_of(error, source)}
            show_traceback(options)
    messages = sorted({name_the_input(str(warning.message), source) for warning in caught})
    return record | {"warnings": messages} if messages else record


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
