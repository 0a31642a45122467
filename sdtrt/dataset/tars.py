"""Tars in the WebDataset layout: files with the same name up to the first dot form a sample."""

import io
import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import BinaryIO

from sdtrt.process.text import printable

ByteSpan = tuple[int, int]  # offset and number of bytes
TarSample = tuple[str, ByteSpan | None, tuple[tuple[str, ByteSpan], ...]]  # key, main file, others by extension


def list_tar_samples(stream: BinaryIO, suffixes: Collection[str], left_behind: Counter[str]) -> Iterator[TarSample]:
    """Yield the samples of a tar. A name that occurs again begins another sample.

    Arguments:
        stream: the tar.
        suffixes: suffixes of main files. The first file of a sample with one of them is its main file.
        left_behind: counts the files that belong to no sample, by suffix.

    Raises:
        ValueError: the tar is damaged or truncated. The samples before the damage are yielded first.
    """
    for stem, group in groupby(_members(stream, left_behind), key=lambda member: member[0]):
        parts: dict[str, ByteSpan] = {}
        extensions: set[str] = set()
        for _, extension, span in group:
            if extension in extensions:
                yield _make_sample(stem, parts, suffixes)
                parts, extensions = {}, set()
            extensions.add(extension)
            parts[_unique_extension(extension, parts)] = span
        yield _make_sample(stem, parts, suffixes)


def _make_sample(stem: str, parts: dict[str, ByteSpan], suffixes: Collection[str]) -> TarSample:
    exact = [part for part in parts if part in suffixes]
    compound = [part for part in parts if part.rpartition(".")[2] in suffixes]  # seg.png, if there is no png
    main = next(iter(exact + compound), None)
    others = tuple((part, span) for part, span in parts.items() if part != main)
    return stem, parts[main] if main else None, others


def _unique_extension(extension: str, taken: Collection[str]) -> str:
    """Return an extension in lower case; if another file has it, its original spelling, then with `_` appended."""
    unique = extension if extension.lower() in taken else extension.lower()
    while unique in taken:
        unique = f"{unique}_"
    return unique


def _members(stream: BinaryIO, left_behind: Counter[str]) -> Iterator[tuple[str, str, ByteSpan]]:
    """Yield files as (path up to the first dot of the file name, extension, byte span)."""
    spans: dict[str, ByteSpan] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if member.isreg() and not member.issparse():
                    spans[name] = member.offset_data, member.size
                elif member.islnk() and posixpath.normpath(member.linkname) in spans:
                    spans[name] = spans[posixpath.normpath(member.linkname)]
                elif member.isdir():
                    continue
                folder, base = posixpath.split(name)
                stem, dot, extension = base.partition(".")
                if stem and dot and name in spans:
                    yield posixpath.join(folder, stem), extension, spans[name]
                else:
                    left_behind[suffix_label(base) if stem else "hidden"] += 1
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(f"not an uncompressed tar: {error}") from error
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a broken header for the end
        raise ValueError(f"the tar is damaged or truncated at byte {end}")


def suffix_label(name: str) -> str:
    """Return the suffix of a file in lower case, without its dot, as printable text; "none" without a suffix."""
    return printable(posixpath.splitext(name)[1][1:].lower()) or "none"


def to_tar(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a tar of (name, bytes). Equal files give equal bytes: times and owners are not stored."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def parse_field(extension: str, data: bytes) -> object:
    """Return the value of a file beside an image: text as str, `.json` parsed, `.cls` as int, else the bytes."""
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
