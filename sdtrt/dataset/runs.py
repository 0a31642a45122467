"""A task from source to destination: what is done already, what is left, the manifest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdtrt._version import __version__
from sdtrt.dataset.shards import Shard, Task, shards_of
from sdtrt.dataset.sources import FORMAT, MANIFEST, located
from sdtrt.dataset.stores import Store
from sdtrt.dataset.work import DONE, Record

Each = Callable[[Task, Sequence[Shard]], Iterator[Record]]


@dataclass(slots=True)
class Summary:
    """How far a run is: shards, sums over samples (`samples`, `nbytes`, `made_nbytes`, …), what went wrong.

    Of the shards that are `done`, `skipped` were so before; `pace` is how many samples a second were done since.
    """

    shards: int
    skipped: int = 0
    done: int = 0
    seconds: float = 0.0
    pace: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, str]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.done += 1
        self.sums.update(record["sums"])
        self.errors += record["errors"]


class TooManyErrorsError(Exception):
    """More samples failed than a run was to bear; what is done is kept."""


def run(
    task: Task, each: Each, *, shard_size: int, max_errors: int | None, report: Callable[[Summary], None]
) -> Summary:
    """Do what is left of a task, and write its manifest; return how it went.

    Shards whose records and files are there already, and of the same samples, are skipped. `report` is called before
    the first shard and after each. Raises `TooManyErrorsError`, `ValueError` if the source has no samples, `OSError`
    if the destination cannot be written, and what `each` raises.
    """
    if task.destination is not None and located(task.destination) == located(task.source):
        raise ValueError(f"{task.source} is both source and destination")
    store = Store(task.destination) if task.destination is not None else None
    if store:
        store.require_writable()
    started, shards = time.monotonic(), shards_of(task, shard_size)
    records = finished(store, shards) if store else {}
    summary = Summary(len(shards), skipped=len(records))
    for record in records.values():
        summary.add(record)
    check(summary, max_errors)
    report(summary)
    left = [shard for shard in shards if shard.name not in records]
    if store and left:
        forget(store, records)
    before = summary.sums["samples"]
    for record in each(task, left) if left else ():
        records[record["shard"]] = record
        summary.add(record)
        summary.seconds = time.monotonic() - started
        summary.pace = (summary.sums["samples"] - before) / summary.seconds
        report(summary)
        check(summary, max_errors)
    if store:
        store.put(MANIFEST, manifest(task, [records[shard.name] for shard in shards]))
    return summary


def check(summary: Summary, max_errors: int | None) -> None:
    if max_errors is not None and len(summary.errors) > max_errors:
        raise TooManyErrorsError(f"{len(summary.errors)} samples failed, the last: {summary.errors[-1]}")


def finished(store: Store, shards: Sequence[Shard]) -> dict[str, Record]:
    """Return the records of shards that are done, by name: same samples, all files there, nothing to try again."""
    fingerprints, found = {shard.name: shard.fingerprint for shard in shards}, {}
    for name in store.names(DONE):
        record = record_of(store, name)
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


def forget(store: Store, kept: Mapping[str, Record]) -> None:
    """Remove what other runs left, so that nobody takes it for this one's: manifest, records, files of whole shards."""
    store.remove(MANIFEST)
    for name in store.names(DONE):
        shard = name.removesuffix(".json")
        if shard not in kept:
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
    return "".join(json.dumps(line, default=str) + "\n" for line in lines).encode()


def changed_files(source: str) -> list[str] | None:
    """Return which files of an earlier run's manifest are missing, or have changed; None if there is no manifest."""
    store = Store(source)
    said = store.get(MANIFEST)
    if said is None:
        return None
    found = []
    for line in said.decode().splitlines()[1:]:
        files: list[dict[str, Any]] = json.loads(line)["files"]
        for about in files:
            data = store.get(about["name"])
            if data is None:
                found.append(f"{about['name']} is missing")
            elif hashlib.sha256(data).hexdigest() != about["sha256"]:
                found.append(f"{about['name']} has changed")
    return found
