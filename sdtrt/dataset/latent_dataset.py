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
from sdtrt.dataset.reading import Fields, SampleReader
from sdtrt.dataset.sources import Sample, SampleFilter, list_samples
from sdtrt.engine.format.arguments import is_integer, value_text
from sdtrt.errors import DeviceError, ImageWarning
from sdtrt.latents.files import read_latents
from sdtrt.latents.npy import NPY
from sdtrt.process.text import error_text

LATENT_FILES = SampleFilter(frozenset({"sdt", "npy"}), ("sdt", "npy"))
OnError = Literal["raise", "skip"]
LoadedSample = tuple[str, F32Array, Fields]  # key, latents, fields


class LatentDataset:
    """The latents of a dataset: of `.sdt` files, or of the results of `sdtrt dataset latents`.

    Iteration yields (key, latents, fields). `key` is the name of the sample. `latents` is float32 (C, h, w) at unit
    scale. `fields` has the further fields of the sample, such as a caption under `txt`. An index returns one sample,
    so the class is also a map-style dataset for PyTorch's `DataLoader`.

    Example:
        for key, latents, fields in LatentDataset("packed/"):
            caption = fields.get("txt")
    """

    def __init__(self, source: str, *, part: tuple[int, int] = (0, 1), on_error: OnError = "raise") -> None:
        """Open a dataset.

        Arguments:
            source: str, a folder, a list of paths (`.txt`), tars or Parquet files, as for `sdtrt dataset`.
            part: (number, count), two ints. Only every `count`-th sample is loaded, from sample `number` on, which
                splits a dataset among several loaders (default all samples).
            on_error: "raise" (default) or "skip". "raise" raises the error of a sample that cannot be read, with a note
                of its key and its file; the next call of `next` continues with the sample after it. "skip" gives an
                `ImageWarning` instead. An index always raises.

        Raises:
            ValueError: the dataset has no samples, or an argument is out of range.
            TypeError: `part` is not a pair of ints.
        """
        if not isinstance(part, tuple | list) or len(part) != 2 or not all(map(is_integer, part)):
            raise TypeError(f"part is {value_text(part)}, expected (number, count)")
        number, count = part
        if not 0 <= number < count:
            raise ValueError(f"part is {value_text(part)}, expected a number from 0 to count - 1")
        self._samples: Sequence[Sample] = list_samples(str(source), LATENT_FILES)[number::count]
        self._on_error = validated_on_error(on_error)
        self._readers = _Readers()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> "LatentIterator":
        return LatentIterator(self._samples, self._on_error)

    def __getitem__(self, number: int) -> LoadedSample:
        count = len(self._samples)
        if not -count <= index(number) < count:
            raise IndexError(f"sample {number} of {count}, counted from 0")
        return load_sample(self._readers.reader(), self._samples[number])


class LatentIterator(Iterator[LoadedSample]):
    """An iterator over samples. After an error `next` continues with the following sample.

    Arguments:
        samples: the samples to load.
        on_error: "raise" or "skip", as for `LatentDataset`.
    """

    def __init__(self, samples: Sequence[Sample], on_error: OnError) -> None:
        self._remaining, self._on_error = iter(samples), on_error
        self._reader = SampleReader()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LoadedSample:
        for sample in self._remaining:
            try:
                return load_sample(self._reader, sample)
            except DeviceError:  # every sample would fail
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
    """A reader for each thread of each process, because an open file has only one position."""

    def __init__(self) -> None:
        self._local = threading.local()

    def reader(self) -> SampleReader:
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process, self._local.reader = os.getpid(), SampleReader()
        reader: SampleReader = self._local.reader
        return reader

    def __reduce__(self) -> tuple[Any, ...]:
        return _Readers, ()


def validated_on_error(on_error: OnError) -> OnError:
    if on_error not in {"raise", "skip"}:
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    return on_error


def load_sample(reader: SampleReader, sample: Sample) -> LoadedSample:
    """Return the key, the latents and the fields of a sample; an error gets a note of its key and its file."""
    try:
        data, extras = reader.read(sample)
        return sample.key, parse_latents(data), extras.fields()
    except Exception as error:
        error.add_note(f"sample {sample.key!r} of {sample.source}")
        raise


def parse_latents(data: bytes) -> F32Array:
    """Return the latents in an `.sdt` or `.npy` file, float32 (C, h, w)."""
    if data.startswith(NPY):
        return read_latents(io.BytesIO(data)).astype(np.float32)
    return api.decode_latents(data)
