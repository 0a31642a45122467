"""What samples hold: the bytes of their image or `.sdt` file, and all else that the source has of them."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from fsspec.implementations.local import LocalFileSystem

from sdtrt.dataset.sources import Place, Row, Sample, located
from sdtrt.dataset.tables import Cursor, values_of
from sdtrt.dataset.tars import value_of
from sdtrt.process.text import printable

Fields = dict[str, Any]  # by extension or column: bytes, text, numbers


@dataclass(frozen=True, slots=True)
class Extras:
    """What a source has beside the image or `.sdt` file of a sample, unchanged.

    Arguments:
        files: the bytes of other files, by extension.
        row: a table of one row (`pyarrow.Table`) with the further columns of a Parquet file, None elsewhere.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    row: Any = None

    def fields(self) -> Fields:
        """Return texts, numbers and bytes by extension or column; columns that are null are left out."""
        found: Fields = {name: value_of(name, data) for name, data in self.files.items()}
        for name, value in values_of(self.row).items() if self.row is not None else ():
            found[name] = value_of(name, value.encode()) if name == "json" and isinstance(value, str) else value
        return found


class Reader:
    """Reads samples; the file that was read last stays open, since samples come in their order."""

    def __init__(self) -> None:
        self._url = ""
        self._stream: BinaryIO | None = None
        self._cursor: Cursor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def read(self, sample: Sample) -> tuple[bytes, Extras]:
        """Return the bytes and the extras of a sample; `ValueError` if it has none, `OSError` if out of reach."""
        if sample.main is None:
            raise ValueError(sample.fault)
        if isinstance(sample.main, Row):
            return self._row(sample.main)
        return self._bytes(sample.main), Extras({name: self._bytes(place) for name, place in sample.others})

    def _bytes(self, place: Place) -> bytes:
        if place.offset and place.nbytes is not None:
            stream = self._opened(place.url)
            stream.seek(place.offset)
            data = stream.read(place.nbytes)
        else:
            data = _whole_file(place.url)
        if place.nbytes is not None and len(data) != place.nbytes:
            raise OSError(f"{printable(place.url)} has changed: {len(data)} bytes where {place.nbytes} were")
        return data

    def _row(self, row: Row) -> tuple[bytes, Extras]:
        stream = self._opened(row.url)
        if self._cursor is None:
            self._cursor = Cursor(stream)
        data, further = self._cursor.row(row.group, row.row, row.column)
        return data, Extras(row=further)

    def _opened(self, url: str) -> BinaryIO:
        if self._url != url:
            self.close()
            files, path = located(url)
            self._url, self._stream = url, files.open(path, "rb")
        assert self._stream is not None
        return self._stream

    def close(self) -> None:
        """Close the file that was read last."""
        if self._stream is not None:
            self._stream.close()
        self._url, self._stream, self._cursor = "", None, None


def _whole_file(url: str) -> bytes:
    """Return the bytes of a file; `ValueError` for a pipe or device of this machine, which may have no end."""
    files, path = located(url)
    if isinstance(files, LocalFileSystem):
        mode = Path(path).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # the error of a folder is the system's
            raise ValueError(f"{printable(url)} is a pipe or a device, expected a file")
    data: bytes = files.cat_file(path)
    return data
