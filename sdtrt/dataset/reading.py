"""What samples hold: the bytes of their image or `.sdt` file, and all else that the source has of them."""

import json
from types import TracebackType
from typing import Any, BinaryIO, Self

from fsspec.core import url_to_fs

from sdtrt.dataset.sources import Place, Row, Sample

TEXTS = {"txt", "text", "caption"}
Fields = dict[str, Any]  # by extension or column: bytes, text, numbers


class Reader:
    """Reads samples; the file and the row group that were read last stay open, since samples come in their order."""

    def __init__(self) -> None:
        self._url, self._stream = "", None
        self._group: tuple[str, int] | None = None
        self._rows: list[Fields] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def read(self, sample: Sample) -> tuple[bytes, Fields]:
        """Return the bytes and the other fields of a sample; `ValueError` if it has none, `OSError` if out of reach."""
        if sample.main is None:
            raise ValueError("the sample has no image")
        if isinstance(sample.main, Row):
            return self._row(sample.main)
        return self._bytes(sample.main), {name: value_of(name, self._bytes(place)) for name, place in sample.others}

    def _bytes(self, place: Place) -> bytes:
        if place.nbytes is None or place.offset == 0:
            files, path = url_to_fs(place.url)
            data: bytes = files.cat_file(path)
        else:
            stream = self._opened(place.url)
            stream.seek(place.offset)
            data = stream.read(place.nbytes)
        if place.nbytes is not None and len(data) != place.nbytes:
            raise OSError(f"{place.url} has changed: {len(data)} bytes where {place.nbytes} were")
        return data

    def _opened(self, url: str) -> BinaryIO:
        if self._url != url:
            self._close()
            files, path = url_to_fs(url)
            self._url, self._stream = url, files.open(path, "rb")
        assert self._stream is not None
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._url, self._stream = "", None

    def _row(self, row: Row) -> tuple[bytes, Fields]:
        from pyarrow import parquet

        if self._group != (row.url, row.group):
            files, path = url_to_fs(row.url)
            with files.open(path, "rb") as stream:
                self._rows = parquet.ParquetFile(stream).read_row_group(row.group).to_pylist()
            self._group = row.url, row.group
        fields = dict(self._rows[row.row])
        found = fields.pop(row.column)
        data = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(data, bytes):
            raise ValueError(f"column {row.column} holds no bytes here")
        return data, {name: value for name, value in fields.items() if value is not None}


def value_of(extension: str, data: bytes) -> Any:
    """Return what the bytes of a tar's member stand for: texts as texts, `.json` and `.cls` as what they say."""
    try:
        if extension in TEXTS:
            return data.decode()
        if extension == "json":
            return json.loads(data)
        if extension == "cls":
            return int(data)
    except ValueError:
        pass
    return data
