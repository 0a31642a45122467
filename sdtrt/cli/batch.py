"""Work on many inputs, one after the other: go on after a bad one, report, say how it ended."""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from sdtrt.errors import SdtrtError
from sdtrt.progress import clear_bar, progress
from sdtrt.text import json_text

Record = dict[str, Any]
Line = str | Callable[[Record], str]  # to be filled in from a record, or what makes it


def each_file(
    options: argparse.Namespace,
    targets: list[str],
    work: Callable[[str, str], Record],
    line: Line,
    *,
    always: bool = False,
) -> int:
    """Do `work` for each input, go on after a bad one, report; return the exit code.

    `line` describes a result; results are the output itself if `always`, else a courtesy that `--quiet` drops.
    """
    records: list[Record] = []
    pairs = list(zip(options.inputs, targets, strict=True))
    for source, target in progress(pairs, quiet=options.quiet):
        record: Record = {"input": source} if always else {"input": source, "output": target}
        if getattr(options, "skip_existing", False) and Path(target).is_file():
            record["skipped"] = True
        else:
            record |= attempted(work, source, target)
        records.append(record)
        report(record, line, options, always)
    if options.json:
        # Standard output may be taken by the result itself.
        print(json_text(records, indent=2), file=sys.stderr if "-" in targets and not always else sys.stdout)
    failed = sum("error" in record for record in records)
    if failed and len(records) > 1:
        fail(f"{failed} of {len(records)} inputs failed")
    return 1 if failed else 0


def attempted(work: Callable[[str, str], Record], source: str, target: str) -> Record:
    """Return what `work` returns, or its error; and what was warned of meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = work(source, target)
        except (SdtrtError, OSError, ValueError, Image.DecompressionBombError) as error:
            record = {"error": in_words(error, source)}
    told = sorted({str(warning.message) for warning in caught})
    return record | {"warnings": told} if told else record


def in_words(error: Exception, name: str = "") -> str:
    """Return what went wrong; of the system's errors not the number, nor the file that is of this name."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    return error.strerror if str(error.filename or "") in ("", name) else f"{error.filename}: {error.strerror}"


def report(record: Record, line: Line, options: argparse.Namespace, always: bool) -> None:
    clear_bar()
    if not options.quiet:
        for warning in record.get("warnings", []):
            print(f"sdtrt: {record['input']}: {warning}", file=sys.stderr)
    if "error" in record:
        fail(f"{record['input']}: {record['error']}")
    elif options.json or (options.quiet and not always):
        return
    elif always:
        print(f"{record['input']}: {described(record, line)}")
    elif "skipped" in record:
        print(f"{record['input']} -> {record['output']}: exists, skipped", file=sys.stderr)
    else:
        print(f"{record['input']} -> {record['output']}: {described(record, line)}", file=sys.stderr)


def described(record: Record, line: Line) -> str:
    return line.format(**record) if isinstance(line, str) else line(record)


def fail(message: str) -> int:
    print(f"sdtrt: {message}", file=sys.stderr)
    return 1
