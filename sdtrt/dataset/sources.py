"""Samples in folders, lists of URLs, WebDataset tars and Parquet, anywhere that fsspec reaches."""

import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, groupby
from typing import Any

from fsspec.core import url_to_fs

MANIFEST = "manifest.jsonl"
IMAGE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "ppm", "pgm", "jp2"})
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")
KEY_COLUMNS = ("key", "__key__")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: `nbytes` bytes of a file from `offset`, the whole file if that is None."""

    url: str
    offset: int = 0
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a Parquet file; the bytes are in `column`, or in a field of that name, `bytes`."""

    url: str
    group: int
    row: int
    column: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A key, where its image or `.sdt` file is (None if it has none), and what else there is, by extension."""

    key: str
    main: Place | Row | None
    others: tuple[tuple[str, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: files of these suffixes, in Parquet the first of these columns."""

    suffixes: frozenset[str]
    columns: tuple[str, ...]


IMAGES = Wanted(IMAGE_SUFFIXES, IMAGE_COLUMNS)
SDT_FILES = Wanted(frozenset({"sdt"}), ("sdt",))


def samples_of(source: str, wanted: Wanted) -> list[Sample]:
    """Return the samples of a source, in order of their names, each key once.

    `source` is a folder, a list of URLs (`.txt`, one a line), one or several tars or Parquet files (`part-*.tar`), or
    the destination of an earlier run. Raises `ValueError` if it is none of these, or has no samples.
    """
    files, path = url_to_fs(source)
    if source.endswith(".txt"):
        found = _of_list(files.cat_file(path).decode(), wanted)
    elif source.endswith(".tar"):
        found = [sample for url in _matching(files, path) for sample in _of_tar(url, wanted)]
    elif source.endswith(".parquet"):
        found = [sample for url in _matching(files, path) for sample in _of_parquet(url, wanted)]
    elif files.isdir(path):
        found = _of_folder(files, path, wanted)
    else:
        raise ValueError(f"{source}: no folder, .txt, .tar or .parquet of that name")
    if not found:
        raise ValueError(f"{source} has no samples; looked for: {', '.join(sorted(wanted.suffixes))}")
    return _with_keys_apart(found)


def _matching(files: Any, path: str) -> list[str]:
    found = sorted(files.glob(path))
    if not found:
        raise ValueError(f"{path}: no file of that name")
    return [files.unstrip_protocol(one) for one in found]


def _of_list(text: str, wanted: Wanted) -> list[Sample]:
    urls = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Sample(_key(url.partition("://")[2] or url), Place(url)) for url in urls]


def _of_folder(files: Any, path: str, wanted: Wanted) -> list[Sample]:
    manifest = posixpath.join(path, MANIFEST)
    if files.exists(manifest):
        return _of_manifest(files, path, files.cat_file(manifest).decode(), wanted)
    found = []
    for name, about in sorted(files.find(path, detail=True).items()):
        below = posixpath.relpath(name, path)
        if _suffix(name) in wanted.suffixes and not any(part.startswith(".") for part in below.split("/")):
            found.append(Sample(_key(below), Place(files.unstrip_protocol(name), nbytes=about["size"])))
    return found


def _of_manifest(files: Any, path: str, text: str, wanted: Wanted) -> list[Sample]:
    """Return the samples of an earlier run's files."""
    found: list[Sample] = []
    for line in text.splitlines()[1:]:
        for about in json.loads(line)["files"]:
            url = files.unstrip_protocol(posixpath.join(path, about["name"]))
            suffix = _suffix(about["name"])
            if suffix == "tar":
                found += _of_tar(url, wanted)
            elif suffix == "parquet":
                found += _of_parquet(url, wanted)
            elif suffix in wanted.suffixes:
                found.append(Sample(_key(about["name"]), Place(url, nbytes=about["nbytes"])))
    return found


def _of_tar(url: str, wanted: Wanted) -> Iterator[Sample]:
    """Yield the samples of a tar as WebDataset has them: neighbours of one name up to its first dot."""
    files, path = url_to_fs(url)
    with files.open(path, "rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                members = [(m.name, Place(url, m.offset_data, m.size)) for m in archive if m.isfile()]
        except tarfile.TarError as error:
            raise ValueError(f"{url} is no plain tar: {error}") from error
    for stem, group in groupby(members, key=lambda member: _stem(member[0])):
        parts = {name[len(stem) + 1 :].lower(): place for name, place in group}
        main = next((extension for extension in parts if _suffix(extension) in wanted.suffixes), None)
        others = tuple((extension, place) for extension, place in parts.items() if extension != main)
        yield Sample(_safe(stem), parts[main] if main else None, others)


def _of_parquet(url: str, wanted: Wanted) -> Iterator[Sample]:
    from pyarrow import ArrowInvalid, parquet

    files, path = url_to_fs(url)
    with files.open(path, "rb") as stream:
        try:
            table = parquet.ParquetFile(stream)
        except ArrowInvalid as error:
            raise ValueError(f"{url} is no Parquet file: {error}") from error
        names = table.schema_arrow.names
        column = next((name for name in wanted.columns if name in names), None)
        if column is None:
            raise ValueError(f"{url} has no column {' or '.join(wanted.columns)}; it has {', '.join(names)}")
        key = next((name for name in KEY_COLUMNS if name in names), None)
        number = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            keys = table.read_row_group(group, [key])[key].to_pylist() if key else [None] * rows
            for row, said in enumerate(keys):
                made_up = f"{_stem(posixpath.basename(path))}-{number:09d}"
                yield Sample(_safe(str(said)) if said is not None else made_up, Row(url, group, row, column))
                number += 1


def _with_keys_apart(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples whose keys differ: of those that share one the second gets `_2`, and so on."""
    taken: set[str] = set()
    found = []
    for sample in samples:
        key = next(key for key in _numbered(sample.key) if key not in taken)
        taken.add(key)
        found.append(sample if key == sample.key else replace(sample, key=key))
    return found


def _numbered(key: str) -> Iterator[str]:
    yield key
    yield from (f"{key}_{number}" for number in count(2))


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].removeprefix(".").lower() or name.lower()


def _stem(name: str) -> str:
    """Return a name up to the first dot of its last part."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])


def _key(name: str) -> str:
    return _safe(posixpath.splitext(name)[0])


def _safe(name: str) -> str:
    """Return a name that leads nowhere but below the folder that it is put in."""
    parts = [part.strip(".\0") or "_" for part in name.replace("\\", "/").split("/") if part]
    return "/".join(parts) or "_"
