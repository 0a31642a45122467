"""A loader of latents, for training."""

import io
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, Literal, Self

import numpy as np

from sdtrt import api
from sdtrt._arrays import F32Array
from sdtrt.dataset.reading import Fields, Reader
from sdtrt.dataset.sources import Sample, Wanted, samples_of
from sdtrt.engine.format.arguments import is_integer, value_text
from sdtrt.errors import DeviceError, ImageWarning
from sdtrt.latents.files import read_latents
from sdtrt.latents.npy import NPY
from sdtrt.process.text import error_text

LATENTS = Wanted(frozenset({"sdt", "npy"}), ("sdt", "npy"))
OnError = Literal["raise", "skip"]
Loaded = tuple[str, F32Array, Fields]


class Latents:
    """The latents of a dataset, of `.sdt` files or of what `sdtrt dataset latents` made of them.

    Iterating gives (key, latents, fields): float32 (C, h, w) at unit scale, and the other fields of the sample, such as
    a caption under `txt`. An index gives one sample, so this is a map-style dataset for PyTorch's `DataLoader`, too.
    """

    def __init__(self, source: str, *, part: tuple[int, int] = (0, 1), on_error: OnError = "raise") -> None:
        """Open a dataset.

        Arguments:
            source: a folder, a list of paths (`.txt`), tars or Parquet files, as `sdtrt dataset` takes them.
            part: (number, count): every count-th sample alone, for one of several loaders (default all).
            on_error: "raise" (default) raises the error of a sample that cannot be read, with a note of its key and its
                file; the next call of `next` goes on after it. "skip" gives an `ImageWarning` instead, and goes on.
                An index always raises.

        Raises `ValueError` if the dataset has no samples, or an argument is none of these.
        """
        if not isinstance(part, tuple | list) or len(part) != 2 or not all(map(is_integer, part)):
            raise TypeError(f"part is {value_text(part)}, expected (number, count)")
        number, count = part
        if not 0 <= number < count:
            raise ValueError(f"part is {value_text(part)}, expected a number from 0 to count - 1")
        self._samples: Sequence[Sample] = samples_of(str(source), LATENTS)[number::count]
        self._on_error = checked_on_error(on_error)
        self._readers = _Readers()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> "LatentsIterator":
        return LatentsIterator(self._samples, self._on_error)

    def __getitem__(self, number: int) -> Loaded:
        count = len(self._samples)
        if not -count <= index(number) < count:
            raise IndexError(f"sample {number} of {count}, counted from 0")
        return load(self._readers.reader(), self._samples[number])


class LatentsIterator(Iterator[Loaded]):
    """Goes through samples; after an error `next` goes on with the sample that follows."""

    def __init__(self, samples: Sequence[Sample], on_error: OnError) -> None:
        self._remaining, self._on_error = iter(samples), on_error
        self._reader = Reader()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Loaded:
        for sample in self._remaining:
            try:
                return load(self._reader, sample)
            except DeviceError:  # no sample could be read
                raise
            except Exception as error:
                if self._on_error == "raise":
                    raise
                warnings.warn(
                    f"sample {sample.key} of {sample.source} is skipped: {error_text(error)}",
                    ImageWarning,
                    stacklevel=2,
                )
        self._reader.close()
        raise StopIteration


class _Readers:
    """A reader for each thread of each process: a file that is open has one position for all who share it."""

    def __init__(self) -> None:
        self._local = threading.local()

    def reader(self) -> Reader:
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process, self._local.reader = os.getpid(), Reader()
        reader: Reader = self._local.reader
        return reader

    def __reduce__(self) -> tuple[Any, ...]:
        return _Readers, ()


def checked_on_error(on_error: OnError) -> OnError:
    if on_error not in {"raise", "skip"}:
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    return on_error


def load(reader: Reader, sample: Sample) -> Loaded:
    """Return the key, the latents and the fields of a sample; an error has a note of its key and its file."""
    try:
        data, extras = reader.read(sample)
        return sample.key, latents_of(data), extras.fields()
    except Exception as error:
        error.add_note(f"sample {sample.key!r} of {sample.source}")
        raise


def latents_of(data: bytes) -> F32Array:
    """Return the latents in an `.sdt` or `.npy` file, float32 (C, h, w)."""
    if data.startswith(NPY):
        return read_latents(io.BytesIO(data)).astype(np.float32)
    return api.decode_latents(data)
