"""Shards on all cores of this machine, by processes of the standard library."""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import Array, c_longlong
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for

from sdtrt.dataset.shard_worker import Record, process_shard
from sdtrt.dataset.shards import Shard, Task
from sdtrt.process.signals import blocked
from sdtrt.process.threads import limit_blas_to_one_thread

QUEUED_PER_WORKER = 2  # shards that are submitted at the same time for each worker
POLL_SECONDS = 1.0  # between two readings of the workers' sample counts
MAX_WORKER_DEATHS = 3  # after so many deaths of its workers a shard is given up


_sample_counts: "list[Array[c_longlong]]" = []  # in a worker: the array of the parent process


def run_shards(task: Task, shards: Sequence[Shard], workers: int) -> Iterator[Record | int]:
    """Process shards in worker processes, and yield their records as they finish.

    Between records, ints are yielded: the number of finished samples in unfinished shards. If a worker dies, all
    workers are restarted. A shard whose workers died `MAX_WORKER_DEATHS` times gets a record with an error, and the
    next run tries it again.

    Arguments:
        task: the task.
        shards: the shards to process.
        workers: the largest number of processes, at least 1.
    """
    remaining, deaths = list(shards), Counter[str]()
    workers = min(workers, len(remaining))
    while remaining:
        submitted: list[Shard] = []
        try:
            for shard, outcome in _run_pool(task, remaining[:], workers, submitted):
                if shard:
                    remaining.remove(shard)
                yield outcome
        except BrokenProcessPool:
            suspects = [shard for shard in submitted if shard in remaining][:workers]
            deaths.update(shard.name for shard in suspects)
            # The suspects run last and one at a time, which shows the shard that kills its worker.
            remaining = [shard for shard in remaining if shard not in suspects] + suspects
            workers = workers if len(suspects) < len(remaining) else 1
            for shard in [shard for shard in suspects if deaths[shard.name] == MAX_WORKER_DEATHS]:
                remaining.remove(shard)
                yield failed_record(shard)


def failed_record(shard: Shard) -> Record:
    """Return the record of a shard that is given up."""
    error = f"its workers died {MAX_WORKER_DEATHS} times, perhaps for lack of memory"
    source = f"{shard.samples[0].source} and {len(shard.samples) - 1} more"
    errors = [{"key": shard.name, "source": source, "error": error, "again": True}]
    return {"shard": shard.name, "fingerprint": "", "keys": [], "files": [], "errors": errors, "sums": {}}


def _run_pool(
    task: Task, shards: list[Shard], workers: int, submitted: list[Shard]
) -> Iterator[tuple[Shard, Record] | tuple[None, int]]:
    """Run shards in one pool; yield (shard, record), or (None, number of finished samples in unfinished shards)."""
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of networks
    counts = context.RawArray("q", len(shards))  # finished samples; only the worker of a shard writes its count
    waiting, other_children = iter(enumerate(shards)), set(multiprocessing.active_children())
    if os.name == "posix":
        with blocked():  # this process removes semaphores at a signal, which needs the tracker
            # Started later, the tracker would unblock SIGINT, and the workers would inherit that.
            resource_tracker.ensure_running()
    with ProcessPoolExecutor(workers, context, initializer=_init_worker, initargs=(counts,)) as pool:
        futures: dict[Future[Record], int] = {}
        try:
            while True:
                while len(futures) < QUEUED_PER_WORKER * workers and (pair := next(waiting, None)):
                    submitted.append(pair[1])
                    with blocked("SIGINT"):  # the first call starts the workers
                        futures[pool.submit(_process_and_count, task, pair[1], pair[0])] = pair[0]
                if not futures:
                    return
                for future in wait(futures, POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield shards[futures.pop(future)], record
                yield None, sum(counts[index] for index in futures.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - other_children:  # a shard may take minutes
                process.terminate()
            raise


def _process_and_count(task: Task, shard: Shard, index: int) -> Record:
    """Process a shard, and write the number of its finished samples to the shared array."""
    return process_shard(task, shard, partial(_sample_counts[0].__setitem__, index))


def _init_worker(counts: "Array[c_longlong]") -> None:
    """Prepare a worker. It exits when its parent ends, for whatever reason."""
    _sample_counts[:] = [counts]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    limit_blas_to_one_thread()  # there is one worker for each core
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
