"""A task from source to destination: what is done already, what is left, the manifest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sdtrt._version import __version__
from sdtrt.dataset.shards import Shard, Task, listing_for, shards_of
from sdtrt.dataset.sources import FORMAT, MANIFEST, below, same_place
from sdtrt.dataset.stores import DONE, Store
from sdtrt.dataset.unfinished import SUFFIX, prefix_of
from sdtrt.dataset.work import Record
from sdtrt.process.text import json_text, printable

# Does shards: yields their records, and now and then how many samples are done of those that are not finished.
Each = Callable[[Task, Sequence[Shard]], Iterator[Record | int]]


@dataclass(slots=True)
class Summary:
    """How far a run is.

    Arguments:
        shards: how many there are; `done` of them are done, `skipped` of those were so before.
        total: how many samples there are.
        in_work: samples that are done of shards that are not.
        seconds: since the start.
        pace: samples a second that were done since.
        sums: over samples: `samples`, `nbytes`, `made_nbytes` and others.
        errors: what is wrong with samples: `key`, `source`, `error`.
        warnings: what was warned of: `key`, `source`, `warning`.
        left_behind: files of the source that belong to no sample, by suffix; empty if the task writes nothing.
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
        self.done += 1
        self.in_work = max(0, self.in_work - len(record["keys"]) - len(record["errors"]))
        self.sums.update(record["sums"])
        self.errors += record["errors"]
        self.warnings += record.get("warnings", ())


class TooManyErrorsError(Exception):
    """More samples failed than a run was to bear; what is done is kept."""


def run(
    task: Task, each: Each, *, shard_size: int, max_errors: int | None, report: Callable[[Summary], None]
) -> Summary:
    """Do what is left of a task, and write its manifest; return how it went.

    Shards whose records and files are there already, and of the same samples, are skipped. `report` is called before
    the first shard, after each, and now and then within. Raises `TooManyErrorsError`, `ValueError` if the source has no
    samples, `OSError` if the destination cannot be written, and what `each` raises.
    """
    if task.destination is not None and same_place(task.destination, task.source):
        raise ValueError(f"{printable(task.source)} is both source and destination")
    store = Store(task.destination) if task.destination is not None else None
    if store:
        store.require_writable()
    started, listing = time.monotonic(), listing_for(task)
    shards = shards_of(task, listing.samples, shard_size)
    records = finished(store, shards) if store else {}
    summary = Summary(len(shards), len(listing.samples), skipped=len(records))
    if store:
        summary.left_behind = listing.left_behind
        forget(store, shards, records)
    for record in records.values():
        summary.add(record)
    check(summary, max_errors)
    report(summary)
    left, before = [shard for shard in shards if shard.name not in records], summary.samples_done
    for outcome in each(task, left) if left else ():
        if isinstance(outcome, int):
            summary.in_work = outcome
        else:
            records[outcome["shard"]] = outcome
            summary.add(outcome)
        summary.seconds = time.monotonic() - started
        summary.pace = (summary.samples_done - before) / summary.seconds
        report(summary)
        check(summary, max_errors)
    if store:
        store.put(MANIFEST, manifest(task, [records[shard.name] for shard in shards]))
    return summary


def check(summary: Summary, max_errors: int | None) -> None:
    if max_errors is not None and len(summary.errors) > max_errors:
        last = summary.errors[-1]
        samples = "1 sample" if len(summary.errors) == 1 else f"{len(summary.errors)} samples"
        raise TooManyErrorsError(f"{samples} failed, the last: {last['key']} ({last['source']}): {last['error']}")


def finished(store: Store, shards: Sequence[Shard]) -> dict[str, Record]:
    """Return the records of shards that are done, by name: same samples, all files there, nothing to try again."""
    fingerprints, found = {shard.name: shard.fingerprint for shard in shards}, {}
    for name in store.names(DONE):
        record = record_of(store, name) if name.endswith(".json") else None
        if (
            record
            and record["fingerprint"] == fingerprints.get(record["shard"])
            and not any(error.get("again") for error in record["errors"])
            and store.holds(record["files"])
        ):
            found[str(record["shard"])] = record
    return found


def record_of(store: Store, name: str) -> Record | None:
    """Return a shard's record, None if that is damaged."""
    try:
        record: Record = json.loads(store.get(f"{DONE}/{name}") or b"")
        return record if {"shard", "fingerprint", "files", "errors", "sums", "keys"} <= record.keys() else None
    except (ValueError, AttributeError):
        return None


def forget(store: Store, shards: Sequence[Shard], kept: Mapping[str, Record]) -> None:
    """Remove what other runs left, so that nobody takes it for this one's: manifest, records, files of whole shards.

    Of shards that this run goes on with, the parts stay.
    """
    left = [shard for shard in shards if shard.name not in kept]
    if left:
        store.remove(MANIFEST)
    prefixes = tuple(prefix_of(shard) for shard in left)
    for name in store.names(DONE):
        shard = name.removesuffix(".json")
        if name.endswith(SUFFIX) and not name.startswith(prefixes):
            store.remove(f"{DONE}/{name}")
        elif name.endswith(".json") and left and shard not in kept:
            for whole in (f"{shard}.tar", f"{shard}.parquet", f"{DONE}/{name}"):
                store.remove(whole)


def manifest(task: Task, records: Sequence[Record]) -> bytes:
    """Return a manifest: a line about the task, then one for each shard, with its files, keys and errors."""
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
    """Return which files of an earlier run's manifest are missing, or have changed; None if there is no manifest.

    Raises `ValueError` if the manifest is damaged, or names a file elsewhere.
    """
    store = Store(source)
    data = store.get(MANIFEST)
    if data is None:
        return None
    try:
        files = [file for line in data.decode().splitlines()[1:] for file in json.loads(line)["files"]]
        sums = [(below(file["name"]), file["sha256"]) for file in files]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{printable(source)}: a damaged {MANIFEST}: {error!r}") from error
    found = []
    for name, checksum in sums:
        content = store.get(name)
        if content is None:
            found.append(f"{name} is missing")
        elif hashlib.sha256(content).hexdigest() != checksum:
            found.append(f"{name} has changed")
    return found
