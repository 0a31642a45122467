"""What is done of a shard that is not finished, so that a run that was cut short goes on within it."""

import io
import json
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdtrt.dataset import tables, tars
from sdtrt.dataset.reading import Extras
from sdtrt.dataset.shards import Shard
from sdtrt.dataset.stores import DONE, File, Item, Store

EVERY = 5.0  # seconds of work that an interruption may cost
SUFFIX = ".part"


@dataclass(slots=True)
class Result:
    """What came of a sample: an item, or an error.

    Arguments:
        figures: numbers that are summed over samples.
        item: the result, None if there is an error, or once its `files` are written.
        files: the files of its own that were written.
        error: what is wrong, as records name it, None if nothing is.
        warnings: what was warned of, in words.
    """

    figures: Mapping[str, int] = field(default_factory=dict)
    item: Item | None = None
    files: list[File] = field(default_factory=list)
    error: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)


def prefix_of(shard: Shard) -> str:
    """Return how the names of a shard's parts start: they are of these samples, and of what is done with them."""
    return f"{shard.name}-{shard.fingerprint[:16]}-"


class Unfinished:
    """The results of a shard, by the index of their samples, that are stored every few seconds until it is finished.

    Each part is a file below the destination that appears whole, so that stores of objects, too, can hold it.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._prefix = store, prefix_of(shard)
        self._count = 0  # of parts that are stored, numbered from 0
        self._waiting: dict[int, Result] = {}
        self._stored = time.monotonic()

    def load(self) -> dict[int, Result]:
        """Return the results that are stored, but for errors that may be right the next time."""
        found: dict[int, Result] = {}
        while (data := self._store.get(self._name(self._count))) is not None:
            self._count += 1
            try:
                found |= unpacked(data)
            except (tarfile.TarError, ValueError, LookupError, TypeError):  # damaged: its samples are done again
                continue
        files = [one for result in found.values() for one in result.files]
        if not self._store.holds(files):
            found = {index: result for index, result in found.items() if self._store.holds(result.files)}
        return {index: result for index, result in found.items() if not (result.error or {}).get("again")}

    def add(self, index: int, result: Result) -> None:
        """Take a result; store those that wait if the last were stored a while ago."""
        self._waiting[index] = result
        if time.monotonic() - self._stored < EVERY:
            return
        self._store.put(self._name(self._count), packed(self._waiting))
        self._count, self._waiting, self._stored = self._count + 1, {}, time.monotonic()

    def remove(self) -> None:
        """Remove what is stored: the shard is finished."""
        for number in reversed(range(self._count)):
            self._store.remove(self._name(number))

    def _name(self, number: int) -> str:
        return f"{DONE}/{self._prefix}{number:06d}{SUFFIX}"


def packed(results: Mapping[int, Result]) -> bytes:
    """Return results as a tar: a file of JSON for each, and the bytes that belong to it."""
    files: list[tuple[str, bytes]] = []
    for index, result in results.items():
        item = result.item
        about: dict[str, Any] = {
            "figures": dict(result.figures),
            "files": result.files,
            "error": result.error,
            "warnings": result.warnings,
            "item": item and {"key": item.key, "suffix": item.suffix, "extras": list(item.extras.files)},
        }
        files.append((f"{index}/about", json.dumps(about, allow_nan=False).encode()))
        if item is not None:
            files.append((f"{index}/data", item.data))
            files += [(f"{index}/{number}", data) for number, data in enumerate(item.extras.files.values())]
            if item.extras.row is not None:
                files.append((f"{index}/row", tables.row_to_bytes(item.extras.row)))
    return tars.packed(files)


def unpacked(data: bytes) -> dict[int, Result]:
    """Return the results of `packed`; raises what `tarfile` does, `ValueError` or `LookupError` if they are damaged."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            members[member.name] = stream.read() if stream else b""
    indices = [int(name.removesuffix("/about")) for name in members if name.endswith("/about")]
    return {index: _result(members, index) for index in indices}


def _result(members: Mapping[str, bytes], index: int) -> Result:
    about = json.loads(members[f"{index}/about"])
    item, of_item = None, about.pop("item")
    if of_item:
        files = {name: members[f"{index}/{number}"] for number, name in enumerate(of_item["extras"])}
        row = members.get(f"{index}/row")
        extras = Extras(files, None if row is None else tables.row_of_bytes(row))
        item = Item(of_item["key"], of_item["suffix"], members[f"{index}/data"], extras)
    return Result(item=item, **about)
