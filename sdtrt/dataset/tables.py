"""Parquet files, a row for each sample: the only import of `pyarrow`."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

KEYS = ("key", "__key__")  # columns that may hold a row's key
BATCH = 64  # rows that are held at once


def rows(stream: BinaryIO, columns: Sequence[str]) -> Iterator[tuple[int, int, str | None, str]]:
    """Yield for each row its group, its number in the file, its key if there is one, and the column of its bytes.

    That is the first of `columns` that there is; `ValueError` if there is none, or this is no Parquet file.
    """
    table = opened(stream)
    names = table.schema_arrow.names
    column = next((name for name in columns if name in names), None)
    if column is None:
        raise ValueError(f"no column {' or '.join(columns)}, but {', '.join(names)}")
    key = next((name for name in KEYS if names.count(name) == 1), None)
    number = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        keys = table.read_row_group(group, [key])[key].to_pylist() if key else [None] * count
        for said in keys:
            yield group, number, text_of(said), column
            number += 1


def text_of(key: Any) -> str | None:
    if isinstance(key, bytes):
        return key.decode(errors="replace")
    return None if key is None else str(key)


def opened(stream: BinaryIO) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(stream)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"no Parquet file: {error}") from error


class Cursor:
    """Rows of a Parquet file, one after the other, of which a few are held."""

    def __init__(self, stream: BinaryIO) -> None:
        self._table = opened(stream)
        self._group = -1
        self._held: list[dict[str, Any]] = []
        self._first = 0  # number of the first that is held

    def row(self, group: int, number: int) -> dict[str, Any]:
        """Return a row by its group and its number in the file; those before the last one asked for cost more."""
        if group != self._group or number < self._first:
            self._group, self._held = group, []
            self._first = sum(self._table.metadata.row_group(before).num_rows for before in range(group))
            self._batches = self._table.iter_batches(batch_size=BATCH, row_groups=[group])
        while number >= self._first + len(self._held):
            self._first += len(self._held)
            self._held = next(self._batches).to_pylist()
        return self._held[number - self._first]


def packed(suffix: str, items: Sequence[tuple[str, bytes, Mapping[str, Any]]]) -> bytes:
    """Return keys, files and other fields as a Parquet file: `key`, a column named by the suffix, `nbytes`, the fields.

    Fields of more than one type, or of one that Parquet lacks, are columns of JSON.
    """
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {
        "key": pyarrow.array([key for key, _, _ in items], pyarrow.string()),
        suffix: pyarrow.array([data for _, data, _ in items], pyarrow.binary()),
        "nbytes": pyarrow.array([len(data) for _, data, _ in items], pyarrow.int64()),
    }
    for name in sorted({name for _, _, fields in items for name in fields} - columns.keys()):
        columns[name] = column_of([fields.get(name) for _, _, fields in items])
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def column_of(values: list[Any]) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        column = pyarrow.array(values)
        parquet.write_table(pyarrow.table({"tried": column}), io.BytesIO())
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        texts = [None if value is None else json.dumps(value, default=str) for value in values]
        return pyarrow.array(texts, pyarrow.string())
    return column
