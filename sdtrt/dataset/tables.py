"""Parquet files, a row for each sample: the only import of `pyarrow`."""

import io
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from sdtrt.process.text import json_text

KEYS = ("key", "__key__")  # columns that may hold a row's key
BATCH = 64  # rows that are held at once
MARK = b"sdtrt"  # in the metadata of columns that an earlier run added
SIZE, REST = b"size", b"rest of the image"  # of a result, in bytes; what the image's column held beside the bytes


def rows(stream: BinaryIO, columns: Sequence[str]) -> Iterator[tuple[int, int, str | None, str]]:
    """Yield for each row its group, its number in the file, its key if there is one, and the column of its bytes.

    That is the first of `columns` that there is; `ValueError` if there is none, or this is no Parquet file. The key is
    in a column of `KEYS`, else it is the path of an image as `datasets` stores it, without the suffix.
    """
    table = opened(stream)
    names = table.schema_arrow.names
    column = next((name for name in columns if name in names), None)
    if column is None:
        raise ValueError(f"its columns are {', '.join(names)}; expected one of {', '.join(columns)}")
    number = 0
    for group in range(table.num_row_groups):
        for key in _keys(table, group, column):
            yield group, number, key, column
            number += 1


def _keys(table: Any, group: int, column: str) -> list[str | None]:
    """Return the keys of a group's rows, None for a row without one."""
    schema = table.schema_arrow
    name = next((name for name in KEYS if schema.names.count(name) == 1), None)
    if name is not None:
        return [text_of(key) for key in table.read_row_group(group, [name])[name].to_pylist()]
    if "path" in _inner_names(schema.field(schema.names.index(column)).type):
        found = table.read_row_group(group, [f"{column}.path"])[column].to_pylist()
        paths = [text_of((image or {}).get("path")) for image in found]
        return [posixpath.splitext(path)[0] if path else None for path in paths]
    return [None] * table.metadata.row_group(group).num_rows


def _inner_names(kind: Any) -> list[str]:
    """Return the names of a type's fields; none if it is no struct."""
    import pyarrow

    return [kind.field(number).name for number in range(kind.num_fields)] if pyarrow.types.is_struct(kind) else []


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
        self._held: Any = None
        self._first = 0  # number of the first that is held

    def row(self, group: int, number: int, column: str) -> tuple[bytes, Any]:
        """Return the bytes in a column of a row, and the further columns as a table of one row.

        Rows are named by their group and their number in the file; those before the last one asked for cost more.
        Raises `ValueError` if the column holds no bytes there.
        """
        if group != self._group or number < self._first:
            self._group, self._held = group, None
            self._first = sum(self._table.metadata.row_group(before).num_rows for before in range(group))
            self._batches = self._table.iter_batches(batch_size=BATCH, row_groups=[group])
        while self._held is None or number >= self._first + self._held.num_rows:
            self._first += self._held.num_rows if self._held is not None else 0
            self._held = next(self._batches)
        row = self._held.slice(number - self._first, 1)
        at = row.schema.names.index(column)
        value = row.column(at)[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(f"column {column} holds no bytes here")
        return data, _further(row, at, self._table.schema_arrow.metadata)


def _further(row: Any, at: int, metadata: Any) -> Any:
    """Return a row without the image in column `at`, as a table, with what that column held beside the bytes."""
    import pyarrow
    from pyarrow import compute

    name, image = row.schema.names[at], row.column(at)
    kept = [number for number, field in enumerate(row.schema) if number != at and _mark(field) != SIZE]
    fields, columns = [row.schema.field(number) for number in kept], [row.column(number) for number in kept]
    for inner in _inner_names(image.type):
        if inner != "bytes":
            columns.append(compute.struct_field(image, inner))
            fields.append(pyarrow.field(f"{name}.{inner}", columns[-1].type, metadata={MARK: REST}))
    return pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(fields, metadata))


def _mark(field: Any) -> bytes | None:
    mark: bytes | None = (field.metadata or {}).get(MARK)
    return mark


def values_of(row: Any) -> dict[str, Any]:
    """Return the further columns of a row by name, but for keys, nulls and what an earlier run added."""
    found = {name: value_of_cell(column) for name, column in zip(row.schema.names, row.columns, strict=True)}
    hidden = {field.name for field in row.schema if _mark(field)} | set(KEYS)
    return {name: value for name, value in found.items() if value is not None and name not in hidden}


def value_of_cell(column: Any) -> Any:
    """Return the first value of a column; as Arrow's text where Python has no such value, as a day after year 9999."""
    import pyarrow

    try:
        return column[0].as_py()
    except (pyarrow.ArrowException, OverflowError, ValueError):
        text = " ".join(column.slice(0, 1).combine_chunks().to_string().split())
        return text[1:-1].strip() if text.startswith("[") else text


def row_to_bytes(row: Any) -> bytes:
    """Return a table as Arrow's stream of messages."""
    import pyarrow

    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, row.schema) as writer:
        writer.write_table(row)
    return stream.getvalue()


def row_of_bytes(data: bytes) -> Any:
    """Return the table of `row_to_bytes`; `ValueError` if that is damaged."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(data).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"no stream of Arrow's: {error}") from error


def packed(suffix: str, keys: Sequence[str], files: Sequence[bytes], further: Any) -> bytes:
    """Return keys, files and further columns as a Parquet file.

    The columns are `key`, a column named by the suffix, `nbytes`, and those of `further`, which is as `joined` or
    `table_of` return it. Where `further` has a column `key` or `nbytes`, that is the one.
    """
    import pyarrow
    from pyarrow import parquet

    taken = set(further.schema.names)
    columns: list[tuple[Any, Any]] = []
    if not taken & set(KEYS):
        columns.append((pyarrow.field("key", pyarrow.string()), list(keys)))
    columns.append((pyarrow.field(suffix, pyarrow.binary()), list(files)))
    if "nbytes" not in taken:
        size = pyarrow.field("nbytes", pyarrow.int64(), metadata={MARK: SIZE})
        columns.append((size, [len(data) for data in files]))
    arrays = [pyarrow.array(values, field.type) for field, values in columns]
    schema = pyarrow.schema([*(field for field, _ in columns), *further.schema], further.schema.metadata)
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays([*arrays, *further.columns], schema=schema), stream)
    return stream.getvalue()


def joined(suffix: str, tables: Sequence[Any]) -> Any:
    """Return the further columns of rows as one table, with their types and the metadata of the first row's schema.

    A column that is named as the result's, by the suffix, is called `source.` and that name. Where columns of one name
    differ in type they become as `column_of` has them.
    """
    import pyarrow

    renamed = [_renamed(table, suffix) for table in tables]
    try:
        table = pyarrow.concat_tables(renamed, promote_options="permissive")
    except pyarrow.ArrowException:
        names = dict.fromkeys(name for table in renamed for name in table.schema.names)
        rows = [dict(zip(table.schema.names, map(value_of_cell, table.columns), strict=True)) for table in renamed]
        table = pyarrow.table({name: column_of([row.get(name) for row in rows]) for name in names})
    return table.replace_schema_metadata(renamed[0].schema.metadata).unify_dictionaries().combine_chunks()


def _renamed(table: Any, suffix: str) -> Any:
    names = table.schema.names
    other = f"source.{suffix}"
    while other in names:
        other = f"{other}_"
    return table.rename_columns([other if name == suffix else name for name in names]) if suffix in names else table


def table_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return values by name, of which rows may lack some, as a table."""
    import pyarrow

    names = sorted({name for row in rows for name in row})
    return pyarrow.table({name: column_of([row.get(name) for row in rows]) for name in names})


def column_of(values: list[Any]) -> Any:
    """Return a column of values; bytes beside texts become bytes, other values of several types become JSON."""
    import pyarrow
    from pyarrow import parquet

    if {type(value) for value in values} >= {bytes, str}:
        values = [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in values]
    try:
        column = pyarrow.array(values)
        parquet.write_table(pyarrow.table({"tried": column}), io.BytesIO())
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return pyarrow.array([None if value is None else json_text(value) for value in values], pyarrow.string())
    return column
