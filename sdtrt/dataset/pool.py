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

from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.work import Record, do
from sdtrt.process.signals import blocked
from sdtrt.process.threads import limit_blas_to_one_thread

AHEAD = 2  # shards that are handed over for each worker
POLL = 1.0  # seconds between looks at how far workers are
DEATHS = 3  # of workers that had a shard, after which it is given up


_counts: "list[Array[c_longlong]]" = []  # in a worker: the one of its parent


def each(task: Task, shards: Sequence[Shard], workers: int) -> Iterator[Record | int]:
    """Yield the records of shards, as they are done; in between how many samples are done of unfinished shards.

    If a worker dies, all are started anew; a shard that was in the hands of those that died too often is given up, with
    an error in its record, until the next run.
    """
    left, deaths = list(shards), Counter[str]()
    workers = min(workers, len(left))
    while left:
        begun: list[Shard] = []
        try:
            for shard, outcome in _each(task, left[:], workers, begun):
                if shard:
                    left.remove(shard)
                yield outcome
        except BrokenProcessPool:
            suspects = [shard for shard in begun if shard in left][:workers]
            deaths.update(shard.name for shard in suspects)
            # Alone, so that it is known which of them it is, and after all others.
            left = [shard for shard in left if shard not in suspects] + suspects
            workers = workers if len(suspects) < len(left) else 1
            for shard in [shard for shard in suspects if deaths[shard.name] == DEATHS]:
                left.remove(shard)
                yield given_up(shard)


def given_up(shard: Shard) -> Record:
    error = f"workers died of it {DEATHS} times: too little memory, perhaps"
    source = f"{shard.samples[0].source} and {len(shard.samples) - 1} more"
    errors = [{"key": shard.name, "source": source, "error": error, "again": True}]
    return {"shard": shard.name, "fingerprint": "", "keys": [], "files": [], "errors": errors, "sums": {}}


def _each(
    task: Task, shards: list[Shard], workers: int, begun: list[Shard]
) -> Iterator[tuple[Shard, Record] | tuple[None, int]]:
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of networks
    counts = context.RawArray("q", len(shards))  # samples that are done, written by one worker for each shard
    waiting, others = iter(enumerate(shards)), set(multiprocessing.active_children())
    if os.name == "posix":
        with blocked():  # this process removes semaphores at a signal, and needs the tracker for that
            resource_tracker.ensure_running()  # its start would end the block on interrupts that workers inherit
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(counts,)) as pool:
        futures: dict[Future[Record], int] = {}
        try:
            while True:
                while len(futures) < AHEAD * workers and (pair := next(waiting, None)):
                    begun.append(pair[1])
                    with blocked("SIGINT"):  # the first call starts the workers
                        futures[pool.submit(_work, task, pair[1], pair[0])] = pair[0]
                if not futures:
                    return
                for future in wait(futures, POLL, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield shards[futures.pop(future)], record
                yield None, sum(counts[index] for index in futures.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:  # a shard in work may take minutes
                process.terminate()
            raise


def _work(task: Task, shard: Shard, index: int) -> Record:
    """Do a shard, and keep count of its samples."""
    return do(task, shard, partial(_counts[0].__setitem__, index))


def _begin(counts: "Array[c_longlong]") -> None:
    """Prepare a worker, which ends with its parent, however that ends."""
    _counts[:] = [counts]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    limit_blas_to_one_thread()  # there is a worker for each core
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
