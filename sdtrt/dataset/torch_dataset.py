"""`LatentDataset` for a `torch.utils.data.DataLoader`. It needs torch, so no other module imports this one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from sdtrt.dataset.latent_dataset import LATENT_FILES, LatentIterator, OnError, validated_on_error
from sdtrt.dataset.sources import list_samples
from sdtrt.engine.format.arguments import checked_integer, checked_truth

MAX_EPOCH = (1 << 63) - 1


class LatentTorchDataset(IterableDataset):  # type: ignore[misc]  # torch may be absent
    """The latents of a dataset, with the same samples as `LatentDataset`.

    Ranks share the samples, and the workers of a rank share its part. Each sample is loaded exactly once.
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
            source: str, a folder, a list of paths, tars or Parquet files, as for `LatentDataset`.
            rank: int from 0 to `world_size` - 1, this process (default: by `torch.distributed` if it is initialised,
                else 0).
            world_size: int, the number of processes, at least 1 (default: by `torch.distributed` if it is initialised,
                else 1).
            shuffle: bool, whether each epoch has another order of samples, see `set_epoch` (default False).
            seed: int, the seed of the order, at least 0. All ranks need the same seed (default 0).
            on_error: "raise" (default) or "skip", as for `LatentDataset`.

        Raises:
            ValueError: the dataset has no samples, or an argument is out of range.
            TypeError: an argument has the wrong type.
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
        self._on_error = validated_on_error(on_error)
        self._samples = list_samples(str(source), LATENT_FILES)
        # In shared memory, so that persistent workers see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which together with the seed gives the order of the samples.

        Arguments:
            epoch: int, at least 0. All ranks need the same epoch.

        Raises:
            ValueError: the epoch is out of range.
            TypeError: the epoch is not an integer.
        """
        self._epoch.fill_(checked_integer("epoch", epoch, 0, MAX_EPOCH))

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return len(range(self._rank, len(self._samples), self._world_size))

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(len(self._samples))
        if self._shuffle:
            order = np.random.default_rng([self._seed, int(self._epoch)]).permutation(order)
        worker = get_worker_info()
        worker_index, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        indices = order[self._rank :: self._world_size][worker_index::num_workers]
        return LatentIterator([self._samples[index] for index in indices], self._on_error)
