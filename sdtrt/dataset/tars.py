"""Tars as WebDataset has them: files of one name up to its first dot are a sample."""

import io
import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import BinaryIO

from sdtrt.process.text import printable

Where = tuple[int, int]  # offset and bytes
Found = tuple[str, Where | None, tuple[tuple[str, Where], ...]]


def samples(stream: BinaryIO, suffixes: Collection[str], left_behind: Counter[str]) -> Iterator[Found]:
    """Yield the samples of a tar: name, where the first file of these suffixes lies, and where others do, by extension.

    Raises `ValueError` at what is broken, or breaks off; what comes before is yielded. What belongs to no sample is
    counted in `left_behind`, by suffix. A name that comes again begins another sample.
    """
    for stem, group in groupby(_members(stream, left_behind), key=lambda member: member[0]):
        parts: dict[str, Where] = {}
        names: set[str] = set()
        for _, extension, where in group:
            if extension in names:
                yield _sample(stem, parts, suffixes)
                parts, names = {}, set()
            names.add(extension)
            parts[_spelling(extension, parts)] = where
        yield _sample(stem, parts, suffixes)


def _sample(stem: str, parts: dict[str, Where], suffixes: Collection[str]) -> Found:
    plain = [part for part in parts if part in suffixes]
    longer = [part for part in parts if part.rpartition(".")[2] in suffixes]  # seg.png, if there is no png
    main = next(iter(plain + longer), None)
    others = tuple((part, where) for part, where in parts.items() if part != main)
    return stem, parts[main] if main else None, others


def _spelling(extension: str, taken: Collection[str]) -> str:
    """Return an extension in lower case, or as it is or with `_` if another file has it."""
    spelling = extension if extension.lower() in taken else extension.lower()
    while spelling in taken:
        spelling = f"{spelling}_"
    return spelling


def _members(stream: BinaryIO, left_behind: Counter[str]) -> Iterator[tuple[str, str, Where]]:
    """Yield files: name up to the first dot of its last part, the rest, and where it lies."""
    places: dict[str, Where] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if member.isreg() and not member.issparse():
                    places[name] = member.offset_data, member.size
                elif member.islnk() and posixpath.normpath(member.linkname) in places:
                    places[name] = places[posixpath.normpath(member.linkname)]
                elif member.isdir():
                    continue
                folder, base = posixpath.split(name)
                stem, dot, extension = base.partition(".")
                if stem and dot and name in places:
                    yield posixpath.join(folder, stem), extension, places[name]
                else:
                    left_behind[suffix_label(base) if stem else "hidden"] += 1
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(f"no plain tar: {error}") from error
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a broken header for the end
        raise ValueError(f"a tar that is damaged, or breaks off, at byte {end}")


def suffix_label(name: str) -> str:
    """Return the suffix of a file in lower case, without its dot, as it is printed; "none" without one."""
    return printable(posixpath.splitext(name)[1][1:].lower()) or "none"


def packed(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return files by name as a tar, whose bytes depend on nothing else."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return stream.getvalue()


def value_of(extension: str, data: bytes) -> object:
    """Return what a file beside an image stands for: texts as texts, `.json` and `.cls` as what they say."""
    try:
        if extension in {"txt", "text", "caption"}:
            return data.decode()
        if extension == "json":
            return json.loads(data)
        if extension == "cls":
            return int(data)
    except (ValueError, RecursionError):
        pass
    return data
