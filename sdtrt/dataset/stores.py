"""Destinations: a folder of files, WebDataset tars or Parquet files. Each file is written atomically."""

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
from sdtrt.dataset.sources import TEXT_SUFFIXES, resolve_location, shorten
from sdtrt.process.text import json_text

Form = Literal["folder", "tar", "parquet"]
FileRecord = dict[str, Any]  # a `StoredFile` in a shard's record
RECORDS_FOLDER = ".shards"  # has a record for each finished shard
MAX_FIELD_NAME = 40  # bytes of a field's name that becomes an extension
NOT_FOUND_ERRORS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class Item:
    """The result of a sample.

    Arguments:
        key: the key of the sample.
        suffix: the suffix of the result.
        data: the bytes of the result.
        extras: the further files or columns of the sample.
    """

    key: str
    suffix: str
    data: bytes
    extras: Extras


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file below the destination. The field names are those of records and manifests.

    Arguments:
        name: its path below the destination.
        nbytes: its size.
        sha256: its checksum, in hexadecimal.
        key: the key of its sample (default None, a file of a whole shard).
        part: its extension within the sample (default None).
    """

    name: str
    nbytes: int
    sha256: str
    key: str | None = None
    part: str | None = None


class Store:
    """A destination: a folder of this machine, or another location of fsspec.

    Arguments:
        destination: the location.
    """

    def __init__(self, destination: str) -> None:
        self._files, self._path = resolve_location(destination)
        self._is_local = isinstance(self._files, LocalFileSystem)

    def check_writable(self) -> None:
        """Raise `OSError` if a local destination cannot be written; other locations are not checked."""
        if self._is_local:
            check_new_folder(Path(self._path))

    def put(self, name: str, data: bytes, key: str | None = None, part: str | None = None) -> StoredFile:
        """Write a file, and return its description."""
        path = posixpath.join(self._path, name)
        if self._is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, data)
        else:
            self._files.pipe_file(path, data)  # object stores show only complete objects
        return StoredFile(name, len(data), hashlib.sha256(data).hexdigest(), key, part)

    @staticmethod
    def _replace(path: str, data: bytes) -> None:
        try:
            replace_file(Path(path), data)
        except OSError as error:
            if error.filename is None:  # for example on a full disk
                error.filename = path
            raise

    def get(self, name: str) -> bytes | None:
        """Return the bytes of a file, None if it does not exist."""
        try:
            data: bytes = self._files.cat_file(posixpath.join(self._path, name))
        except NOT_FOUND_ERRORS:
            return None
        return data

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with contextlib.suppress(*NOT_FOUND_ERRORS):
            self._files.rm_file(posixpath.join(self._path, name))

    def list_names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, none if it does not exist."""
        path = posixpath.join(self._path, folder)
        try:
            self._files.invalidate_cache()
            return sorted(posixpath.basename(name) for name in self._files.ls(path, detail=False))
        except NOT_FOUND_ERRORS:
            return []

    def has_files(self, files: Iterable[FileRecord]) -> bool:
        """Return whether all files exist with their recorded sizes."""
        try:
            return all(self._files.size(posixpath.join(self._path, file["name"])) == file["nbytes"] for file in files)
        except NOT_FOUND_ERRORS:
            return False

    def write_item(self, item: Item) -> list[FileRecord]:
        """Write the result of a sample as files of its own."""
        return [asdict(self.put(f"{item.key}.{part}", data, item.key, part)) for part, data in item_files(item)]

    def write_shard(self, form: Form, name: str, suffix: str, items: Sequence[Item]) -> list[FileRecord]:
        """Write the results of a shard as one tar or Parquet file."""
        if form == "tar":
            files = [(f"{item.key}.{part}", data) for item in items for part, data in item_files(item)]
            return [asdict(self.put(f"{name}.tar", tars.to_tar(files)))]
        if any_row(items):
            further = tables.concat_rows(suffix, [item_row(item) for item in items])
        else:
            further = items_to_columns(items)
        data = tables.to_parquet(suffix, [item.key for item in items], [item.data for item in items], further)
        return [asdict(self.put(f"{name}.parquet", data))]


def any_row(items: Iterable[Item]) -> bool:
    return any(item.extras.row is not None for item in items)


def item_row(item: Item) -> Any:
    """Return the further columns of an item as a table of one row."""
    return item.extras.row if item.extras.row is not None else items_to_columns([item])


def items_to_columns(items: Sequence[Item]) -> Any:
    """Return the further files of items as a table, with a row for each item."""
    return tables.rows_to_table([item_cells(item) for item in items])


def item_cells(item: Item) -> Fields:
    """Return the further files of an item as table cells: text as str, a class as int, other files as bytes.

    Each cell gives the same bytes when it is written as a file again.
    """
    return {name: to_cell(name, data) for name, data in safe_field_names(item.extras.files, item.suffix).items()}


def to_cell(name: str, data: bytes) -> Any:
    suffix = name.rpartition(".")[2]
    try:
        if suffix == "cls" and str(int(data)).encode() == data:
            return int(data)
        return data.decode() if suffix in TEXT_SUFFIXES or suffix == "cls" else data
    except ValueError:
        return data


def safe_field_names(fields: Mapping[str, Any], suffix: str) -> Fields:
    """Return fields with names that are safe as extensions, unique, and different from the suffix of the result."""
    renamed: Fields = {}
    for name, value in fields.items():
        plain = re.sub(r"[^\w.+-]", "_", name).strip(".").lower() or "_"
        plain = shorten(f"source.{plain}" if plain == suffix else plain, MAX_FIELD_NAME)
        while plain in renamed:
            plain = f"{plain}_"
        renamed[plain] = value
    return renamed


def item_files(item: Item) -> list[tuple[str, bytes]]:
    """Return the files of an item, by extension.

    Files of the source stay unchanged. Columns of bytes or text become files. The other columns share one JSON file,
    `columns.json` if there is a column `json`.
    """
    if item.extras.row is None:
        return [(item.suffix, item.data), *safe_field_names(item.extras.files, item.suffix).items()]
    values = safe_field_names(tables.row_values(item.extras.row), item.suffix)
    files = {name: value for name, value in values.items() if isinstance(value, bytes | str) or name == "cls"}
    rest = {name: value for name, value in values.items() if name not in files}
    if rest:
        files["columns.json" if "json" in files else "json"] = json_text(rest, default=to_json_text)
    return [(item.suffix, item.data), *((name, to_bytes(value)) for name, value in files.items())]


def to_json_text(value: Any) -> str:
    """Return a value that JSON lacks as text; bytes become Base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def to_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
