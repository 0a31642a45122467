"""A run of a task from source to destination: finished shards, remaining shards, the manifest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sdtrt._version import __version__
from sdtrt.dataset.shard_checkpoint import PART_SUFFIX, part_prefix
from sdtrt.dataset.shard_worker import Record
from sdtrt.dataset.shards import Shard, Task, list_task_source, split_into_shards
from sdtrt.dataset.sources import FORMAT, MANIFEST, check_relative, is_same_location
from sdtrt.dataset.stores import RECORDS_FOLDER, Store
from sdtrt.process.text import json_text, printable

# Processes shards. Yields their records, and ints between them: the number of finished samples in unfinished shards.
RunShards = Callable[[Task, Sequence[Shard]], Iterator[Record | int]]


@dataclass(slots=True)
class Summary:
    """The progress of a run, and its result at the end.

    Arguments:
        shards: number of shards.
        total: number of samples (default 0).
        skipped: shards that an earlier run had finished (default 0).
        done: finished shards, with those of earlier runs (default 0).
        in_work: finished samples of unfinished shards (default 0).
        seconds: time since the start (default 0).
        pace: finished samples per second of this run (default 0).
        sums: sums over samples: `samples`, `nbytes`, `made_nbytes` and others (default none).
        errors: the errors of samples: `key`, `source`, `error` (default none).
        warnings: the warnings of samples: `key`, `source`, `warning` (default none).
        left_behind: number of files of the source that belong to no sample, by suffix; empty if the task writes
            nothing.
    """

    shards: int
    total: int = 0
    skipped: int = 0
    done: int = 0
    in_work: int = 0
    seconds: float = 0.0
    pace: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    left_behind: Counter[str] = field(default_factory=Counter)

    @property
    def samples_done(self) -> int:
        return self.sums["samples"] + len(self.errors) + self.in_work

    def add(self, record: Record) -> None:
        """Add the record of a finished shard."""
        self.done += 1
        self.in_work = max(0, self.in_work - len(record["keys"]) - len(record["errors"]))
        self.sums.update(record["sums"])
        self.errors += record["errors"]
        self.warnings += record.get("warnings", ())


class TooManyErrorsError(Exception):
    """More samples failed than `max_errors` allows. Finished shards are kept."""


def run(
    task: Task,
    run_shards: RunShards,
    *,
    shard_size: int,
    max_errors: int | None,
    on_progress: Callable[[Summary], None],
) -> Summary:
    """Process the unfinished shards of a task, and write its manifest.

    A shard is skipped if its record and files exist and were made from the same samples with the same options.

    Arguments:
        task: the task.
        run_shards: the backend that processes shards.
        shard_size: samples in a shard, at least 1.
        max_errors: samples that may fail; None for any number.
        on_progress: called with the summary before the first shard, after each shard, and in between.

    Returns the summary.

    Raises:
        TooManyErrorsError: more samples failed.
        ValueError: the source has no samples, or is also the destination.
        OSError: the destination cannot be written.
        Exception: any error of `run_shards`.
    """
    if task.destination is not None and is_same_location(task.destination, task.source):
        raise ValueError(f"{printable(task.source)} is both source and destination")
    store = Store(task.destination) if task.destination is not None else None
    if store:
        store.check_writable()
    started, listing = time.monotonic(), list_task_source(task)
    shards = split_into_shards(task, listing.samples, shard_size)
    records = load_finished_records(store, shards) if store else {}
    summary = Summary(len(shards), len(listing.samples), skipped=len(records))
    if store:
        summary.left_behind = listing.left_behind
        remove_stale_files(store, shards, records)
    for record in records.values():
        summary.add(record)
    check_error_limit(summary, max_errors)
    on_progress(summary)
    remaining, done_before = [shard for shard in shards if shard.name not in records], summary.samples_done
    for outcome in run_shards(task, remaining) if remaining else ():
        if isinstance(outcome, int):
            summary.in_work = outcome
        else:
            records[outcome["shard"]] = outcome
            summary.add(outcome)
        summary.seconds = time.monotonic() - started
        summary.pace = (summary.samples_done - done_before) / summary.seconds
        on_progress(summary)
        check_error_limit(summary, max_errors)
    if store:
        store.put(MANIFEST, make_manifest(task, [records[shard.name] for shard in shards]))
    return summary


def check_error_limit(summary: Summary, max_errors: int | None) -> None:
    """Raise `TooManyErrorsError` if more than `max_errors` samples failed."""
    if max_errors is not None and len(summary.errors) > max_errors:
        last = summary.errors[-1]
        samples = "1 sample" if len(summary.errors) == 1 else f"{len(summary.errors)} samples"
        raise TooManyErrorsError(f"{samples} failed, the last: {last['key']} ({last['source']}): {last['error']}")


def load_finished_records(store: Store, shards: Sequence[Shard]) -> dict[str, Record]:
    """Return the records of finished shards, by name.

    A shard is finished if its fingerprint is the same, all its files exist, and no error of it may be transient.
    """
    fingerprints, finished = {shard.name: shard.fingerprint for shard in shards}, {}
    for name in store.list_names(RECORDS_FOLDER):
        record = read_record(store, name) if name.endswith(".json") else None
        if (
            record
            and record["fingerprint"] == fingerprints.get(record["shard"])
            and not any(error.get("again") for error in record["errors"])
            and store.has_files(record["files"])
        ):
            finished[str(record["shard"])] = record
    return finished


def read_record(store: Store, name: str) -> Record | None:
    """Return the record of a shard, None if it is damaged."""
    try:
        record: Record = json.loads(store.get(f"{RECORDS_FOLDER}/{name}") or b"")
        return record if {"shard", "fingerprint", "files", "errors", "sums", "keys"} <= record.keys() else None
    except (ValueError, AttributeError):
        return None


def remove_stale_files(store: Store, shards: Sequence[Shard], records: Mapping[str, Record]) -> None:
    """Remove files of other runs: the manifest, records, tar and Parquet files, and parts of other shards.

    Nothing of the shards in `records` is removed, nor the parts of the shards that this run continues.
    """
    remaining = [shard for shard in shards if shard.name not in records]
    if remaining:
        store.remove(MANIFEST)
    prefixes = tuple(part_prefix(shard) for shard in remaining)
    for name in store.list_names(RECORDS_FOLDER):
        shard = name.removesuffix(".json")
        if name.endswith(PART_SUFFIX) and not name.startswith(prefixes):
            store.remove(f"{RECORDS_FOLDER}/{name}")
        elif name.endswith(".json") and remaining and shard not in records:
            for stale in (f"{shard}.tar", f"{shard}.parquet", f"{RECORDS_FOLDER}/{name}"):
                store.remove(stale)


def make_manifest(task: Task, records: Sequence[Record]) -> bytes:
    """Return the manifest: a line for the task, then a line for each shard with its files, keys and errors."""
    head = {
        "format": FORMAT,
        "sdtrt": __version__,
        "operation": task.operation,
        "form": task.form,
        "options": dict(task.options),
        "samples": sum(len(record["keys"]) for record in records),
        "errors": sum(len(record["errors"]) for record in records),
    }
    lines = [head, *({name: value for name, value in r.items() if name != "fingerprint"} for r in records)]
    return "".join(json_text(line) + "\n" for line in lines).encode()


def changed_files(source: str) -> list[str] | None:
    """Compare the files of an earlier run with its manifest.

    Returns a message for each file that is missing or has changed; None if there is no manifest.

    Raises:
        ValueError: the manifest is damaged, or has a file name that leads out of the folder.
    """
    store = Store(source)
    data = store.get(MANIFEST)
    if data is None:
        return None
    try:
        files = [file for line in data.decode().splitlines()[1:] for file in json.loads(line)["files"]]
        checksums = [(check_relative(file["name"]), file["sha256"]) for file in files]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{printable(source)}: a damaged {MANIFEST}: {error!r}") from error
    messages = []
    for name, checksum in checksums:
        content = store.get(name)
        if content is None:
            messages.append(f"{name} is missing")
        elif hashlib.sha256(content).hexdigest() != checksum:
            messages.append(f"{name} has changed")
    return messages
