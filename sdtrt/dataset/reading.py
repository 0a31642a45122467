"""What samples hold: the bytes of their image or `.sdt` file, and all else that the source has of them."""

from typing import Any, BinaryIO, Self

from sdtrt.dataset.sources import Place, Row, Sample, located
from sdtrt.dataset.tables import KEYS, Cursor
from sdtrt.dataset.tars import value_of

Fields = dict[str, Any]  # by extension or column: bytes, text, numbers


class Reader:
    """Reads samples; the file that was read last stays open, since samples come in their order."""

    def __init__(self) -> None:
        self._url = ""
        self._stream: BinaryIO | None = None
        self._cursor: Cursor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def read(self, sample: Sample) -> tuple[bytes, Fields]:
        """Return the bytes and the other fields of a sample; `ValueError` if it has none, `OSError` if out of reach."""
        if sample.main is None:
            raise ValueError(sample.fault)
        if isinstance(sample.main, Row):
            return self._row(sample.main)
        return self._bytes(sample.main), {name: value_of(name, self._bytes(place)) for name, place in sample.others}

    def _bytes(self, place: Place) -> bytes:
        if place.offset and place.nbytes is not None:
            stream = self._opened(place.url)
            stream.seek(place.offset)
            data = stream.read(place.nbytes)
        else:
            files, path = located(place.url)
            data = files.cat_file(path)
        if place.nbytes is not None and len(data) != place.nbytes:
            raise OSError(f"{place.url} has changed: {len(data)} bytes where {place.nbytes} were")
        return data

    def _row(self, row: Row) -> tuple[bytes, Fields]:
        stream = self._opened(row.url)
        if self._cursor is None:
            self._cursor = Cursor(stream)
        fields = dict(self._cursor.row(row.group, row.row))
        found = fields.pop(row.column)
        data = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(data, bytes):
            raise ValueError(f"column {row.column} holds no bytes here")
        return data, {name: value for name, value in fields.items() if value is not None and name not in KEYS}

    def _opened(self, url: str) -> BinaryIO:
        if self._url != url:
            self._close()
            files, path = located(url)
            self._url, self._stream = url, files.open(path, "rb")
        assert self._stream is not None
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._url, self._stream, self._cursor = "", None, None
