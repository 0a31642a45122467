"""Parquet files with a row for each sample. No other module imports `pyarrow`."""

import io
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from sdtrt.process.text import json_text

KEY_COLUMNS = ("key", "__key__")  # columns that may contain the key of a row
BATCH_ROWS = 64  # rows that are kept in memory at the same time
ROLE_KEY = b"sdtrt"  # in the metadata of a column that an earlier run added
SIZE, REST = b"size", b"rest of the image"  # roles: the size of a result; a field of the image's struct column


def list_rows(stream: BinaryIO, columns: Sequence[str]) -> Iterator[tuple[int, int, str | None, str]]:
    """Yield (row group, number of the row in the file, key or None, column of the bytes) for each row.

    The key is in a column of `KEY_COLUMNS`. Without such a column it is the `path` of the image without its suffix, as
    the `datasets` library stores it.

    Arguments:
        stream: a Parquet file.
        columns: columns that may contain the bytes; the first that exists is used.

    Raises:
        ValueError: the file is not a Parquet file, or has none of the columns.
    """
    table = open_parquet(stream)
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
    """Return the keys of the rows of a group, None for a row without a key."""
    schema = table.schema_arrow
    name = next((name for name in KEY_COLUMNS if schema.names.count(name) == 1), None)
    if name is not None:
        return [key_text(key) for key in table.read_row_group(group, [name])[name].to_pylist()]
    if "path" in _struct_fields(schema.field(schema.names.index(column)).type):
        images = table.read_row_group(group, [f"{column}.path"])[column].to_pylist()
        paths = [key_text((image or {}).get("path")) for image in images]
        return [posixpath.splitext(path)[0] if path else None for path in paths]
    return [None] * table.metadata.row_group(group).num_rows


def _struct_fields(arrow_type: Any) -> list[str]:
    """Return the field names of a struct type, an empty list for any other type."""
    import pyarrow

    if not pyarrow.types.is_struct(arrow_type):
        return []
    return [arrow_type.field(number).name for number in range(arrow_type.num_fields)]


def key_text(key: Any) -> str | None:
    if isinstance(key, bytes):
        return key.decode(errors="replace")
    return None if key is None else str(key)


def open_parquet(stream: BinaryIO) -> Any:
    """Return a `pyarrow.parquet.ParquetFile`; `ValueError` if the stream is not a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(stream)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"not a Parquet file: {error}") from error


class RowCursor:
    """Sequential reader of the rows of a Parquet file, with a few rows in memory.

    Arguments:
        stream: the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._table = open_parquet(stream)
        self._group = -1
        self._batch: Any = None
        self._first = 0  # number of the first row in the batch

    def read(self, group: int, number: int, column: str) -> tuple[bytes, Any]:
        """Return the bytes of a row, and its further columns as a table of one row.

        Reading a row before the last one reads its group again.

        Arguments:
            group: the row group.
            number: the number of the row in the file.
            column: the column of the bytes, or a struct column with a field `bytes`.

        Raises:
            ValueError: the column has no bytes in this row.
        """
        if group != self._group or number < self._first:
            self._group, self._batch = group, None
            self._first = sum(self._table.metadata.row_group(before).num_rows for before in range(group))
            self._batches = self._table.iter_batches(batch_size=BATCH_ROWS, row_groups=[group])
        while self._batch is None or number >= self._first + self._batch.num_rows:
            self._first += self._batch.num_rows if self._batch is not None else 0
            self._batch = next(self._batches)
        row = self._batch.slice(number - self._first, 1)
        index = row.schema.names.index(column)
        value = row.column(index)[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(f"column {column} has no bytes in this row")
        return data, _further_columns(row, index, self._table.schema_arrow.metadata)


def _further_columns(row: Any, index: int, metadata: Any) -> Any:
    """Return a row without the bytes of column `index`, as a table; other fields of a struct column become columns."""
    import pyarrow
    from pyarrow import compute

    name, image = row.schema.names[index], row.column(index)
    rest = [number for number, field in enumerate(row.schema) if number != index and _role(field) != SIZE]
    fields, columns = [row.schema.field(number) for number in rest], [row.column(number) for number in rest]
    for inner in _struct_fields(image.type):
        if inner != "bytes":
            columns.append(compute.struct_field(image, inner))
            fields.append(pyarrow.field(f"{name}.{inner}", columns[-1].type, metadata={ROLE_KEY: REST}))
    return pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(fields, metadata))


def _role(field: Any) -> bytes | None:
    role: bytes | None = (field.metadata or {}).get(ROLE_KEY)
    return role


def row_values(row: Any) -> dict[str, Any]:
    """Return the further columns of a row by name, without keys, nulls and columns that an earlier run added."""
    values = {name: cell_value(column) for name, column in zip(row.schema.names, row.columns, strict=True)}
    hidden = {field.name for field in row.schema if _role(field)} | set(KEY_COLUMNS)
    return {name: value for name, value in values.items() if value is not None and name not in hidden}


def cell_value(column: Any) -> Any:
    """Return the first value of a column; as Arrow's text if Python lacks it, such as a date after the year 9999."""
    import pyarrow

    try:
        return column[0].as_py()
    except (pyarrow.ArrowException, OverflowError, ValueError):
        text = " ".join(column.slice(0, 1).combine_chunks().to_string().split())
        return text[1:-1].strip() if text.startswith("[") else text


def row_to_bytes(row: Any) -> bytes:
    """Return a table in Arrow's IPC stream format."""
    import pyarrow

    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, row.schema) as writer:
        writer.write_table(row)
    return stream.getvalue()


def row_from_bytes(data: bytes) -> Any:
    """Return the table of `row_to_bytes`; `ValueError` if the bytes are damaged."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(data).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"not an Arrow IPC stream: {error}") from error


def to_parquet(suffix: str, keys: Sequence[str], files: Sequence[bytes], further: Any) -> bytes:
    """Return results as a Parquet file.

    Its columns are `key`, a column named by the suffix, `nbytes`, and the further columns. A further column `key` or
    `nbytes` replaces the one of this function.

    Arguments:
        suffix: the suffix of the results.
        keys: the key of each row.
        files: the result of each row.
        further: the further columns, a table by `concat_rows` or `rows_to_table`.
    """
    import pyarrow
    from pyarrow import parquet

    taken = set(further.schema.names)
    columns: list[tuple[Any, Any]] = []
    if not taken & set(KEY_COLUMNS):
        columns.append((pyarrow.field("key", pyarrow.string()), list(keys)))
    columns.append((pyarrow.field(suffix, pyarrow.binary()), list(files)))
    if "nbytes" not in taken:
        size = pyarrow.field("nbytes", pyarrow.int64(), metadata={ROLE_KEY: SIZE})
        columns.append((size, [len(data) for data in files]))
    arrays = [pyarrow.array(values, field.type) for field, values in columns]
    schema = pyarrow.schema([*(field for field, _ in columns), *further.schema], further.schema.metadata)
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays([*arrays, *further.columns], schema=schema), stream)
    return stream.getvalue()


def concat_rows(suffix: str, tables: Sequence[Any]) -> Any:
    """Return tables of one row as one table, with the schema metadata of the first.

    A column with the name of the result's column is renamed to `source.` and that name. If a column's type differs
    between rows, all columns are converted by `to_column`.

    Arguments:
        suffix: the suffix of the results, which names their column.
        tables: the rows.
    """
    import pyarrow

    renamed = [_rename_suffix_column(table, suffix) for table in tables]
    try:
        table = pyarrow.concat_tables(renamed, promote_options="permissive")
    except pyarrow.ArrowException:
        names = dict.fromkeys(name for table in renamed for name in table.schema.names)
        rows = [dict(zip(table.schema.names, map(cell_value, table.columns), strict=True)) for table in renamed]
        table = pyarrow.table({name: to_column([row.get(name) for row in rows]) for name in names})
    return table.replace_schema_metadata(renamed[0].schema.metadata).unify_dictionaries().combine_chunks()


def _rename_suffix_column(table: Any, suffix: str) -> Any:
    names = table.schema.names
    new_name = f"source.{suffix}"
    while new_name in names:
        new_name = f"{new_name}_"
    if suffix not in names:
        return table
    return table.rename_columns([new_name if name == suffix else name for name in names])


def rows_to_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows of values by name as a table; a value that a row lacks is null."""
    import pyarrow

    names = sorted({name for row in rows for name in row})
    return pyarrow.table({name: to_column([row.get(name) for row in rows]) for name in names})


def to_column(values: list[Any]) -> Any:
    """Return a column of values; a mix of bytes and texts becomes bytes, any other mix of types becomes JSON."""
    import pyarrow
    from pyarrow import parquet

    if {type(value) for value in values} >= {bytes, str}:
        values = [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in values]
    try:
        column = pyarrow.array(values)
        parquet.write_table(pyarrow.table({"column": column}), io.BytesIO())  # Parquet lacks some of Arrow's types
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return pyarrow.array([None if value is None else json_text(value) for value in values], pyarrow.string())
    return column
