"""`Latents` for a `torch.utils.data.DataLoader`. Nobody imports it but who asks for it: it needs torch."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from sdtrt.dataset.latents import Latents


class LatentsDataset(IterableDataset):  # type: ignore[misc]  # of a library that need not be there
    """The latents of a dataset, as `Latents` gives them; each worker of a loader reads its part."""

    def __init__(self, source: str) -> None:
        self._source = source

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        return iter(Latents(self._source, part=(worker.id, worker.num_workers) if worker else (0, 1)))
