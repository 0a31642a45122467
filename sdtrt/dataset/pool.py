"""Shards on all cores of this machine, by processes of the standard library."""

import multiprocessing
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.work import Record, do
from sdtrt.errors import PictureWarning

AHEAD = 2  # shards that are handed over for each worker
RESTARTS = 3  # in a row, without a shard being done


def each(task: Task, shards: Sequence[Shard], workers: int) -> Iterator[Record]:
    """Yield the records of shards, as they are done.

    If a worker dies, all are started anew for what was not done; `RuntimeError` if that keeps happening.
    """
    left, restarts = list(shards), 0
    while left:
        try:
            for shard, record in _each(task, left[:], workers):
                left.remove(shard)
                restarts = 0
                yield record
        except BrokenProcessPool as error:
            restarts += 1
            if restarts > RESTARTS:
                raise RuntimeError("workers keep dying: too little memory, perhaps; try fewer (--workers)") from error


def _each(task: Task, shards: list[Shard], workers: int) -> Iterator[tuple[Shard, Record]]:
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of networks
    waiting = iter(shards)
    with ProcessPoolExecutor(workers, context, initializer=_quiet) as pool:
        futures: dict[Future[Record], Shard] = {}
        try:
            while True:
                while len(futures) < AHEAD * workers and (shard := next(waiting, None)):
                    futures[pool.submit(do, task, shard)] = shard
                if not futures:
                    return
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    yield futures.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    warnings.simplefilter("ignore", PictureWarning)
