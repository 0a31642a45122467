"""Shards on a cluster, by Ray Data: the only import of `ray`."""

import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.work import Record, do
from sdtrt.errors import DeviceError
from sdtrt.process.install import install_command


def each(task: Task, shards: Sequence[Shard], workers: int, address: str, gpus: float = 0) -> Iterator[Record]:
    """Yield the records of shards, as they are done, by at most `workers` actors, each with a codec of its own.

    How far actors are within shards does not reach this process. `address` is that of a cluster, or "auto": the one at
    hand, or else one of this machine alone. An actor has a core, and `gpus` GPUs. Raises `DeviceError` without Ray,
    `ConnectionError` if there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise DeviceError(f"Ray is missing ({error}); install it with: {install_command('ray')}") from error
    address_or_none = None if address == "auto" else address
    ray.init(address_or_none, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"shard": pickle.dumps(shard)} for shard in shards]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Worker,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in done.iter_rows():
        yield json.loads(row["record"])


class Worker:
    """An actor."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return {"record": json.dumps(do(self._task, pickle.loads(row["shard"])), allow_nan=False)}
