"""`Latents` for a `torch.utils.data.DataLoader`. Nobody imports it but who asks for it: it needs torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from sdtrt.dataset.latents import LATENTS, LatentsIterator, OnError, checked_on_error
from sdtrt.dataset.sources import samples_of
from sdtrt.engine.format.arguments import checked_integer, checked_truth

MAX_EPOCH = (1 << 63) - 1


class LatentsDataset(IterableDataset):  # type: ignore[misc]  # of a library that need not be there
    """The latents of a dataset, as `Latents` gives them.

    Ranks share the samples, and the workers of each rank share those of the rank: each sample is given once.
    """

    def __init__(
        self,
        source: str,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        """Open a dataset.

        Arguments:
            source: as `Latents` takes it.
            rank: the number of this process, from 0 (default: of `torch.distributed` where it is initialised, else 0).
            world_size: how many processes there are (default: of `torch.distributed` where it is initialised, else 1).
            shuffle: give the samples in another order in each epoch that `set_epoch` names (default False).
            seed: of the order, at least 0, the same for all ranks (default 0).
            on_error: "raise" (default) or "skip", as `Latents` takes it.

        Raises `ValueError` if the dataset has no samples, or an argument is out of range.
        """
        initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
        if rank is None:
            rank = torch.distributed.get_rank() if initialised else 0
        if world_size is None:
            world_size = torch.distributed.get_world_size() if initialised else 1
        self._world_size = checked_integer("world_size", world_size, 1)
        self._rank = checked_integer("rank", rank, 0)
        if self._rank >= self._world_size:
            raise ValueError(f"rank {rank} of world_size {world_size}, expected 0 to world_size - 1")
        self._shuffle, self._seed = checked_truth("shuffle", shuffle), checked_integer("seed", seed, 0)
        self._on_error = checked_on_error(on_error)
        self._samples = samples_of(str(source), LATENTS)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # so that workers that persist see it change

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, at least 0, that the order of the samples depends on; all ranks need the same."""
        self._epoch.fill_(checked_integer("epoch", epoch, 0, MAX_EPOCH))

    def __len__(self) -> int:
        """Return how many samples this rank has."""
        return len(range(self._rank, len(self._samples), self._world_size))

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(len(self._samples))
        if self._shuffle:
            order = np.random.default_rng([self._seed, int(self._epoch)]).permutation(order)
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        own = order[self._rank :: self._world_size][number::count]
        return LatentsIterator([self._samples[at] for at in own], self._on_error)
