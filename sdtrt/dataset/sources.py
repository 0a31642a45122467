"""Samples in folders, lists of URLs, WebDataset tars and Parquet, anywhere that fsspec reaches."""

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
MAX_PART = 200  # bytes of a folder or name in a key; longer ones end in a hash


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
    fault: str = "no file of this sample is one to work on"

    @property
    def source(self) -> str:
        """Where the sample is, in words that can be printed: a file, and the byte or the row in it."""
        place = self.main or next((place for _, place in self.others), None)
        if place is None:
            return ""
        within = f", row {place.row}" if isinstance(place, Row) else f", byte {place.offset}" if place.offset else ""
        return f"{printable(place.url)}{within}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The samples of a source, and how many of its files belong to none of them, by suffix."""

    samples: list[Sample]
    left_behind: Counter[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: files of these suffixes, in Parquet the first of these columns."""

    suffixes: frozenset[str]
    columns: tuple[str, ...]


IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "ppm", "pgm", "jp2")
IMAGES = Wanted(frozenset(IMAGE_SUFFIXES), ("image", "img", *IMAGE_SUFFIXES, "bytes"))
SDT_FILES = Wanted(frozenset({"sdt"}), ("sdt",))
# Of files in folders, those that belong to the image of the same stem.
TEXT_SUFFIXES = {"txt", "text", "caption", "captions", "tags", "json", "xml", "xmp", "yaml", "yml", "csv", "tsv"}
SIDECAR_SUFFIXES = TEXT_SUFFIXES | {"cls"}
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


def located(url: str) -> tuple[Any, str]:
    """Return the file system and the path of a URL.

    What does not start with a scheme, as `s3://`, is a path of this machine, whole: no sign in it has a meaning. To
    name a folder that looks like a scheme, start with `./`.
    """
    if is_chain(url):
        files, path = url_to_fs(url)
        return files, path
    if not URL.match(url):
        return LocalFileSystem(), str(Path(url).absolute())
    protocol = url.partition("://")[0]
    kind = get_filesystem_class(protocol)
    return filesystem(protocol, **kind._get_kwargs_from_urls(url)), str(kind._strip_protocol(url))


def same_place(first: str, second: str) -> bool:
    """Return whether two URLs name one place; links and `..` in paths of this machine are followed."""
    (files, path), (others, other) = located(first), located(second)
    if isinstance(files, LocalFileSystem):
        path, other = os.path.realpath(path), os.path.realpath(other)
    return (files, path) == (others, other)


def is_chain(url: str) -> bool:
    """Return whether this is a URL of fsspec's with several parts, as `zip://a.png::s3://bucket/b.zip`."""
    *outer, last = url.split("::")
    known = set(available_protocols()) if outer else set()
    return bool(outer and URL.match(last)) and all(URL.match(part) or part in known for part in outer)


def absolute(location: str) -> str:
    """Return a location that means the same in any working directory."""
    return location if URL.match(location) or is_chain(location) else str(Path(location).absolute())


def samples_of(source: str, wanted: Wanted, *, dots: bool = True) -> list[Sample]:
    """Return the samples of `listing_of`."""
    return listing_of(source, wanted, dots=dots).samples


def listing_of(source: str, wanted: Wanted, *, dots: bool = True) -> Listing:
    """Return the samples of a source, in order of their names, each key once; without dots if there are to be none.

    `source` is a folder, a list of URLs (`.txt`, one a line), one or several tars or Parquet files (`part-*.tar`), or
    the destination of an earlier run. Raises `ValueError` if it is none of these, or has no samples.
    """
    files, path = located(source)
    left_behind: Counter[str] = Counter()
    if files.isdir(path):
        found = _of_manifest(files, path, wanted)
        found = _of_folder(files, path, wanted, left_behind) if found is None else found
    elif source.lower().endswith(".txt"):
        found = _of_list(files.cat_file(path))
    elif source.lower().endswith((".tar", ".parquet")):
        found = [sample for name in _matching(files, path) for sample in _of_file(files, name, wanted, left_behind)]
    else:
        raise ValueError(f"{printable(source)}: no folder, .txt, .tar or .parquet of that name")
    if not found:
        raise ValueError(f"{printable(source)} has no samples; looked for: {', '.join(sorted(wanted.suffixes))}")
    return Listing(with_keys_apart(found, dots=dots), left_behind)


def _matching(files: Any, path: str) -> list[str]:
    found = [path] if files.exists(path) else sorted(files.glob(path))
    if not found:
        raise ValueError(f"{printable(path)}: no file of that name")
    return found


def _url(files: Any, path: str) -> str:
    return path if isinstance(files, LocalFileSystem) else str(files.unstrip_protocol(path))


def _of_list(data: bytes) -> list[Sample]:
    """Return a sample for each line: a path or a URL, whole, whatever signs are in it. Empty lines are none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes lists
        data = data.decode("utf-16", "surrogatepass").encode("utf-8", "surrogatepass")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    urls = [os.fsdecode(line.removesuffix(b"\r")) for line in lines]
    return [Sample(without_suffix(URL.sub("", url, count=1)), Place(absolute(url))) for url in urls if url]


def _of_folder(files: Any, path: str, wanted: Wanted, left_behind: Counter[str]) -> list[Sample]:
    """Return a sample for each image, at any depth, with the sidecars beside it; at last what cannot be listed."""
    unlisted: list[OSError] = []
    images: dict[str, Place] = {}
    sidecars: dict[str, Place] = {}
    local = isinstance(files, LocalFileSystem)
    for name, nbytes in sorted(_files_here(path, unlisted) if local else _files_elsewhere(files, path)):
        below = name.removeprefix(path).lstrip("/")
        suffix, place = suffix_of(name), Place(_url(files, name), nbytes=nbytes)
        if any(part.startswith(".") for part in below.split("/")):
            left_behind["hidden"] += 1
        elif suffix in wanted.suffixes and nbytes is not None:
            images[below] = place
        elif suffix in SIDECAR_SUFFIXES and nbytes is not None:
            sidecars[below] = place
        else:
            left_behind[tars.suffix_label(name)] += 1
    others = _by_stem(sidecars, {without_suffix(name) for name in images}, left_behind)
    stems = {name: without_suffix(name) for name in images}
    samples = [Sample(stems[name], place, tuple(others.get(stems[name], ()))) for name, place in images.items()]
    return samples + [Sample(f"unlisted-{n}", None, fault=error_text(error)) for n, error in enumerate(unlisted)]


def _files_here(path: str, unlisted: list[OSError]) -> Iterator[tuple[str, int | None]]:
    """Yield files below a folder of this machine, and their sizes; links to folders are not followed.

    The size of what is no file is None: whoever opens a pipe may wait for ever. Folders that cannot be listed go to
    `unlisted`.
    """
    for folder, folders, names in os.walk(path, onerror=unlisted.append):
        for name in [*names, *(one for one in folders if Path(folder, one).is_symlink())]:
            full = posixpath.join(folder, name)
            try:
                about = Path(full).stat()
            except OSError:  # a link to nothing
                yield full, None
            else:
                yield full, about.st_size if stat.S_ISREG(about.st_mode) else None


def _files_elsewhere(files: Any, path: str) -> Iterator[tuple[str, int | None]]:
    for name, about in files.find(path, detail=True).items():
        yield name, about["size"] if about["type"] == "file" else None


def _by_stem(
    sidecars: dict[str, Place], stems: set[str], left_behind: Counter[str]
) -> dict[str, list[tuple[str, Place]]]:
    """Return sidecars by the longest stem that their names start with; `a.b.json` belongs to `a.b`, else to `a`."""
    found: dict[str, list[tuple[str, Place]]] = {}
    taken: set[str] = set()
    for name, place in sidecars.items():
        folder, base = posixpath.split(name)
        dots = [at for at, sign in enumerate(base) if sign == "."]
        cuts = [(posixpath.join(folder, base[:at]), base[at + 1 :]) for at in reversed(dots)]
        stem, part = next(((stem, part) for stem, part in cuts if stem in stems), ("", ""))
        if part:
            plain = part.lower()
            while f"{stem}.{plain}" in taken or (plain != part and f"{stem}.{plain}" in sidecars):
                plain = f"{plain}_"  # another file has that name, of this image, or of `a.b` beside `a`
            taken.add(f"{stem}.{plain}")
            found.setdefault(stem, []).append((plain, place))
        else:
            left_behind[tars.suffix_label(name)] += 1
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
        raise ValueError(f"{printable(path)}: a damaged {MANIFEST}: {error!r}") from error


def _of_shard(files: Any, path: str, record: dict[str, Any], wanted: Wanted) -> Iterator[Sample]:
    parts: dict[str, dict[str, Place]] = {}
    for about in record["files"]:
        name = posixpath.join(path, below(about["name"]))
        if about["key"] is None:  # a file for all of the shard
            yield from _of_file(files, name, wanted, Counter())
        else:
            parts.setdefault(about["key"], {})[about["part"]] = Place(_url(files, name), nbytes=about["nbytes"])
    for key, found in parts.items():
        main = next((part for part in found if part in wanted.suffixes), None)
        if main:
            yield Sample(key, found[main], tuple((part, place) for part, place in found.items() if part != main))


def below(name: str) -> str:
    """Return the name of a file below a folder; `ValueError` if it leads elsewhere."""
    if {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} leads elsewhere")
    return name


def _of_file(files: Any, path: str, wanted: Wanted, left_behind: Counter[str]) -> Iterator[Sample]:
    """Yield the samples of a tar or Parquet file, at last what is wrong with it."""
    url, nbytes, stem = _url(files, path), files.size(path), stem_of(posixpath.basename(path))
    try:
        with files.open(path, "rb") as stream:
            if path.lower().endswith(".parquet"):
                for group, row, key, column in tables.rows(stream, wanted.columns):
                    yield Sample(key or f"{stem}-{row:09d}", Row(url, nbytes, group, row, column))
            else:
                for key, main, others in tars.samples(stream, wanted.suffixes, left_behind):
                    places = tuple((name, Place(url, *where)) for name, where in others)
                    yield Sample(key, Place(url, *main) if main else None, places)
    except (OSError, ValueError, LookupError) as error:
        yield Sample(stem, None, fault=f"{printable(url)}: {error}")


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
    named = "".join(_named(sign) for sign in part)
    kept = shortened(re.sub(r"[\x00-\x1f\x7f]", "_", named).strip(".") or "_", MAX_PART)
    return f"{kept}_" if kept == stem_of(MANIFEST) else kept


def _named(sign: str) -> str:
    """Return a sign as it is in keys: a byte that is not UTF-8 becomes `%E9`, any other surrogate `_`."""
    if not "\ud800" <= sign <= "\udfff":
        return sign
    return f"%{ord(sign) - 0xDC00:02X}" if "\udc80" <= sign <= "\udcff" else "_"


def shortened(name: str, longest: int) -> str:
    """Return a name of at most so many bytes; the end of a longer name becomes a hash of all of it."""
    data = name.encode()
    if len(data) <= longest:
        return name
    return f"{data[: longest - 17].decode(errors='ignore')}_{hashlib.sha256(data).hexdigest()[:16]}"


def suffix_of(name: str) -> str:
    return posixpath.splitext(name)[1].removeprefix(".").lower()


def without_suffix(name: str) -> str:
    return posixpath.splitext(name)[0]


def stem_of(name: str) -> str:
    """Return a name up to its first dot."""
    return name.partition(".")[0]
