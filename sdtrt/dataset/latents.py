"""A loader of latents, for training."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sdtrt import api
from sdtrt.dataset.reading import Fields, Reader
from sdtrt.dataset.sources import Sample, Wanted, samples_of
from sdtrt.latents.files import read_latents
from sdtrt.latents.npy import NPY

LATENTS = Wanted(frozenset({"sdt", "npy"}), ("sdt", "npy"))


class Latents:
    """The latents of a dataset, of `.sdt` files or of what `sdtrt dataset latents` made of them.

    Iterating gives (key, latents, fields): float32 (C, h, w) at unit scale, and what the dataset says beside them, such
    as a caption under `txt`. `part` is (number, count): every count-th sample alone, for one of several loaders.
    """

    def __init__(self, source: str, *, part: tuple[int, int] = (0, 1)) -> None:
        """Open a dataset; `ValueError` if it has no samples."""
        number, count = part
        if not 0 <= number < count:
            raise ValueError(f"part {number} of {count}")
        self._samples: list[Sample] = samples_of(str(source), LATENTS)[number::count]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32], Fields]]:
        with Reader() as reader:
            for sample in self._samples:
                data, fields = reader.read(sample)
                yield sample.key, latents_of(data), fields


def latents_of(data: bytes) -> NDArray[np.float32]:
    """Return the latents in an `.sdt` or `.npy` file, float32 (C, h, w)."""
    if data.startswith(NPY):
        return read_latents(io.BytesIO(data)).astype(np.float32)
    return api.decode_latents(data)
