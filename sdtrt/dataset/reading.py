"""Reading of samples: the bytes of the image or `.sdt` file, and the further fields of the source."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from fsspec.implementations.local import LocalFileSystem

from sdtrt.dataset.sources import ByteRange, Row, Sample, resolve_location
from sdtrt.dataset.tables import RowCursor, row_values
from sdtrt.dataset.tars import parse_field
from sdtrt.process.text import printable

Fields = dict[str, Any]  # bytes, texts and numbers, by extension or column


@dataclass(frozen=True, slots=True)
class Extras:
    """The data of a sample beside its image or `.sdt` file, unchanged.

    Arguments:
        files: the bytes of other files, by extension (default none).
        row: a `pyarrow.Table` of one row with the further columns of a Parquet file (default None, another source).
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    row: Any = None

    def fields(self) -> Fields:
        """Return texts, numbers and bytes by extension or column, without null columns."""
        fields: Fields = {name: parse_field(name, data) for name, data in self.files.items()}
        for name, value in row_values(self.row).items() if self.row is not None else ():
            is_json_text = name == "json" and isinstance(value, str)
            fields[name] = parse_field(name, value.encode()) if is_json_text else value
        return fields


class SampleReader:
    """Reads samples. The last file stays open, because samples usually come in the order of their files."""

    def __init__(self) -> None:
        self._url = ""
        self._stream: BinaryIO | None = None
        self._cursor: RowCursor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def read(self, sample: Sample) -> tuple[bytes, Extras]:
        """Return the bytes and the extras of a sample.

        Raises:
            ValueError: the sample has no image or `.sdt` file.
            OSError: a file cannot be read, or has changed since it was listed.
        """
        if sample.main is None:
            raise ValueError(sample.fault)
        if isinstance(sample.main, Row):
            return self._read_row(sample.main)
        files = {name: self._read_bytes(byte_range) for name, byte_range in sample.others}
        return self._read_bytes(sample.main), Extras(files)

    def _read_bytes(self, byte_range: ByteRange) -> bytes:
        if byte_range.offset and byte_range.nbytes is not None:
            stream = self._open(byte_range.url)
            stream.seek(byte_range.offset)
            data = stream.read(byte_range.nbytes)
        else:
            data = _read_file(byte_range.url)
        if byte_range.nbytes is not None and len(data) != byte_range.nbytes:
            url = printable(byte_range.url)
            raise OSError(f"{url} has changed: {len(data)} bytes, expected {byte_range.nbytes}")
        return data

    def _read_row(self, row: Row) -> tuple[bytes, Extras]:
        stream = self._open(row.url)
        if self._cursor is None:
            self._cursor = RowCursor(stream)
        data, further = self._cursor.read(row.group, row.row, row.column)
        return data, Extras(row=further)

    def _open(self, url: str) -> BinaryIO:
        if self._url != url:
            self.close()
            files, path = resolve_location(url)
            self._url, self._stream = url, files.open(path, "rb")
        assert self._stream is not None
        return self._stream

    def close(self) -> None:
        """Close the last file."""
        if self._stream is not None:
            self._stream.close()
        self._url, self._stream, self._cursor = "", None, None


def _read_file(url: str) -> bytes:
    """Return the bytes of a file; `ValueError` for a local pipe or device, because it may never end."""
    files, path = resolve_location(url)
    if isinstance(files, LocalFileSystem):
        mode = Path(path).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder gets the system's error below
            raise ValueError(f"{printable(url)} is a pipe or a device, expected a file")
    data: bytes = files.cat_file(path)
    return data
