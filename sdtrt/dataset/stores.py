"""Where results go: a folder of files, WebDataset tars, Parquet. A file appears whole or not at all."""

import base64
import contextlib
import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem

from sdtrt.atomic import check_new_folder, replace_file
from sdtrt.dataset import tables, tars
from sdtrt.dataset.reading import Extras, Fields
from sdtrt.dataset.sources import TEXT_SUFFIXES, located, shortened
from sdtrt.process.text import json_text

Form = Literal["folder", "tar", "parquet"]
File = dict[str, Any]  # name, nbytes, sha256, and the key and part of a sample; None for a file of many
DONE = ".shards"  # the folder that says which shards are done
MAX_NAME = 40  # bytes of an extension
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class Item:
    """What came of a sample: a file of some suffix, and the extras of the sample."""

    key: str
    suffix: str
    data: bytes
    extras: Extras


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
            self._replace(path, data)
        else:
            self._files.pipe_file(path, data)  # stores of objects show one once it is whole
        return Written(name, len(data), hashlib.sha256(data).hexdigest(), key, part)

    @staticmethod
    def _replace(path: str, data: bytes) -> None:
        try:
            replace_file(Path(path), data)
        except OSError as error:
            if error.filename is None:  # as of a full disk
                error.filename = path
            raise

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
        further = tables.joined(suffix, [row_of(item) for item in items]) if any_row(items) else columns_of(items)
        data = tables.packed(suffix, [item.key for item in items], [item.data for item in items], further)
        return [asdict(self.put(f"{name}.parquet", data))]


def any_row(items: Iterable[Item]) -> bool:
    return any(item.extras.row is not None for item in items)


def row_of(item: Item) -> Any:
    """Return the further columns of an item as a table of one row."""
    return item.extras.row if item.extras.row is not None else columns_of([item])


def columns_of(items: Sequence[Item]) -> Any:
    """Return the files beside items as columns, a row for each item."""
    return tables.table_of([cells_of(item) for item in items])


def cells_of(item: Item) -> Fields:
    """Return the files beside an item as they are in columns: texts as texts, a class as a number, else bytes.

    Each gives the same bytes back when it is written as a file again.
    """
    return {name: cell_of(name, data) for name, data in plain_names(item.extras.files, item.suffix).items()}


def cell_of(name: str, data: bytes) -> Any:
    suffix = name.rpartition(".")[2]
    try:
        if suffix == "cls" and str(int(data)).encode() == data:
            return int(data)
        return data.decode() if suffix in TEXT_SUFFIXES or suffix == "cls" else data
    except ValueError:
        return data


def plain_names(fields: Mapping[str, Any], suffix: str) -> Fields:
    """Return fields by names that are safe in those of files, and not the suffix of the result."""
    found: Fields = {}
    for name, value in fields.items():
        plain = re.sub(r"[^\w.+-]", "_", name).strip(".").lower() or "_"
        plain = shortened(f"source.{plain}" if plain == suffix else plain, MAX_NAME)
        while plain in found:
            plain = f"{plain}_"
        found[plain] = value
    return found


def parts_of(item: Item) -> list[tuple[str, bytes]]:
    """Return the files of an item, by extension.

    Files of the source stay as they are. Columns of bytes or text become files; the other columns share one file of
    JSON, which is `columns.json` where there is a column `json`.
    """
    if item.extras.row is None:
        return [(item.suffix, item.data), *plain_names(item.extras.files, item.suffix).items()]
    values = plain_names(tables.values_of(item.extras.row), item.suffix)
    own = {name: value for name, value in values.items() if isinstance(value, bytes | str) or name == "cls"}
    rest = {name: value for name, value in values.items() if name not in own}
    if rest:
        own["columns.json" if "json" in own else "json"] = json_text(rest, default=in_json)
    return [(item.suffix, item.data), *((name, encoded(value)) for name, value in own.items())]


def in_json(value: Any) -> str:
    """Return a value that JSON does not know as text: bytes as Base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
