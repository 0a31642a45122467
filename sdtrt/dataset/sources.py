"""Samples in folders, lists of URLs, WebDataset tars and Parquet files, in any location that fsspec opens."""

import codecs
import hashlib
import json
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsspec import available_protocols, filesystem, get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sdtrt.dataset import tables, tars
from sdtrt.process.text import error_text, printable

MANIFEST = "manifest.jsonl"
FORMAT = "sdtrt dataset, version 1"  # in the first line of a manifest
MAX_KEY_PART = 200  # bytes of a folder or file name in a key; a longer name is cut and ends in a hash


# The field names of the next three classes, and the default of `fault`, are hashed into shard fingerprints.
@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of bytes in a file.

    Arguments:
        url: the file, a path or a URL.
        offset: the first byte (default 0).
        nbytes: the number of bytes (default None, the whole file).
    """

    url: str
    offset: int = 0
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a Parquet file.

    Arguments:
        url: the file, a path or a URL.
        nbytes: the size of the file.
        group: the row group.
        row: the number of the row in the file.
        column: the column of the image's bytes, or a struct column with these bytes in its field `bytes`.
    """

    url: str
    nbytes: int
    group: int
    row: int
    column: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a dataset.

    Arguments:
        key: its name, unique in the dataset.
        main: its image or `.sdt` file, None if it has none.
        others: its other files, by extension (default none).
        fault: the reason why `main` is None.
    """

    key: str
    main: ByteRange | Row | None
    others: tuple[tuple[str, ByteRange], ...] = ()
    fault: str = "no file of this sample is one to work on"

    @property
    def source(self) -> str:
        """The file of the sample, and its byte offset or row in the file, as printable text."""
        origin = self.main or next((byte_range for _, byte_range in self.others), None)
        if origin is None:
            return ""
        if isinstance(origin, Row):
            position = f", row {origin.row}"
        else:
            position = f", byte {origin.offset}" if origin.offset else ""
        return f"{printable(origin.url)}{position}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The contents of a source.

    Arguments:
        samples: its samples.
        left_behind: the number of files that belong to no sample, by suffix.
    """

    samples: list[Sample]
    left_behind: Counter[str]


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """The files of a source that are the main file of a sample.

    Arguments:
        suffixes: suffixes of files in folders and tars.
        columns: columns of Parquet files; the first that exists is used.
    """

    suffixes: frozenset[str]
    columns: tuple[str, ...]


IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "ppm", "pgm", "jp2")
IMAGES = SampleFilter(frozenset(IMAGE_SUFFIXES), ("image", "img", *IMAGE_SUFFIXES, "bytes"))
SDT_FILES = SampleFilter(frozenset({"sdt"}), ("sdt",))
# In a folder, files with these suffixes belong to the image with the same stem.
TEXT_SUFFIXES = {"txt", "text", "caption", "captions", "tags", "json", "xml", "xmp", "yaml", "yml", "csv", "tsv"}
SIDECAR_SUFFIXES = TEXT_SUFFIXES | {"cls"}
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


def resolve_location(url: str) -> tuple[Any, str]:
    """Return the fsspec file system and the path of a location.

    A location without a scheme such as `s3://` is a path of this machine. No character of such a path is special. A
    folder whose name looks like a scheme is written with `./` before it.
    """
    if is_chained_url(url):
        files, path = url_to_fs(url)
        return files, path
    if not URL.match(url):
        return LocalFileSystem(), str(Path(url).absolute())
    protocol = url.partition("://")[0]
    file_system = get_filesystem_class(protocol)
    return filesystem(protocol, **file_system._get_kwargs_from_urls(url)), str(file_system._strip_protocol(url))


def is_same_location(first: str, second: str) -> bool:
    """Return whether two locations are the same; links and `..` in local paths are resolved."""
    (files, path), (other_files, other_path) = resolve_location(first), resolve_location(second)
    if isinstance(files, LocalFileSystem):
        path, other_path = os.path.realpath(path), os.path.realpath(other_path)
    return (files, path) == (other_files, other_path)


def is_chained_url(url: str) -> bool:
    """Return whether a location is a chained URL of fsspec, such as `zip://a.png::s3://bucket/b.zip`."""
    *outer, last = url.split("::")
    protocols = set(available_protocols()) if outer else set()
    return bool(outer and URL.match(last)) and all(URL.match(part) or part in protocols for part in outer)


def absolute_location(location: str) -> str:
    """Return a location that does not depend on the working directory."""
    return location if URL.match(location) or is_chained_url(location) else str(Path(location).absolute())


def list_samples(source: str, sample_filter: SampleFilter, *, dots: bool = True) -> list[Sample]:
    """Return the samples of `list_source`."""
    return list_source(source, sample_filter, dots=dots).samples


def list_source(source: str, sample_filter: SampleFilter, *, dots: bool = True) -> Listing:
    """List the samples of a source, ordered by name, with unique keys.

    Arguments:
        source: a folder; a list of paths or URLs (`.txt`, one a line); tar or Parquet files, also by a pattern such as
            `part-*.tar`; or the destination of an earlier run.
        sample_filter: the files to list.
        dots: whether keys may contain dots (default True).

    Raises:
        ValueError: the source is none of these, or has no samples.
    """
    files, path = resolve_location(source)
    left_behind: Counter[str] = Counter()
    if files.isdir(path):
        samples = _samples_of_manifest(files, path, sample_filter)
        if samples is None:
            samples = _samples_of_folder(files, path, sample_filter, left_behind)
    elif source.lower().endswith(".txt"):
        samples = _samples_of_list(files.cat_file(path))
    elif source.lower().endswith((".tar", ".parquet")):
        paths = _matching_paths(files, path)
        samples = [sample for name in paths for sample in _samples_of_file(files, name, sample_filter, left_behind)]
    else:
        raise ValueError(f"{printable(source)}: no folder, .txt, .tar or .parquet of that name")
    if not samples:
        suffixes = ", ".join(sorted(sample_filter.suffixes))
        raise ValueError(f"{printable(source)} has no samples; expected files with the suffixes {suffixes}")
    return Listing(with_unique_keys(samples, dots=dots), left_behind)


def _matching_paths(files: Any, path: str) -> list[str]:
    paths = [path] if files.exists(path) else sorted(files.glob(path))
    if not paths:
        raise ValueError(f"{printable(path)}: no file of that name")
    return paths


def _url(files: Any, path: str) -> str:
    return path if isinstance(files, LocalFileSystem) else str(files.unstrip_protocol(path))


def _samples_of_list(data: bytes) -> list[Sample]:
    """Return a sample for each line that is not empty. A line is a path or a URL, without comments or quotes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell writes lists in UTF-16
        data = data.decode("utf-16", "surrogatepass").encode("utf-8", "surrogatepass")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    urls = [os.fsdecode(line.removesuffix(b"\r")) for line in lines]
    return [Sample(without_suffix(URL.sub("", url, count=1)), ByteRange(absolute_location(url))) for url in urls if url]


def _samples_of_folder(files: Any, path: str, sample_filter: SampleFilter, left_behind: Counter[str]) -> list[Sample]:
    """Return a sample for each image at any depth, with its sidecars, then one for each folder that is unreadable."""
    errors: list[OSError] = []
    images: dict[str, ByteRange] = {}
    sidecars: dict[str, ByteRange] = {}
    is_local = isinstance(files, LocalFileSystem)
    for name, nbytes in sorted(_local_files(path, errors) if is_local else _remote_files(files, path)):
        relative = name.removeprefix(path).lstrip("/")
        suffix, byte_range = suffix_of(name), ByteRange(_url(files, name), nbytes=nbytes)
        if any(part.startswith(".") for part in relative.split("/")):
            left_behind["hidden"] += 1
        elif suffix in sample_filter.suffixes and nbytes is not None:
            images[relative] = byte_range
        elif suffix in SIDECAR_SUFFIXES and nbytes is not None:
            sidecars[relative] = byte_range
        else:
            left_behind[tars.suffix_label(name)] += 1
    others = _sidecars_by_stem(sidecars, {without_suffix(name) for name in images}, left_behind)
    stems = {name: without_suffix(name) for name in images}
    samples = [Sample(stems[name], image, tuple(others.get(stems[name], ()))) for name, image in images.items()]
    return samples + [Sample(f"unlisted-{n}", None, fault=error_text(error)) for n, error in enumerate(errors)]


def _local_files(path: str, errors: list[OSError]) -> Iterator[tuple[str, int | None]]:
    """Yield the files below a local folder and their sizes; links to folders are not followed.

    The size of a pipe, a device or a broken link is None, because opening a pipe may block for ever. Folders that
    cannot be listed are added to `errors`.
    """
    for folder, folders, names in os.walk(path, onerror=errors.append):
        for name in [*names, *(name for name in folders if Path(folder, name).is_symlink())]:
            full = posixpath.join(folder, name)
            try:
                status = Path(full).stat()
            except OSError:  # a broken link
                yield full, None
            else:
                yield full, status.st_size if stat.S_ISREG(status.st_mode) else None


def _remote_files(files: Any, path: str) -> Iterator[tuple[str, int | None]]:
    for name, info in files.find(path, detail=True).items():
        yield name, info["size"] if info["type"] == "file" else None


def _sidecars_by_stem(
    sidecars: dict[str, ByteRange], stems: set[str], left_behind: Counter[str]
) -> dict[str, list[tuple[str, ByteRange]]]:
    """Return sidecars by the longest stem that begins their name: `a.b.json` belongs to `a.b`, else to `a`."""
    by_stem: dict[str, list[tuple[str, ByteRange]]] = {}
    taken: set[str] = set()
    for name, byte_range in sidecars.items():
        folder, base = posixpath.split(name)
        dots = [index for index, character in enumerate(base) if character == "."]
        splits = [(posixpath.join(folder, base[:dot]), base[dot + 1 :]) for dot in reversed(dots)]
        stem, extension = next(((stem, extension) for stem, extension in splits if stem in stems), ("", ""))
        if extension:
            plain = extension.lower()
            # Another file may have that name: of this image in lower case, or of `a.b` beside `a`.
            while f"{stem}.{plain}" in taken or (plain != extension and f"{stem}.{plain}" in sidecars):
                plain = f"{plain}_"
            taken.add(f"{stem}.{plain}")
            by_stem.setdefault(stem, []).append((plain, byte_range))
        else:
            left_behind[tars.suffix_label(name)] += 1
    return by_stem


def _samples_of_manifest(files: Any, path: str, sample_filter: SampleFilter) -> list[Sample] | None:
    """Return the samples of an earlier run; None if it has no manifest, `ValueError` if its manifest is damaged."""
    try:
        head, *lines = files.cat_file(posixpath.join(path, MANIFEST)).decode().splitlines()
        if json.loads(head)["format"] != FORMAT:
            return None
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    try:
        return [sample for line in lines for sample in _samples_of_record(files, path, json.loads(line), sample_filter)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{printable(path)}: a damaged {MANIFEST}: {error!r}") from error


def _samples_of_record(files: Any, path: str, record: dict[str, Any], sample_filter: SampleFilter) -> Iterator[Sample]:
    """Yield the samples of a shard's record in a manifest."""
    parts_by_key: dict[str, dict[str, ByteRange]] = {}
    for file in record["files"]:
        name = posixpath.join(path, check_relative(file["name"]))
        if file["key"] is None:  # one file for the whole shard
            yield from _samples_of_file(files, name, sample_filter, Counter())
        else:
            byte_range = ByteRange(_url(files, name), nbytes=file["nbytes"])
            parts_by_key.setdefault(file["key"], {})[file["part"]] = byte_range
    for key, parts in parts_by_key.items():
        main = next((part for part in parts if part in sample_filter.suffixes), None)
        if main:
            others = tuple((part, byte_range) for part, byte_range in parts.items() if part != main)
            yield Sample(key, parts[main], others)


def check_relative(name: str) -> str:
    """Return a file name below a folder; `ValueError` if it leads out of the folder."""
    if {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} leads out of its folder")
    return name


def _samples_of_file(files: Any, path: str, sample_filter: SampleFilter, left_behind: Counter[str]) -> Iterator[Sample]:
    """Yield the samples of a tar or Parquet file; if it is damaged, a sample with the error comes last."""
    url, nbytes, stem = _url(files, path), files.size(path), stem_of(posixpath.basename(path))
    try:
        with files.open(path, "rb") as stream:
            if path.lower().endswith(".parquet"):
                for group, row, key, column in tables.list_rows(stream, sample_filter.columns):
                    yield Sample(key or f"{stem}-{row:09d}", Row(url, nbytes, group, row, column))
            else:
                for key, main, others in tars.list_tar_samples(stream, sample_filter.suffixes, left_behind):
                    ranges = tuple((name, ByteRange(url, *span)) for name, span in others)
                    yield Sample(key, ByteRange(url, *main) if main else None, ranges)
    except (OSError, ValueError, LookupError) as error:
        yield Sample(stem, None, fault=f"{printable(url)}: {error}")


def with_unique_keys(samples: Iterable[Sample], *, dots: bool) -> list[Sample]:
    """Return samples with safe and unique keys; the second of two equal keys gets the suffix `_2`, and so on."""
    counts: dict[str, int] = {}
    unique = []
    for sample in samples:
        plain = safe_key(sample.key if dots else sample.key.replace(".", "_"))
        key = plain
        while key in counts:
            counts[plain] += 1
            key = f"{plain}_{counts[plain]}"
        counts[key] = 1
        unique.append(replace(sample, key=key))
    return unique


def safe_key(name: str) -> str:
    """Return a relative path that stays below its folder, with names that every file system allows."""
    parts = [_safe_part(part) for part in re.split(r"[/\\]+", name) if part not in {"", "."}]
    return "/".join(parts) or "_"


def _safe_part(part: str) -> str:
    escaped = "".join(_escape_surrogate(character) for character in part)
    safe = shorten(re.sub(r"[\x00-\x1f\x7f]", "_", escaped).strip(".") or "_", MAX_KEY_PART)
    return f"{safe}_" if safe == stem_of(MANIFEST) else safe


def _escape_surrogate(character: str) -> str:
    """Return `%E9` for a byte that is not UTF-8, `_` for any other surrogate, and other characters unchanged."""
    if not "\ud800" <= character <= "\udfff":
        return character
    return f"%{ord(character) - 0xDC00:02X}" if "\udc80" <= character <= "\udcff" else "_"


def shorten(name: str, max_nbytes: int) -> str:
    """Return a name of at most `max_nbytes` bytes; the end of a longer name is replaced by a hash of the whole name."""
    data = name.encode()
    if len(data) <= max_nbytes:
        return name
    return f"{data[: max_nbytes - 17].decode(errors='ignore')}_{hashlib.sha256(data).hexdigest()[:16]}"


def suffix_of(name: str) -> str:
    return posixpath.splitext(name)[1].removeprefix(".").lower()


def without_suffix(name: str) -> str:
    return posixpath.splitext(name)[0]


def stem_of(name: str) -> str:
    """Return a name up to its first dot."""
    return name.partition(".")[0]
