"""Shards on a cluster, by Ray Data. No other module imports `ray`."""

import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from sdtrt.dataset.shard_worker import Record, process_shard
from sdtrt.dataset.shards import Shard, Task
from sdtrt.errors import DeviceError
from sdtrt.process.install import install_command


def run_shards(task: Task, shards: Sequence[Shard], workers: int, address: str, gpus: float = 0) -> Iterator[Record]:
    """Process shards on a Ray cluster, and yield their records as they finish.

    This process learns of finished shards only, not of samples within them.

    Arguments:
        task: the task.
        shards: the shards to process.
        workers: the largest number of actors, at least 1. Each has one core and a codec of its own.
        address: the address of a cluster. "auto" connects to a running cluster, or starts one on this machine.
        gpus: GPUs of each actor (default 0).

    Raises:
        DeviceError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
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
    records = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardActor,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in records.iter_rows():
        yield json.loads(row["record"])


class ShardActor:
    """A Ray actor that processes the shards of a task."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return {"record": json.dumps(process_shard(self._task, pickle.loads(row["shard"])), allow_nan=False)}
