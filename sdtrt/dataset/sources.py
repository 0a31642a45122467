"""Samples in folders, lists of URLs, WebDataset tars and Parquet, anywhere that fsspec reaches."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sdtrt.dataset import tables, tars
from sdtrt.process.environment import expanded

MANIFEST = "manifest.jsonl"
FORMAT = "sdtrt dataset, version 1"  # in the first line of a manifest
LONGEST_PART = 200  # bytes of a folder or name in a key; longer ones end in a hash


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: `nbytes` bytes of a file from `offset`, the whole file if that is None."""

    url: str
    offset: int = 0
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a Parquet file of `nbytes`; the bytes are in `column`, or in a field of that name, `bytes`."""

    url: str
    nbytes: int
    group: int
    row: int
    column: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A key, where its image or `.sdt` file is, and what else there is, by extension.

    There is no `main` where `fault` says what is wrong.
    """

    key: str
    main: Place | Row | None
    others: tuple[tuple[str, Place], ...] = ()
    fault: str = "it has no image"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: files of these suffixes, in Parquet the first of these columns."""

    suffixes: frozenset[str]
    columns: tuple[str, ...]


IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "ppm", "pgm", "jp2")
IMAGES = Wanted(frozenset(IMAGE_SUFFIXES), ("image", "img", *IMAGE_SUFFIXES, "bytes"))
SDT_FILES = Wanted(frozenset({"sdt"}), ("sdt",))


def located(url: str) -> tuple[Any, str]:
    """Return the file system and the path of a URL; what has no scheme is a path of this machine."""
    if "://" not in url:
        return LocalFileSystem(), str(expanded(url).absolute())
    files, path = url_to_fs(url)
    return files, path


def samples_of(source: str, wanted: Wanted, *, dots: bool = True) -> list[Sample]:
    """Return the samples of a source, in order of their names, each key once; without dots if there are to be none.

    `source` is a folder, a list of URLs (`.txt`, one a line), one or several tars or Parquet files (`part-*.tar`), or
    the destination of an earlier run. Raises `ValueError` if it is none of these, or has no samples.
    """
    files, path = located(source)
    if files.isdir(path):
        found = _of_manifest(files, path, wanted)
        found = _of_folder(files, path, wanted) if found is None else found
    elif source.endswith(".txt"):
        found = _of_list(files.cat_file(path).decode("utf-8-sig"))
    elif source.endswith((".tar", ".parquet")):
        found = [sample for name in _matching(files, path) for sample in _of_file(files, name, wanted)]
    else:
        raise ValueError(f"{source}: no folder, .txt, .tar or .parquet of that name")
    if not found:
        raise ValueError(f"{source} has no samples; looked for: {', '.join(sorted(wanted.suffixes))}")
    return with_keys_apart(found, dots=dots)


def _matching(files: Any, path: str) -> list[str]:
    found = [path] if files.exists(path) else sorted(files.glob(path))
    if not found:
        raise ValueError(f"{path}: no file of that name")
    return found


def _url(files: Any, path: str) -> str:
    return path if isinstance(files, LocalFileSystem) else str(files.unstrip_protocol(path))


def _of_list(text: str) -> list[Sample]:
    urls = [line.partition(" #")[0].strip() for line in text.splitlines() if not line.startswith("#")]
    return [Sample(without_suffix(url.partition("://")[2] or url), Place(url)) for url in urls if url]


def _of_folder(files: Any, path: str, wanted: Wanted) -> list[Sample]:
    found = []
    for name, about in sorted(files.find(path, detail=True).items()):
        below = name.removeprefix(path).lstrip("/")
        if suffix_of(name) in wanted.suffixes and not any(part.startswith(".") for part in below.split("/")):
            found.append(Sample(without_suffix(below), Place(_url(files, name), nbytes=about["size"])))
    return found


def _of_manifest(files: Any, path: str, wanted: Wanted) -> list[Sample] | None:
    """Return the samples of an earlier run, None if there is no manifest of one; `ValueError` if that is damaged."""
    try:
        head, *lines = files.cat_file(posixpath.join(path, MANIFEST)).decode().splitlines()
        if json.loads(head)["format"] != FORMAT:
            return None
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    try:
        return [sample for line in lines for sample in _of_shard(files, path, json.loads(line), wanted)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: a damaged {MANIFEST}: {error!r}") from error


def _of_shard(files: Any, path: str, record: dict[str, Any], wanted: Wanted) -> Iterator[Sample]:
    parts: dict[str, dict[str, Place]] = {}
    for about in record["files"]:
        if {"", ".", ".."} & set(about["name"].split("/")):
            raise ValueError(f"{about['name']!r} leads elsewhere")
        name = posixpath.join(path, about["name"])
        if about["key"] is None:  # a file for all of the shard
            yield from _of_file(files, name, wanted)
        else:
            parts.setdefault(about["key"], {})[about["part"]] = Place(_url(files, name), nbytes=about["nbytes"])
    for key, found in parts.items():
        main = next((part for part in found if part in wanted.suffixes), None)
        if main:
            yield Sample(key, found[main], tuple((part, place) for part, place in found.items() if part != main))


def _of_file(files: Any, path: str, wanted: Wanted) -> Iterator[Sample]:
    """Yield the samples of a tar or Parquet file, at last what is wrong with it."""
    url, nbytes = _url(files, path), files.size(path)
    try:
        with files.open(path, "rb") as stream:
            if path.endswith(".parquet"):
                for group, row, key, column in tables.rows(stream, wanted.columns):
                    yield Sample(
                        key or f"{stem_of(posixpath.basename(path))}-{row:09d}", Row(url, nbytes, group, row, column)
                    )
            else:
                for key, main, others in tars.samples(stream, wanted.suffixes):
                    places = tuple((name, Place(url, *where)) for name, where in others)
                    yield Sample(key, Place(url, *main) if main else None, places)
    except (OSError, ValueError, LookupError) as error:
        yield Sample(stem_of(posixpath.basename(path)), None, fault=f"{url}: {error}")


def with_keys_apart(samples: Iterable[Sample], *, dots: bool) -> list[Sample]:
    """Return samples whose keys are safe, and differ: of those that share one the second gets `_2`, and so on."""
    taken: dict[str, int] = {}
    found = []
    for sample in samples:
        plain = safe(sample.key if dots else sample.key.replace(".", "_"))
        key = plain
        while key in taken:
            taken[plain] += 1
            key = f"{plain}_{taken[plain]}"
        taken[key] = 1
        found.append(replace(sample, key=key))
    return found


def safe(name: str) -> str:
    """Return a name that leads nowhere but below the folder that it is put in, and that every disk takes."""
    parts = [_safe_part(part) for part in re.split(r"[/\\]+", name) if part not in {"", "."}]
    return "/".join(parts) or "_"


def _safe_part(part: str) -> str:
    kept = re.sub(r"[\x00-\x1f\x7f]", "_", part.encode("utf-8", "replace").decode()).strip(".") or "_"
    if len(kept.encode()) > LONGEST_PART:
        digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kept = f"{kept.encode()[: LONGEST_PART - 17].decode(errors='ignore')}_{digest}"
    return f"{kept}_" if kept == stem_of(MANIFEST) else kept


def suffix_of(name: str) -> str:
    return posixpath.splitext(name)[1].removeprefix(".").lower()


def without_suffix(name: str) -> str:
    return posixpath.splitext(name)[0]


def stem_of(name: str) -> str:
    """Return a name up to its first dot."""
    return name.partition(".")[0]
