"""Where results go: a folder of files, WebDataset tars, Parquet. A file appears whole or not at all."""

import contextlib
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem

from sdtrt.atomic import check_new_folder, replace_file
from sdtrt.dataset import tables, tars
from sdtrt.dataset.reading import Fields
from sdtrt.dataset.sources import located

Form = Literal["folder", "tar", "parquet"]
File = dict[str, Any]  # name, nbytes, sha256, and the key and part of a sample; None for a file of many
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class Item:
    """What came of a sample: a file of some suffix, and the sample's other fields."""

    key: str
    suffix: str
    data: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Written:
    """A file below the destination: a part of a sample, or of many, without a key."""

    name: str
    nbytes: int
    sha256: str
    key: str | None = None
    part: str | None = None


class Store:
    """A destination, a folder of this machine or another location of fsspec's."""

    def __init__(self, destination: str) -> None:
        self._files, self._path = located(destination)
        self._local = isinstance(self._files, LocalFileSystem)

    def require_writable(self) -> None:
        """Raise `OSError` if this machine may not write there; of other locations nothing is asked."""
        if self._local:
            check_new_folder(Path(self._path))

    def put(self, name: str, data: bytes, key: str | None = None, part: str | None = None) -> Written:
        """Write a file."""
        path = posixpath.join(self._path, name)
        if self._local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(Path(path), data)
        else:
            self._files.pipe_file(path, data)  # stores of objects show one once it is whole
        return Written(name, len(data), hashlib.sha256(data).hexdigest(), key, part)

    def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none."""
        try:
            data: bytes = self._files.cat_file(posixpath.join(self._path, name))
        except MISSING:
            return None
        return data

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with contextlib.suppress(*MISSING):
            self._files.rm_file(posixpath.join(self._path, name))

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        path = posixpath.join(self._path, folder)
        try:
            self._files.invalidate_cache()
            return sorted(posixpath.basename(name) for name in self._files.ls(path, detail=False))
        except MISSING:
            return []

    def holds(self, files: Iterable[File]) -> bool:
        """Return whether files are there, as long as they were when they were written."""
        try:
            return all(self._files.size(posixpath.join(self._path, one["name"])) == one["nbytes"] for one in files)
        except MISSING:
            return False

    def write_item(self, item: Item) -> list[File]:
        """Write what came of one sample, as files of its own."""
        return [asdict(self.put(f"{item.key}.{part}", data, item.key, part)) for part, data in parts_of(item)]

    def write_shard(self, form: Form, name: str, suffix: str, items: Sequence[Item]) -> list[File]:
        """Write what came of a shard's samples, as one file."""
        if form == "tar":
            files = [(f"{item.key}.{part}", data) for item in items for part, data in parts_of(item)]
            return [asdict(self.put(f"{name}.tar", tars.packed(files)))]
        rows = [(item.key, item.data, fields_of(item)) for item in items]
        return [asdict(self.put(f"{name}.parquet", tables.packed(suffix, rows)))]


def fields_of(item: Item) -> Fields:
    """Return an item's other fields by names that are safe in those of files, and not its own file's."""
    found: Fields = {}
    for name, value in item.fields.items():
        plain = re.sub(r"[^\w.+-]", "_", name).strip(".").lower() or "_"
        plain = f"source.{plain}" if plain == item.suffix else plain
        while plain in found:
            plain = f"{plain}_"
        found[plain] = value
    return found


def parts_of(item: Item) -> list[tuple[str, bytes]]:
    """Return the files of an item, by extension: those fields that are no files of their own share one, `.json`."""
    found, rest = [(item.suffix, item.data)], {}
    fields = fields_of(item)
    said = fields.pop("json", {})
    if isinstance(said, dict):
        rest = said
    else:
        found.append(("source.json", encoded(said)))
    for name, value in fields.items():
        if isinstance(value, bytes | str) or name == "cls":
            found.append((name, encoded(value)))
        else:
            rest = {**rest, name: value}
    return found + ([("json", encoded(rest))] if rest else [])


def encoded(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode("utf-8", "replace")
