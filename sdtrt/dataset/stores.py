"""Where results go: a folder of files, WebDataset tars, Parquet. A file appears whole or not at all."""

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fsspec.core import url_to_fs

from sdtrt.atomic import replace_file
from sdtrt.dataset.reading import Fields

Form = Literal["folder", "tar", "parquet"]
FORMS: tuple[Form, ...] = ("folder", "tar", "parquet")
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Item:
    """What came of a sample: a file of some suffix, and the sample's other fields."""

    key: str
    suffix: str
    data: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Written:
    """A file below the destination."""

    name: str
    nbytes: int
    sha256: str


class Store:
    """A destination, a folder of this machine or another location of fsspec's."""

    def __init__(self, destination: str) -> None:
        self._files, self._path = url_to_fs(destination)
        protocols = self._files.protocol
        self._local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)

    def put(self, name: str, data: bytes) -> Written:
        """Write a file."""
        path = posixpath.join(self._path, name)
        if self._local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(Path(path), data)
        else:
            self._files.pipe_file(path, data)  # such stores show an object once it is whole
        return Written(name, len(data), hashlib.sha256(data).hexdigest())

    def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none."""
        try:
            data: bytes = self._files.cat_file(posixpath.join(self._path, name))
        except FileNotFoundError:
            return None
        return data

    def holds(self, files: Sequence[dict[str, Any]]) -> bool:
        """Return whether files are there, as long as they were when they were written."""
        try:
            return all(self._files.size(posixpath.join(self._path, one["name"])) == one["nbytes"] for one in files)
        except FileNotFoundError:
            return False

    def write(self, form: Form, shard: str, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Write what came of a shard's samples; return the files."""
        if form == "folder":
            written = [self.put(name, data) for item in items for name, data in files_of(item)]
        elif form == "tar":
            written = [self.put(f"{shard}.tar", tar_of(items))]
        else:
            written = [self.put(f"{shard}.parquet", parquet_of(items))]
        return [asdict(one) for one in written]


def files_of(item: Item) -> list[tuple[str, bytes]]:
    """Return the names and contents of an item's files; fields that are not files of their own share one, `.json`."""
    own = {name: value for name, value in item.fields.items() if isinstance(value, bytes | str)}
    rest = {name: value for name, value in item.fields.items() if name not in own}
    if isinstance(rest.get("json"), dict):
        rest |= rest.pop("json")
    found = [(f"{item.key}.{item.suffix}", item.data)]
    found += [
        (f"{item.key}.{name}", value.encode() if isinstance(value, str) else value) for name, value in own.items()
    ]
    return found + ([(f"{item.key}.json", json.dumps(rest, default=str).encode())] if rest else [])


def tar_of(items: Sequence[Item]) -> bytes:
    """Return items as a tar in the way of WebDataset, whose bytes depend on nothing but the items."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for item in items:
            for name, data in files_of(Item(item.key.replace(".", "_"), item.suffix, item.data, item.fields)):
                about = tarfile.TarInfo(name)
                about.size = len(data)
                archive.addfile(about, io.BytesIO(data))
    return stream.getvalue()


def parquet_of(items: Sequence[Item]) -> bytes:
    """Return items as a Parquet file: `key`, the file in a column of its suffix, `nbytes`, and the other fields."""
    import pyarrow
    from pyarrow import parquet

    names = sorted({name for item in items for name in item.fields} - {"key", "nbytes"})
    suffix = items[0].suffix if items else "sdt"
    columns: dict[str, Any] = {
        "key": pyarrow.array([item.key for item in items], pyarrow.string()),
        suffix: pyarrow.array([item.data for item in items], pyarrow.binary()),
        "nbytes": pyarrow.array([len(item.data) for item in items], pyarrow.int64()),
    }
    for name in names:
        values = [item.fields.get(name) for item in items]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # not all of one type
            columns[name] = pyarrow.array([None if value is None else str(value) for value in values])
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()
