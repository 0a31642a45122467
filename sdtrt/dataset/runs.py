"""A task from source to destination: what is done already, what is left, the manifest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdtrt._version import __version__
from sdtrt.dataset.shards import Shard, Task, shards_of
from sdtrt.dataset.sources import MANIFEST
from sdtrt.dataset.stores import Store
from sdtrt.dataset.work import DONE, Record

Each = Callable[[Task, Sequence[Shard]], Iterator[Record]]
FORMAT = "sdtrt dataset, version 1"


@dataclass(slots=True)
class Summary:
    """How far a run is: shards, sums over samples (`samples`, `nbytes`, `made_nbytes`, …), what went wrong."""

    shards: int
    skipped: int = 0
    done: int = 0
    seconds: float = 0.0
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
    the first shard and after each. Raises `TooManyErrorsError`, `ValueError` if the source has no samples, and what
    `each` raises.
    """
    started, shards = time.monotonic(), shards_of(task, shard_size)
    store = Store(task.destination) if task.destination is not None else None
    records = {shard.name: record for shard in shards if (record := finished(store, shard))}
    summary = Summary(len(shards), skipped=len(records))
    for record in records.values():
        summary.add(record)
    report(summary)
    left = [shard for shard in shards if shard.name not in records]
    for record in each(task, left) if left else ():
        records[record["shard"]] = record
        summary.add(record)
        summary.seconds = time.monotonic() - started
        report(summary)
        if max_errors is not None and len(summary.errors) > max_errors:
            raise TooManyErrorsError(f"{len(summary.errors)} samples failed, the last: {summary.errors[-1]}")
    if store:
        store.put(MANIFEST, manifest(task, [records[shard.name] for shard in shards]))
    return summary


def finished(store: Store | None, shard: Shard) -> Record | None:
    """Return the record of a shard that is done, None of others."""
    said = store.get(f"{DONE}/{shard.name}.json") if store else None
    if store is None or said is None:
        return None
    try:
        record: Record = json.loads(said)
        whole = record["fingerprint"] == shard.fingerprint and store.holds(record["files"])
    except (ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def manifest(task: Task, records: Sequence[Record]) -> bytes:
    """Return a manifest: a line about the task, then one for each shard, with its files, keys and errors."""
    head = {
        "format": FORMAT,
        "sdtrt": __version__,
        "operation": task.operation,
        "form": task.form,
        "options": dict(task.options),
        "samples": sum(record["sums"].get("samples", 0) for record in records),
        "errors": sum(len(record["errors"]) for record in records),
    }
    lines = [head, *({name: value for name, value in r.items() if name != "fingerprint"} for r in records)]
    return "".join(json.dumps(line, default=str) + "\n" for line in lines).encode()


def changed_files(source: str) -> list[str]:
    """Return what is wrong with the files of an earlier run's manifest: those that are missing, or changed."""
    store, found = Store(source), []
    said = store.get(MANIFEST)
    for line in (said or b"").decode().splitlines()[1:]:
        files: list[dict[str, Any]] = json.loads(line)["files"]
        for about in files:
            data = store.get(about["name"])
            if data is None:
                found.append(f"{about['name']} is missing")
            elif hashlib.sha256(data).hexdigest() != about["sha256"]:
                found.append(f"{about['name']} has changed")
    return found
