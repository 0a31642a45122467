"""Shards on all cores of this machine, by processes of the standard library."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for

from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.work import Record, do, problem
from sdtrt.engine.coding.threads import products_by_one_thread
from sdtrt.errors import PictureWarning
from sdtrt.process.signals import interrupts_blocked

AHEAD = 2  # shards that are handed over for each worker
DEATHS = 3  # of workers that had a shard, after which it is given up


def each(task: Task, shards: Sequence[Shard], workers: int) -> Iterator[Record]:
    """Yield the records of shards, as they are done.

    If a worker dies, all are started anew; a shard that was in the hands of those that died too often is given up, with
    an error in its record, until the next run.
    """
    left, deaths = list(shards), Counter[str]()
    while left:
        begun: list[Shard] = []
        try:
            for shard, record in _each(task, left[:], workers, begun):
                left.remove(shard)
                yield record
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
    error = problem(shard.name, f"workers died of it {DEATHS} times: too little memory, perhaps", again=True)
    return {"shard": shard.name, "fingerprint": "", "keys": [], "files": [], "errors": [error], "sums": {}}


def _each(task: Task, shards: list[Shard], workers: int, begun: list[Shard]) -> Iterator[tuple[Shard, Record]]:
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of networks
    waiting, others = iter(shards), set(multiprocessing.active_children())
    if os.name == "posix":
        resource_tracker.ensure_running()  # its start would end the block on interrupts that workers inherit
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        futures: dict[Future[Record], Shard] = {}
        try:
            while True:
                while len(futures) < AHEAD * workers and (shard := next(waiting, None)):
                    begun.append(shard)
                    with interrupts_blocked():  # the first call starts the workers
                        futures[pool.submit(do, task, shard)] = shard
                if not futures:
                    return
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield futures.pop(future), record
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:  # a shard in work may take minutes
                process.terminate()
            raise


def _begin() -> None:
    """Prepare a worker, which ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    warnings.simplefilter("ignore", PictureWarning)
    products_by_one_thread()  # there is a worker for each core
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
