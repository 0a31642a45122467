"""The stored results of an unfinished shard, from which the next run continues."""

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
from sdtrt.dataset.stores import RECORDS_FOLDER, FileRecord, Item, Store

SAVE_INTERVAL = 5.0  # seconds of work that an interruption may lose
PART_SUFFIX = ".part"


@dataclass(slots=True)
class SampleResult:
    """The result of a sample, or its error.

    Arguments:
        figures: numbers to be summed over samples (default none).
        item: the result; None after an error, or once its `files` are written (default None).
        files: the files that were written for this sample (default none).
        error: its entry among the errors of a shard's record (default None, no error).
        warnings: texts of warnings (default none).
    """

    figures: Mapping[str, int] = field(default_factory=dict)
    item: Item | None = None
    files: list[FileRecord] = field(default_factory=list)
    error: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)


def part_prefix(shard: Shard) -> str:
    """Return the prefix of the names of a shard's parts. It depends on the shard's samples and options."""
    return f"{shard.name}-{shard.fingerprint[:16]}-"


class ShardCheckpoint:
    """The results of an unfinished shard by the index of their samples, saved every `SAVE_INTERVAL` seconds.

    Each save writes a further part, a file below the destination. Object stores, which cannot append to a file, can
    therefore hold a checkpoint.

    Arguments:
        store: the destination.
        shard: the shard.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._prefix = store, part_prefix(shard)
        self._num_parts = 0
        self._unsaved: dict[int, SampleResult] = {}
        self._saved_at = time.monotonic()

    def load(self) -> dict[int, SampleResult]:
        """Return the saved results, without errors that may be transient and without results whose files are gone."""
        results: dict[int, SampleResult] = {}
        while (data := self._store.get(self._name(self._num_parts))) is not None:
            self._num_parts += 1
            try:
                results |= unpack_results(data)
            except (tarfile.TarError, ValueError, LookupError, TypeError):  # damaged: its samples are processed again
                continue
        files = [file for result in results.values() for file in result.files]
        if not self._store.has_files(files):
            results = {index: result for index, result in results.items() if self._store.has_files(result.files)}
        return {index: result for index, result in results.items() if not (result.error or {}).get("again")}

    def add(self, index: int, result: SampleResult) -> None:
        """Add a result, and save the unsaved results if the last save is long enough ago."""
        self._unsaved[index] = result
        if time.monotonic() - self._saved_at < SAVE_INTERVAL:
            return
        self._store.put(self._name(self._num_parts), pack_results(self._unsaved))
        self._num_parts, self._unsaved, self._saved_at = self._num_parts + 1, {}, time.monotonic()

    def remove(self) -> None:
        """Remove all parts, after the shard is finished."""
        for number in reversed(range(self._num_parts)):
            self._store.remove(self._name(number))

    def _name(self, number: int) -> str:
        return f"{RECORDS_FOLDER}/{self._prefix}{number:06d}{PART_SUFFIX}"


def pack_results(results: Mapping[int, SampleResult]) -> bytes:
    """Return results as a tar, with a JSON file for each result and the bytes that belong to it."""
    files: list[tuple[str, bytes]] = []
    for index, result in results.items():
        item = result.item
        description: dict[str, Any] = {
            "figures": dict(result.figures),
            "files": result.files,
            "error": result.error,
            "warnings": result.warnings,
            "item": item and {"key": item.key, "suffix": item.suffix, "extras": list(item.extras.files)},
        }
        files.append((f"{index}/about", json.dumps(description, allow_nan=False).encode()))
        if item is not None:
            files.append((f"{index}/data", item.data))
            files += [(f"{index}/{number}", data) for number, data in enumerate(item.extras.files.values())]
            if item.extras.row is not None:
                files.append((f"{index}/row", tables.row_to_bytes(item.extras.row)))
    return tars.to_tar(files)


def unpack_results(data: bytes) -> dict[int, SampleResult]:
    """Return the results of `pack_results`; an error of `tarfile`, `ValueError` or `LookupError` if damaged."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            members[member.name] = stream.read() if stream else b""
    indices = [int(name.removesuffix("/about")) for name in members if name.endswith("/about")]
    return {index: _unpack_result(members, index) for index in indices}


def _unpack_result(members: Mapping[str, bytes], index: int) -> SampleResult:
    description = json.loads(members[f"{index}/about"])
    item, item_fields = None, description.pop("item")
    if item_fields:
        files = {name: members[f"{index}/{number}"] for number, name in enumerate(item_fields["extras"])}
        row = members.get(f"{index}/row")
        extras = Extras(files, None if row is None else tables.row_from_bytes(row))
        item = Item(item_fields["key"], item_fields["suffix"], members[f"{index}/data"], extras)
    return SampleResult(item=item, **description)
